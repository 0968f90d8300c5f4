"""Profiles: how much time is spent on making a vault small."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """Efforts of the encoders. What was stored under one profile is read under all."""

    name: str
    #: libjxl effort of lossless images.
    image_effort: int
    #: Zstandard level of header blocks and values.
    zstd_level: int
    #: Whether compressed frames are recoded: smaller, and stored once whatever the syntax.
    recodes: bool = True
    #: Frames of fewer bytes are encoded as bytes. Beginning an image takes libjxl half a
    #: millisecond: at effort 1, that is most of it for a small one, and Zstandard does as well.
    least_image_bytes: int = 64


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("fast", image_effort=1, zstd_level=3, recodes=False, least_image_bytes=32 << 10),
        Profile("balanced", image_effort=2, zstd_level=6),
        Profile("small", image_effort=3, zstd_level=12),
        Profile("archive", image_effort=5, zstd_level=19),
    )
}
DEFAULT_PROFILE = PROFILES["balanced"]
