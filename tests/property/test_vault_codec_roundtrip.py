"""Whatever is encoded comes back; whatever is damaged is damage or has the right length."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.codec import decode, encode_bytes, encode_jpeg, encode_samples
from dcmvault.vault.profile import PROFILES

PROFILE = st.sampled_from([PROFILES["fast"], PROFILES["balanced"], PROFILES["small"]])
CONTENT = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda piece, count: piece * count, st.binary(min_size=1, max_size=40), st.integers(0, 200)
    ),
)


@st.composite
def frames(draw: st.DrawFn) -> tuple[bytes, dict[str, int]]:
    """Samples of all kinds: flat, smooth, noisy, of few bits, around zero, with outliers."""
    columns, rows = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    samples, width = draw(st.sampled_from([1, 1, 3, 2, 4])), draw(st.sampled_from([1, 2, 2, 4, 8]))
    count = columns * rows * samples
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    bits = draw(st.integers(0, 8 * min(width, 4)))
    start = draw(st.integers(-(1 << 17), 1 << 17))
    values = random.integers(0, 1 << bits, count) + start
    if draw(st.booleans()):
        values = np.sort(values)
    if draw(st.booleans()):
        values[random.integers(0, count)] = draw(st.integers(-(1 << 31), 1 << 31))
    content = values.astype(f"<i{width}").tobytes()
    shape = {"columns": columns, "rows": rows, "samples": samples, "sample_bytes": width}
    if draw(st.integers(0, 9)) == 0:
        content = content[:-1]
    return content, shape


@settings(max_examples=250, deadline=None)
@given(frames(), st.booleans(), st.booleans(), PROFILE)
def test_samples_come_back(frame, signed, planar, profile) -> None:  # type: ignore[no-untyped-def]
    content, shape = frame
    encoding = encode_samples(content, signed=signed, planar=planar, profile=profile, **shape)
    assert len(encoding) <= len(content) + 1
    assert decode(encoding, len(content)) == content


@settings(max_examples=200, deadline=None)
@given(CONTENT, st.integers(0, 300), PROFILE)
def test_bytes_come_back(content, width, profile) -> None:  # type: ignore[no-untyped-def]
    for encoding in (
        encode_bytes(memoryview(content), profile, width=width),
        encode_jpeg(content, profile),
    ):
        assert len(encoding) <= len(content) + 1
        assert decode(memoryview(encoding), len(content)) == content


@settings(max_examples=200, deadline=None)
@given(frames(), st.floats(0, 1, exclude_max=True), st.integers(0, 255), st.booleans())
def test_damage_is_found_or_harmless(frame, where, byte, cut) -> None:  # type: ignore[no-untyped-def]
    content, shape = frame
    encoding = bytearray(
        encode_samples(content, signed=True, planar=False, profile=PROFILES["fast"], **shape)
    )
    at = int(where * len(encoding))
    if cut:
        del encoding[at:]
    else:
        encoding[at] = byte
    try:
        back = decode(bytes(encoding), len(content))
    except VaultDamagedError:
        return
    assert len(back) == len(content)
