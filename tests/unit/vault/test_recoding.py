"""Compressed frames taken apart and made again; what must not be taken apart is not."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
import pydicom.data
import pytest
from pydicom.encaps import generate_frames
from pydicom.uid import UID
from tests.unit.vault.compressed_frames import (
    ALL_CATEGORIES,
    JLS,
    JLS_NEAR,
    LJPEG,
    LJPEG_SV1,
    LONG_CODES,
    RLE,
    attributes,
    jls_stream,
    ljpeg_stream,
    picture,
    recoded,
    rle_stream,
)

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.recoding import rebuild, recode
from dcmvault.vault.recoding.jpeg_markers import SOS, restart_segment, segment
from dcmvault.vault.shape import PixelAttributes, Recoded, StreamShape

TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
# --- real files -----------------------------------------------------------------------------

LOSSLESS = {JLS, LJPEG, LJPEG_SV1, RLE}
NATIVE_TWINS = {
    "MR_small_RLE.dcm": "MR_small.dcm",
    "MR_small_jpeg_ls_lossless.dcm": "MR_small.dcm",
    "rtdose_rle.dcm": "rtdose.dcm",
}


def _dataset(name: str) -> pydicom.Dataset:
    return pydicom.dcmread(TEST_FILES / name)


def _frames_of(ds: pydicom.Dataset) -> list[Recoded]:
    count = int(ds.get("NumberOfFrames", 1))
    pixels = PixelAttributes(
        ds.Columns,
        ds.Rows,
        ds.SamplesPerPixel,
        ds.BitsAllocated,
        ds.BitsStored,
        ds.PixelRepresentation,
        ds.get("PlanarConfiguration", 0),
        count,
    )
    syntax = str(ds.file_meta.TransferSyntaxUID)
    frames = generate_frames(ds.PixelData, number_of_frames=count)
    return [recoded(frame, syntax, pixels) for frame in frames]


@pytest.mark.parametrize("name", NATIVE_TWINS)
def test_frames_of_real_files_hold_the_samples_of_their_native_twins(name: str) -> None:
    frames = _frames_of(_dataset(name))
    native = _dataset(NATIVE_TWINS[name]).PixelData
    joined = b"".join(frame.samples for frame in frames)
    assert joined == native[: len(joined)]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_all_lossless_frames_of_real_files_are_recoded() -> None:
    seen = set()
    for path in sorted(TEST_FILES.glob("*.dcm")):
        try:
            ds = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            continue
        syntax = ds.file_meta.get("TransferSyntaxUID", "")
        if syntax in LOSSLESS and "PixelData" in ds:
            samples = b"".join(frame.samples for frame in _frames_of(ds))
            if syntax != LJPEG_SV1:  # pydicom has no decoder for it here
                assert samples == ds.pixel_array.tobytes(), path.name
            seen.add(str(syntax))
    assert seen == {JLS, LJPEG_SV1, RLE}


@pytest.mark.parametrize("name", ["JPEGLSNearLossless_08.dcm", "SC_rgb_jls_lossy_line.dcm"])
def test_near_lossless_streams_are_kept(name: str) -> None:
    ds = _dataset(name)
    stream = next(generate_frames(ds.PixelData, number_of_frames=1))
    pixels = attributes((ds.Rows, ds.Columns, ds.SamplesPerPixel), ds.BitsAllocated)
    assert recode(stream, JLS_NEAR, pixels) is None


# --- JPEG-LS --------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", range(2, 17))
def test_jpeg_ls_of_any_precision(precision: int) -> None:
    words = picture(31, 29, 1, precision)
    found = recoded(jls_stream(words, precision), JLS, attributes(words.shape, 16))
    assert (found.kind, found.tail) == ("jls", b"\xff\xd9")
    assert found.shape == StreamShape(29, 31, 1, 2, precision)
    assert found.samples == words.tobytes()


@pytest.mark.parametrize("precision", [8, 12])
@pytest.mark.parametrize("mode", [0, 1, 2])
def test_jpeg_ls_in_colour_in_each_interleave_mode(mode: int, precision: int) -> None:
    words = picture(17, 23, 3, precision)
    allocated = 8 if precision == 8 else 16
    stream = jls_stream(words, precision, mode)
    found = recoded(stream, JLS, attributes(words.shape, allocated))
    assert found.samples == words.astype(f"<u{allocated // 8}").tobytes()
    assert found.head.count(bytes((0xFF, SOS))) == (3 if mode == 0 else 1)


@pytest.mark.parametrize("kind", ["jls", "ljpeg"])
def test_signed_samples_are_extended_to_the_allocated_bits(kind: str) -> None:
    words = picture(20, 20, 1, 12)
    stream = jls_stream(words, 12) if kind == "jls" else ljpeg_stream(words, 12)
    syntax = JLS if kind == "jls" else LJPEG
    found = recoded(stream, syntax, attributes(words.shape, 16, stored=12, signed=1))
    native = ((words.astype(np.int32) ^ 0x800) - 0x800).astype("<i2")
    assert native.min() < 0
    assert found.samples == native.tobytes()


def test_lossless_streams_under_the_near_lossless_syntax_are_recoded() -> None:
    words = picture(20, 20, 1, 8)
    recoded(jls_stream(words, 8), JLS_NEAR, attributes(words.shape, 8))


def test_what_stands_around_a_scan_does_not_matter() -> None:
    words = picture(20, 20, 1, 8)
    spiff = bytes(imagecodecs.jpegls_encode(words[:, :, 0].astype(np.uint8)))
    assert spiff[6:11] == b"SPIFF"
    plain = jls_stream(words, 8)
    commented = plain[:2] + segment(0xFE, b"made by somebody") + plain[2:]
    filled = plain[:-2] + b"\xff\xff\xd9"
    zero_before_eoi = plain[:-2] + b"\x00\xff\xd9"
    padded = plain + b"\x00"
    default_presets = plain[:2] + segment(0xF8, struct.pack(">B5H", 1, 0, 3, 7, 0, 64)) + plain[2:]
    for stream in (spiff, plain, commented, filled, zero_before_eoi, padded, default_presets):
        found = recoded(stream, JLS, attributes(words.shape, 8))
        assert found.samples == words.astype(np.uint8).tobytes()


def test_jpeg_ls_with_parameters_of_its_own_is_kept() -> None:
    words = picture(20, 20, 1, 8)
    plain = jls_stream(words, 8)
    pixels = attributes(words.shape, 8)
    scan_header = plain.index(bytes((0xFF, SOS)))
    for odd in (
        plain[:2] + segment(0xF8, struct.pack(">B5H", 1, 255, 4, 7, 21, 64)) + plain[2:],
        plain[:2] + segment(0xF8, struct.pack(">B5H", 1, 255, 3, 7, 21, 31)) + plain[2:],
        plain[:2] + segment(0xF8, b"\x02\x01\x01" + bytes(range(256))) + plain[2:],
        plain[:2] + restart_segment(20) + plain[2:],
        plain[: scan_header + 6] + b"\x01" + plain[scan_header + 7 :],  # a mapping table
        plain[: scan_header + 7] + b"\x01" + plain[scan_header + 8 :],  # NEAR = 1
    ):
        assert recode(odd, JLS, pixels) is None


# --- JPEG lossless --------------------------------------------------------------------------


def check_decoded(stream: bytes, words: npt.NDArray[np.uint16]) -> None:
    """Two decoders that know nothing of our encoder agree with it."""
    count = words.shape[2]
    colours = "RGB" if count == 3 else "GRAYSCALE"
    decoded = imagecodecs.jpeg8_decode(stream, colorspace=colours, outcolorspace=colours)
    assert np.array_equal(decoded.reshape(words.shape), words)


@pytest.mark.parametrize("precision", [2, 7, 8, 10, 12, 15, 16])
@pytest.mark.parametrize("predictor", range(1, 8))
def test_jpeg_lossless_with_each_predictor(predictor: int, precision: int) -> None:
    words = picture(19, 21, 1, precision)
    stream = ljpeg_stream(words, precision, predictor=predictor)
    check_decoded(stream, words)
    found = recoded(stream, LJPEG, attributes(words.shape, 16))
    assert found.kind == "ljpeg"
    assert found.samples == words.tobytes()


def test_a_second_decoder_agrees() -> None:
    words = picture(40, 40, 1, 16)
    stream = ljpeg_stream(words, 16, predictor=1)
    assert np.array_equal(imagecodecs.jpegsof3_decode(stream), words[:, :, 0])


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("restart_rows", [0, 1, 3])
@pytest.mark.parametrize("tables", [(ALL_CATEGORIES,), (LONG_CODES, ALL_CATEGORIES, LONG_CODES)])
def test_jpeg_lossless_in_colour(
    tables: tuple[bytes, ...], restart_rows: int, separate: bool
) -> None:
    words = picture(13, 18, 3, 8)
    stream = ljpeg_stream(
        words, 8, predictor=4, tables=tables, restart_rows=restart_rows, separate=separate
    )
    if not separate:
        check_decoded(stream, words)
    found = recoded(stream, LJPEG, attributes(words.shape, 8))
    assert found.samples == words.astype(np.uint8).tobytes()


@pytest.mark.parametrize("restart_rows", [1, 2, 5])
def test_restart_intervals_begin_prediction_anew(restart_rows: int) -> None:
    words = picture(29, 11, 1, 12)
    stream = ljpeg_stream(words, 12, predictor=7, restart_rows=restart_rows)
    check_decoded(stream, words)
    assert recoded(stream, LJPEG, attributes(words.shape, 16)).samples == words.tobytes()


def test_a_point_transform() -> None:
    words = picture(16, 16, 1, 12) & np.uint16(0xFF8)
    stream = ljpeg_stream(words, 12, predictor=6, shift=3)
    check_decoded(stream, words)
    assert recoded(stream, LJPEG, attributes(words.shape, 16)).samples == words.tobytes()


def test_differences_of_half_the_range_have_no_extra_bits() -> None:
    words = np.zeros((8, 8, 1), np.uint16)
    words[:, ::2] = 32768
    words[3] = 65535
    stream = ljpeg_stream(words, 16)
    check_decoded(stream, words)
    assert recoded(stream, LJPEG, attributes(words.shape, 16)).samples == words.tobytes()


def test_a_frame_of_several_bands_is_one_scan() -> None:
    words = np.random.default_rng(5).integers(0, 4096, (700, 800, 1)).astype(np.uint16)
    for predictor in (1, 6):
        stream = ljpeg_stream(words, 12, predictor=predictor)
        check_decoded(stream, words)
        assert recoded(stream, LJPEG, attributes(words.shape, 16)).samples == words.tobytes()


def test_a_table_without_the_category_cannot_make_the_stream() -> None:
    only_zero = bytes([1] + [0] * 15) + b"\x00"
    with pytest.raises(VaultDamagedError):
        ljpeg_stream(picture(8, 8, 1, 12), 12, tables=(only_zero,))


# --- RLE ------------------------------------------------------------------------------------


def test_rle_of_pydicom() -> None:
    samples = picture(30, 33, 1, 16).tobytes()
    ds = pydicom.Dataset()
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.BitsAllocated = 30, 33, 1, 16
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.NumberOfFrames = 1
    ds.compress(
        UID(RLE), np.frombuffer(samples, "<u2").reshape(30, 33), generate_instance_uid=False
    )
    (stream,) = generate_frames(ds.PixelData, number_of_frames=1)
    assert recoded(stream, RLE, attributes((30, 33, 1), 16)).samples == samples


def test_rle_as_no_encoder_should_write_it() -> None:
    high = b"\x80\xfd\x07\x80\x03abcd"  # no-ops, a run of four, four literals
    low = b"\x00a\x00b\xff\x05" + b"\x01cd\xff\x09" + b"padding"  # runs of two, bytes behind
    stream = rle_stream([high, low], [1, 0])
    found = recoded(stream, RLE, attributes((2, 4, 1), 16))
    assert found.samples == bytes(
        byte for pair in zip(b"ab\5\5cd\x09\x09", b"\7\7\7\7abcd", strict=True) for byte in pair
    )
    assert found.tail == b""


@pytest.mark.parametrize(
    "stream",
    [
        rle_stream([b"\xfd\x07", b"\xfd\x07"]),  # two segments for one byte
        rle_stream([b"\xfe\x07"]),  # three of four samples
        rle_stream([b"\xfc\x07"]),  # five of four samples
        rle_stream([b"\x03abc"]),  # cut within literals
        rle_stream([b"\xfd"]),  # cut before the byte of a run
        rle_stream([b""]),
        struct.pack("<16I", 1, 65, *[0] * 14) + b"\0\xfd\x07",  # does not begin behind the header
        struct.pack("<16I", 1, 70, *[0] * 14) + b"\xfd\x07",  # begins behind the end
        struct.pack("<16I", 15, *[64] * 15),
        struct.pack("<16I", 0xFFFFFFFF, *[64] * 15),
    ],
)
def test_odd_rle_frames_are_kept(stream: bytes) -> None:
    assert recode(stream, RLE, attributes((2, 2, 1), 8)) is None


# --- golden ---------------------------------------------------------------------------------


def _made(kind: str) -> bytes:
    y, x = np.mgrid[:24, :20]
    words = ((x * 37 + y * y * 11 + (x * y) % 13) & 0xFFF).astype("<u2")
    head = {
        "jls": "ffd8 fff7000b0c0018001401011100 ffda0008010100000000",
        "ljpeg": "ffd8 ffc3000b0c0018001401011100"
        "ffc40024 00 00000000110000000000000000000000 000102030405060708090a0b0c0d0e0f10"
        "ffdd00040028 ffda0008010100060000",
    }[kind]
    shape = StreamShape(20, 24, 1, 2, 12)
    return rebuild(kind, words.tobytes(), shape, bytes.fromhex(head), b"\xff\xd9")


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("jls", "a3a593ad54f2bcebf8f7aeb70219efe405185fe27d9519aea2f33dae7ff34a77"),
        ("ljpeg", "b707b83ddf15203550e83581f40c4fb8e54ffa2d9889796b90eb45489266d5c6"),
    ],
)
def test_streams_made_today_are_made_by_every_later_version(kind: str, digest: str) -> None:
    assert hashlib.sha256(_made(kind)).hexdigest() == digest
