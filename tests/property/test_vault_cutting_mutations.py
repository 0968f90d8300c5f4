"""Damaged files are taken apart like others: nothing is refused, and every byte has its place."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pydicom.data
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmvault.dicom.byte_source import MemoryBytes
from dcmvault.dicom.part10 import scan
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import InstanceHeader
from dcmvault.vault.codec import decode, encode_bytes, encode_jpeg, encode_samples
from dcmvault.vault.cutting import MAX_RUN_BYTES, cut, pieces
from dcmvault.vault.profile import PROFILES
from dcmvault.vault.shape import CutFile, CutKind

TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
#: Small, and different: syntaxes, byte orders, several fragments, colour, 32 bits, deflated.
SEEDS = [
    "CT_small.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_RLE.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "rtdose_expb.dcm",
    "liver_1frame.dcm",
    "UN_sequence.dcm",
    "test-SR.dcm",
    "image_dfl.dcm",
    "JPEG2000.dcm",
]
CONTENTS = {name: (TEST_FILES / name).read_bytes() for name in SEEDS}
#: What makes lengths and tags lie.
PIECES = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.sampled_from(
        [
            b"\xff\xff\xff\xff",
            b"\xff\xff\xff\x7f",
            b"\0\0\0\0",
            b"\xfe\xff\x00\xe0",
            b"\xfe\xff\xdd\xe0",
            b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff",
            b"\x28\x00\x10\x00US\x02\x00\x01\x00",
            b"SQ",
            b"UN",
        ]
    ),
)
CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.booleans(), st.booleans(), PIECES), max_size=6
)


def changed(content: bytes, changes: list[tuple[float, bool, bool, bytes]]) -> bytes:
    data = bytearray(content)
    for where, in_head, inserts, piece in changes:
        at = int(where * min(len(data), 4000 if in_head else len(data)))
        data[at : at if inserts else at + len(piece)] = piece
    return bytes(data)


def header_of(content: bytes) -> InstanceHeader | None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            return scan(Path(file.name))
        except MalformedDicomError:
            return None


def stored_and_back(content: bytes, found: CutFile) -> bytes:
    """Put a file together from its skeleton and what its blobs decode to."""
    profile, back, at = PROFILES["fast"], bytearray(), 0
    for one in found.cuts:
        assert at <= one.start < one.end <= len(content)
        assert one.start - at <= MAX_RUN_BYTES
        back += content[at : one.start]
        for piece in pieces(one, found.pixels):
            value = content[piece.start : piece.end]
            if one.kind is CutKind.STREAM:
                encoding = encode_jpeg(value, profile)
            elif not piece.columns:
                encoding = encode_bytes(value, profile)
            else:
                encoding = encode_samples(
                    value,
                    columns=piece.columns,
                    rows=piece.rows,
                    samples=piece.samples,
                    sample_bytes=piece.sample_bytes,
                    signed=found.pixels is not None and found.pixels.pixel_representation == 1,
                    planar=piece.planar,
                    profile=profile,
                )
            back += decode(encoding, len(value))
        at = one.end
    assert len(content) - at <= MAX_RUN_BYTES
    return bytes(back + content[at:])


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(SEEDS), CHANGES, st.floats(0, 1), st.booleans())
def test_every_byte_comes_back(
    seed: str, changes: list[tuple[float, bool, bool, bytes]], kept: float, header_lies: bool
) -> None:
    content = changed(CONTENTS[seed], changes)
    if kept < 0.3:
        content = content[: int(len(content) * kept / 0.3)]
    header = header_of(CONTENTS[seed] if header_lies else content)
    assert stored_and_back(content, cut(MemoryBytes(content), header)) == content
