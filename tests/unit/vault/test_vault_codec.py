"""Encodings: every content comes back, images are smaller, lies about size cost no memory."""

from __future__ import annotations

import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pydicom.data
import pytest
import zstandard
from pydicom.encaps import generate_fragments

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.blob import MAX_CONTENT_BYTES
from dcmvault.vault.codec import decode, encode_bytes, encode_jpeg, encode_samples
from dcmvault.vault.profile import PROFILES, Profile

TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
#: The quickest effort, and small frames as images too.
FAST = replace(PROFILES["fast"], least_image_bytes=64)
RAW, ZSTD, PLANES, IMAGE, JPEG = range(5)


def ct_samples() -> bytes:
    return bytes(pydicom.dcmread(TEST_FILES / "CT_small.dcm").PixelData)


def encode_ct(content: bytes, profile: Profile = FAST, *, signed: bool = True) -> bytes:
    return encode_samples(
        content,
        columns=128,
        rows=len(content) // 256,
        samples=1,
        sample_bytes=2,
        signed=signed,
        planar=False,
        profile=profile,
    )


def jpeg_stream() -> bytes:
    dataset = pydicom.dcmread(TEST_FILES / "SC_rgb_jpeg_dcmtk.dcm")
    return list(generate_fragments(dataset.PixelData))[1]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=str)
def test_a_ct_frame_is_an_image_and_comes_back(profile: Profile) -> None:
    content = ct_samples()
    encoding = encode_ct(content, profile)
    assert encoding[0] == IMAGE
    assert len(encoding) < 0.66 * len(encode_bytes(content, profile))
    assert decode(encoding, len(content)) == content


@pytest.mark.parametrize("bits", [12, 13, 15, 16])
@pytest.mark.parametrize("profile", PROFILES.values(), ids=str)
def test_many_bits_are_an_image_too(profile: Profile, bits: int) -> None:
    """As CT is where padding lies far below air; and anybody's decoder takes what is stored."""
    rows, columns = np.mgrid[0:128, 0:128]
    content = (np.hypot(rows - 64, columns - 60) * ((1 << bits) - 1) / 100).astype("<u2").tobytes()
    encoding = encode_ct(content, profile, signed=False)
    assert encoding[0] == IMAGE
    assert decode(encoding, len(content)) == content
    assert encoding[15:17] == b"\xff\x0a"
    assert imagecodecs.jpegxl_decode(encoding[15:]).shape == (128, 128)


def test_what_the_data_set_says_of_the_sign_matters_little() -> None:
    padded = np.frombuffer(ct_samples(), "<i2").copy()
    padded[:3000] = -2000
    content = padded.tobytes()
    assert encode_ct(content, signed=False) == encode_ct(content, signed=True)


def test_the_fast_profile_takes_small_frames_as_bytes() -> None:
    content = ct_samples()
    small = content[: 32 * 256]
    assert encode_ct(content * 2, PROFILES["fast"])[0] == IMAGE
    encoding = encode_ct(small, PROFILES["fast"])
    assert encoding[0] == PLANES
    assert decode(encoding, len(small)) == small
    assert encode_ct(small, PROFILES["balanced"])[0] == IMAGE


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("sample_bytes", [1, 2])
def test_colour(sample_bytes: int, planar: bool) -> None:
    rows = np.arange(40)[:, None, None] * 3
    columns = np.arange(50)[None, :, None] * 2
    frame = (rows + columns + np.array([0, 20, 50])).astype(f"<u{sample_bytes}")
    content = (frame.transpose(2, 0, 1) if planar else frame).tobytes()
    encoding = encode_samples(
        content,
        columns=50,
        rows=40,
        samples=3,
        sample_bytes=sample_bytes,
        signed=False,
        planar=planar,
        profile=FAST,
    )
    assert encoding[0] == IMAGE
    assert decode(encoding, len(content)) == content


def test_samples_of_two_bytes_with_few_values_still_have_two_bytes() -> None:
    content = np.random.default_rng(1).integers(7, 12, 2000, np.uint16).astype("<u2").tobytes()
    encoding = encode_samples(
        content,
        columns=40,
        rows=50,
        samples=1,
        sample_bytes=2,
        signed=False,
        planar=False,
        profile=FAST,
    )
    assert encoding[0] == IMAGE
    assert decode(encoding, len(content)) == content


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        (b"", (0, 0, 1, 2)),
        (b"\x01", (1, 1, 1, 1)),
        (bytes(4000), (10, 100, 1, 4)),
        (bytes(range(256)) * 9, (48, 24, 2, 1)),
        (bytes(range(251)), (16, 16, 1, 1)),
        (bytes(100), (0, 7, 3, 2)),
        (np.arange(999, dtype="<f4").tobytes(), (999, 1, 1, 4)),
    ],
)
def test_what_is_no_image_is_bytes(content: bytes, shape: tuple[int, int, int, int]) -> None:
    columns, rows, samples, sample_bytes = shape
    encoding = encode_samples(
        content,
        columns=columns,
        rows=rows,
        samples=samples,
        sample_bytes=sample_bytes,
        signed=True,
        planar=True,
        profile=FAST,
    )
    assert encoding[0] in (RAW, ZSTD, PLANES)
    assert decode(encoding, len(content)) == content


def test_an_empty_frame_takes_a_few_bytes() -> None:
    assert len(encode_ct(bytes(1 << 18))) < 100


def test_numbers_are_smaller_plane_by_plane() -> None:
    content = np.cumsum(np.arange(5000) % 7).astype("<i4").tobytes() + b"rest"[:3]
    encoding = encode_bytes(content, FAST, width=4)
    assert encoding[:2] == bytes((PLANES, 4))
    assert len(encoding) < len(encode_bytes(content, FAST))
    assert decode(memoryview(encoding), len(content)) == content


def test_what_does_not_shrink_is_stored_as_it_is() -> None:
    content = np.random.default_rng(2).bytes(5000)
    assert encode_bytes(memoryview(content), FAST) == bytes((RAW,)) + content
    assert encode_jpeg(content, FAST) == bytes((RAW,)) + content


def test_planes_are_what_the_format_page_says() -> None:
    encoding = bytes((PLANES, 3)) + zstandard.compress(b"adbecfgh")
    assert decode(encoding, 8) == b"abcdefgh"


def test_long_distances_in_header_blocks_are_seen() -> None:
    piece = np.random.default_rng(3).bytes(5 << 20)
    assert len(encode_bytes(piece + piece[: 2 << 20], PROFILES["balanced"])) < 5.2 * (1 << 20)


def test_a_jpeg_file_comes_back_and_is_smaller() -> None:
    content = jpeg_stream()
    encoding = encode_jpeg(content, FAST)
    assert encoding[0] == JPEG
    assert len(encoding) < 0.8 * len(content)
    assert decode(encoding, len(content)) == content
    with_tail = content + b"\0"
    assert decode(encode_jpeg(with_tail, FAST), len(with_tail)) == with_tail


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "JPEGLSNearLossless_08.dcm", "JPEG-lossy.dcm"])
def test_streams_that_libjxl_cannot_reproduce_are_bytes(name: str) -> None:
    dataset = pydicom.dcmread(TEST_FILES / name)
    for content in list(generate_fragments(dataset.PixelData))[1:]:
        encoding = encode_jpeg(content, FAST)
        assert encoding[0] in (RAW, ZSTD)
        assert decode(encoding, len(content)) == content


def test_a_jpeg_file_of_too_many_pixels_is_not_tried() -> None:
    content = bytearray(jpeg_stream())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    assert encode_jpeg(bytes(content), FAST)[0] in (RAW, ZSTD)


def test_threads_share_nothing() -> None:
    content = ct_samples()
    jobs = [content[i * 256 :] for i in range(16)]
    expected = [encode_ct(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(encode_ct, jobs)) == expected
        back = list(pool.map(decode, expected, map(len, jobs)))
    assert back == jobs


def image_head(
    columns: int, rows: int, *, flags: int = 0, base: int = 0, samples: int = 1
) -> bytes:
    return struct.pack("<BBBHIIBB", IMAGE, 2, flags, base, columns, rows, samples, 0)


def bombs() -> list[tuple[str, bytes, int]]:
    zeros = zstandard.compress(bytes(60 << 20))
    unstated = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(60 << 20))
    wide = zstandard.ZstdCompressionParameters(
        compression_level=1, window_log=28, write_content_size=False
    )
    window = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    wide_window = window.compress(bytes(1000)) + window.flush()
    large = imagecodecs.jpegxl_encode(np.zeros((6000, 6000), np.uint16), effort=1, lossless=True)
    bytes_image = imagecodecs.jpegxl_encode(np.zeros((16, 32), np.uint8), effort=1, lossless=True)
    ct = encode_ct(ct_samples())
    jpeg = encode_jpeg(jpeg_stream(), FAST)
    half = len(jpeg_stream())
    return [
        ("nothing", b"", 0),
        ("unknown kind", b"\x05abc", 3),
        ("raw too long", b"\x00abcd", 3),
        ("raw too short", b"\x00ab", 3),
        ("larger than any blob", encode_bytes(b"", FAST), MAX_CONTENT_BYTES + 1),
        ("negative", encode_bytes(b"", FAST), -1),
        ("zstd bomb", b"\x01" + zeros, 1000),
        ("zstd bomb of unstated length", b"\x01" + unstated, 1000),
        ("zstd of a huge window", b"\x01" + wide_window, 999),
        ("zstd too short", b"\x01" + zstandard.compress(b"abc"), 1000),
        ("zstd with a tail", b"\x01" + zstandard.compress(b"abc") + b"x", 3),
        ("no zstd", b"\x01abcdefgh", 8),
        ("empty zstd", b"\x01", 0),
        ("planes bomb", b"\x02\x02" + zeros, 1000),
        ("planes without width", b"\x02", 0),
        ("planes of no width", b"\x02\x00" + zstandard.compress(b"abc"), 3),
        ("image without head", b"\x03\x02", 512),
        ("image larger than its head says", image_head(16, 16) + large, 512),
        ("image head larger than the content", image_head(6000, 6000) + large, 512),
        ("image of other sides", image_head(64, 4) + bytes_image, 512),
        ("image of one byte per sample", image_head(32, 16) + bytes_image, 1024),
        ("image of no rows", image_head(16, 0) + large, 0),
        ("image with unknown flags", image_head(16, 16, flags=4) + large, 512),
        ("planar image of one sample", image_head(16, 16, flags=2) + large, 512),
        ("image cut off", ct[: len(ct) // 2], len(ct_samples())),
        ("no codestream", image_head(16, 16) + b"\xff\x0aabcdef", 512),
        ("jpeg shorter", jpeg, half - 1),
        ("jpeg longer", jpeg, half + 1),
        ("jpeg cut off", jpeg[: len(jpeg) // 2], half),
        ("no jpeg", b"\x04abcdefghijklmnopqrst", 100),
        ("jpeg of nothing", jpeg, 0),
        ("image without jpeg data", b"\x04" + large, 100),
    ]


BOMBS = bombs()


@pytest.mark.parametrize(("encoding", "length"), [b[1:] for b in BOMBS], ids=[b[0] for b in BOMBS])
def test_encodings_that_lie_are_damage_and_cost_little_memory(encoding: bytes, length: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(VaultDamagedError):
            decode(encoding, length)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
