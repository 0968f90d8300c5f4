"""Transcoding without a peer: what changes, what never does, what is refused, what it costs."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from jpeg_ls.CharLS import encode_buffer
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from dcmvault.dicom import transcode as module
from dcmvault.dicom.byte_source import FileBytes
from dcmvault.dicom.contexts import plan_contexts
from dcmvault.dicom.received import part10_head
from dcmvault.dicom.reencoding import Reencoder
from dcmvault.dicom.transcode import target_for, transcoded
from dcmvault.errors import InstanceDeferredError, InstanceUnsendableError
from dcmvault.model.instance import InstanceKind
from dcmvault.testing.corpus import real_files

_RNG = np.random.default_rng(20)


def _jpeg_ls(samples: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpegls_encode(samples, out=2 * samples.nbytes + 1024))


def _made(path: Path, frames: list[bytes], syntax: str = RLELossless, **attributes: object) -> Path:
    """Write an instance of these encapsulated frames, or of native ones."""
    data_set = Dataset()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = UID(syntax)
    data_set.SOPClassUID = SecondaryCaptureImageStorage
    data_set.SOPInstanceUID = "1.2.3.4"
    data_set.PatientName = "Nobody"
    data_set.NumberOfFrames = len(frames)
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.BitsAllocated = data_set.BitsStored = 8
    data_set.PixelRepresentation = 0
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    data_set.HighBit = data_set.BitsStored - 1
    if UID(syntax).is_encapsulated:
        data_set.PixelData = encapsulate(frames)
        data_set["PixelData"].VR = "OB"
    else:
        data_set.PixelData = b"".join(frames)
        data_set["PixelData"].VR = "OW" if data_set.BitsAllocated > 8 else "OB"
    data_set.save_as(path, enforce_file_format=True)
    return path


@contextmanager
def _open(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sent(path: Path, target: str) -> Dataset:
    """Transcode and read the result back with pydicom."""
    with _open(path) as descriptor, transcoded(descriptor, target) as result:
        data = b"".join(result.chunks())
        assert len(data) == result.length
    head = part10_head(SecondaryCaptureImageStorage, "1.2.3.4", target)
    out = path.with_suffix(".sent")
    out.write_bytes(head + data)
    return pydicom.dcmread(out)


def _refusal(path: Path, target: str = ExplicitVRLittleEndian) -> str:
    with (
        _open(path) as descriptor,
        pytest.raises(InstanceUnsendableError) as caught,
        transcoded(descriptor, target),
    ):
        pytest.fail("it came out")
    return caught.value.message


def _real(name: str) -> Path:
    return next(path for path in real_files() if path.name == name)


@pytest.mark.parametrize(
    ("name", "sibling"),
    [
        ("JPEGLSNearLossless_08.dcm", ""),
        ("SC_rgb_jls_lossy_line.dcm", ""),
        ("SC_rgb_jls_lossy_sample.dcm", ""),
        ("SC_rgb_rle_32bit_2frame.dcm", "SC_rgb_32bit_2frame.dcm"),
        ("JPGLosslessP14SV1_1s_1f_8b.dcm", ""),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb.dcm"),
        ("GDCMJ2K_TextGBR.dcm", ""),
    ],
)
def test_a_lossless_way_there_and_back(name: str, sibling: str, tmp_path: Path) -> None:
    """Native as others have it; and recompressed, it decodes to the same again."""
    path = tmp_path / name
    path.write_bytes(_real(name).read_bytes())
    native = _sent(path, ExplicitVRLittleEndian)
    if sibling:
        assert native.PixelData == pydicom.dcmread(_real(sibling)).PixelData
    elif "jls" in name.lower():
        own = pydicom.dcmread(path)
        assert np.array_equal(native.pixel_array, own.pixel_array)
    for target in (JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1):
        if native.BitsAllocated > 16:
            assert "none that can be compressed" in _refusal(path, target)
            continue
        _sent(path, target)
        again = path.with_suffix(".sent").rename(tmp_path / "again.dcm")
        assert _sent(again, ExplicitVRLittleEndian).PixelData == native.PixelData


def test_high_throughput_jpeg_2000(tmp_path: Path) -> None:
    samples = _RNG.integers(-2000, 2000, (40, 33), np.int16)
    stream = bytes(imagecodecs.htj2k_encode(samples, reversible=True))
    path = _made(
        tmp_path / "a.dcm",
        [stream],
        HTJ2KLossless,
        Rows=40,
        Columns=33,
        BitsAllocated=16,
        BitsStored=16,
        PixelRepresentation=1,
    )
    assert _sent(path, ExplicitVRLittleEndian).PixelData == samples.tobytes()


def test_planar_configuration_stays_when_decompressed_and_follows_when_compressed(
    tmp_path: Path,
) -> None:
    colours = _RNG.integers(0, 9, (20, 30, 3), np.uint8)
    planes = colours.transpose(2, 0, 1).tobytes()
    path = _made(
        tmp_path / "a.dcm",
        [planes],
        ExplicitVRLittleEndian,
        Rows=20,
        Columns=30,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=1,
    )
    with _open(path) as descriptor, transcoded(descriptor, JPEGLSLossless) as result:
        assert result.changed == ("PlanarConfiguration",)
    assert np.array_equal(_sent(path, JPEGLSLossless).pixel_array, colours)
    with _open(path) as descriptor, transcoded(descriptor, RLELossless) as result:
        assert result.changed == ()
    assert np.array_equal(_sent(path, RLELossless).pixel_array, colours)
    compressed = path.with_suffix(".sent").rename(tmp_path / "rle.dcm")
    native = _sent(compressed, ImplicitVRLittleEndian)
    assert (native.PlanarConfiguration, native.PixelData) == (1, planes)


@pytest.mark.parametrize("target", [JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1, RLELossless])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("stored", [8, 10, 16])
def test_odd_frames_of_any_precision(tmp_path: Path, target: str, signed: int, stored: int) -> None:
    allocated = 8 if stored == 8 else 16
    low, high = (-(1 << stored - 1), 1 << stored - 1) if signed else (0, 1 << stored)
    kind = f"<{'i' if signed else 'u'}{allocated // 8}"
    samples = np.sort(_RNG.integers(low, high, (3, 21, 23))).astype(kind)
    path = _made(
        tmp_path / "a.dcm",
        [frame.tobytes() for frame in samples],
        ExplicitVRBigEndian if allocated == 8 else ExplicitVRLittleEndian,
        Rows=21,
        Columns=23,
        BitsAllocated=allocated,
        BitsStored=stored,
        PixelRepresentation=signed,
    )
    _sent(path, target)
    again = path.with_suffix(".sent").rename(tmp_path / "again.dcm")
    back = _sent(again, ExplicitVRLittleEndian)
    assert back.PixelData == samples.tobytes() + b"\0" * (samples.nbytes % 2)


def test_overlay_bits_are_not_lost(tmp_path: Path) -> None:
    samples = np.full((8, 8), 0x8001, np.uint16)
    path = _made(
        tmp_path / "a.dcm",
        [samples.tobytes()],
        ExplicitVRLittleEndian,
        Rows=8,
        Columns=8,
        BitsAllocated=16,
        BitsStored=12,
    )
    assert "more bits than Bits Stored" in _refusal(path, JPEGLSLossless)
    assert _sent(path, RLELossless).PixelData  # whole bytes: nothing is lost
    assert _sent(path, ImplicitVRLittleEndian).PixelData == samples.tobytes()


def test_frames_in_several_fragments(tmp_path: Path) -> None:
    frames = [_RNG.integers(0, 255, (32, 32), np.uint8) for _ in range(3)]
    streams = [_jpeg_ls(frame) for frame in frames]
    native = b"".join(frame.tobytes() for frame in frames)
    path = _made(tmp_path / "a.dcm", streams, JPEGLSLossless, Rows=32, Columns=32)
    for has_table in (True, False):
        data_set = pydicom.dcmread(path)
        data_set.PixelData = encapsulate(streams, fragments_per_frame=2, has_bot=has_table)
        data_set.save_as(tmp_path / "b.dcm")
        assert _sent(tmp_path / "b.dcm", ImplicitVRLittleEndian).PixelData == native
    for frames_said, word in ((4, "where each frame"), (2, "where each frame")):
        data_set.NumberOfFrames = frames_said
        data_set.save_as(tmp_path / "c.dcm")
        assert word in _refusal(tmp_path / "c.dcm")


@pytest.mark.parametrize("frames_said", [1, None])
@pytest.mark.parametrize("has_table", [True, False])
@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless])
def test_a_frame_that_the_data_set_does_not_count_is_not_lost(
    tmp_path: Path, frames_said: int | None, has_table: bool, syntax: str
) -> None:
    frames = [_RNG.integers(0, 255, (32, 32), np.uint8) for _ in range(2)]
    rle = struct.pack("<16I", 1, 64, *(0,) * 14) + b"\x81\x07" * 8
    streams = [_jpeg_ls(frame) for frame in frames] if syntax == JPEGLSLossless else [rle] * 2
    path = _made(tmp_path / "a.dcm", streams, syntax, Rows=32, Columns=32)
    data_set = pydicom.dcmread(path)
    data_set.PixelData = encapsulate(streams, has_bot=has_table)
    del data_set.NumberOfFrames
    if frames_said:
        data_set.NumberOfFrames = frames_said
    data_set.save_as(path)
    said = _refusal(path)
    assert "more frames than the data set says" in said or (
        syntax == RLELossless and not has_table and "cannot be decoded" in said
    )


def test_one_frame_in_several_fragments(tmp_path: Path) -> None:
    frame = _RNG.integers(0, 255, (32, 32), np.uint8)
    stream = _jpeg_ls(frame)
    path = _made(tmp_path / "a.dcm", [stream], JPEGLSLossless, Rows=32, Columns=32)
    data_set = pydicom.dcmread(path)
    data_set.PixelData = encapsulate([stream], fragments_per_frame=3)
    data_set.save_as(path)
    assert _sent(path, ImplicitVRLittleEndian).PixelData == frame.tobytes()


def test_offset_tables_of_another_length_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [_RNG.integers(0, 255, (32, 32), np.uint8) for _ in range(2)]
    streams = [_jpeg_ls(frame) for frame in frames]
    path = _made(tmp_path / "a.dcm", streams, JPEGLSLossless, Rows=32, Columns=32)
    data_set = pydicom.dcmread(path)
    data_set.PixelData = encapsulate(streams, fragments_per_frame=2, has_bot=False)
    data_set.ExtendedOffsetTable = bytes(3 << 20)
    data_set.ExtendedOffsetTableLengths = bytes(3 << 20)
    data_set.save_as(path)
    longest = 0
    read = FileBytes.read

    def watched(self: FileBytes, start: int, length: int) -> bytes:
        nonlocal longest
        longest = max(longest, length)
        return read(self, start, length)

    monkeypatch.setattr(FileBytes, "read", watched)
    sent = _sent(path, ImplicitVRLittleEndian)
    assert sent.PixelData == b"".join(frame.tobytes() for frame in frames)
    assert longest <= 1 << 20


@pytest.mark.parametrize("frames_said", ["4294967296", "99999999999999999999", "4294967295"])
def test_more_frames_than_any_data_set_has_is_a_refusal(tmp_path: Path, frames_said: str) -> None:
    stream = _jpeg_ls(np.zeros((32, 32), np.uint8))
    path = _made(
        tmp_path / "a.dcm", [stream], JPEGLSLossless, Rows=32, Columns=32, NumberOfFrames="1"
    )
    native = _made(tmp_path / "b.dcm", [bytes(16)], ExplicitVRLittleEndian, Rows=4, Columns=4)
    for made in (path, native):
        data_set = pydicom.dcmread(made)
        data_set["NumberOfFrames"]._value = frames_said
        data_set.save_as(made)
        for target in (ImplicitVRLittleEndian, RLELossless):
            if (made, target) != (native, ImplicitVRLittleEndian):
                assert "cannot be sent as" in _refusal(made, target)


def test_a_sign_is_no_guess(tmp_path: Path) -> None:
    """Coded with fewer bits than are stored, the highest bit is a sign or is not."""
    shape = {"Rows": 8, "Columns": 8, "BitsAllocated": 16, "PixelRepresentation": 1}
    samples = np.arange(64, dtype=np.uint16).reshape(8, 8)
    for top, stored, refused in ((0, 16, False), (0x800, 16, True), (0x800, 12, False)):
        stream = encode_buffer((samples | top).tobytes(), 8, 8, 1, 12, 0, 0)
        path = _made(
            tmp_path / "a.dcm", [bytes(stream)], JPEGLSLossless, BitsStored=stored, **shape
        )
        if refused:
            assert "fewer bits than its signed samples" in _refusal(path)
        else:
            assert _sent(path, ImplicitVRLittleEndian).pixel_array.min() == (-2048 if top else 0)


def test_rle_that_goes_on_costs_no_memory(tmp_path: Path) -> None:
    """Two bytes stand for 128: a frame of 1 KiB must not become one of 64 MiB."""
    stream = struct.pack("<16I", 1, 64, *(0,) * 14) + b"\x81\x07" * (1 << 19)
    path = _made(tmp_path / "a.dcm", [stream], RLELossless, Rows=32, Columns=32)
    tracemalloc.start()
    try:
        assert "cannot be decoded" in _refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_stale_offset_tables_do_not_stand_before_new_fragments(tmp_path: Path) -> None:
    path = _made(tmp_path / "a.dcm", [bytes(16)], ExplicitVRLittleEndian, Rows=4, Columns=4)
    data_set = pydicom.dcmread(path)
    data_set.ExtendedOffsetTable = bytes(8)
    data_set.ExtendedOffsetTableLengths = bytes(8)
    data_set.save_as(path)
    assert "ExtendedOffsetTable" not in _sent(path, JPEGLSLossless)
    assert "ExtendedOffsetTable" in _sent(path, ImplicitVRLittleEndian), "a value like others"


def test_big_endian_without_vr_is_not_copied_unturned(tmp_path: Path) -> None:
    path = _made(tmp_path / "a.dcm", [bytes(16)], ExplicitVRBigEndian, Rows=4, Columns=4)
    header = struct.pack(">HH2sHH", 0x0028, 0x0010, b"US", 2, 4)
    without = struct.pack(">HHLH", 0x0028, 0x0010, 2, 4)
    data = path.read_bytes()
    assert data.count(header) == 1
    path.write_bytes(data.replace(header, without))
    assert "without VR" in _refusal(path)


def test_a_source_that_cannot_be_read_is_not_told_as_lack_of_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _made(tmp_path / "a.dcm", [bytes(16)], ImplicitVRLittleEndian, Rows=4, Columns=4)

    def broken(_self: Reencoder) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Reencoder, "run", broken)
    with (
        _open(path) as descriptor,
        pytest.raises(OSError, match="Input/output"),
        transcoded(descriptor, ExplicitVRLittleEndian),
    ):
        pytest.fail("it came out")


def test_an_icon_is_decompressed_too(tmp_path: Path) -> None:
    icon = Dataset()
    icon.SamplesPerPixel, icon.PhotometricInterpretation = 1, "MONOCHROME2"
    icon.Rows, icon.Columns = 16, 16
    icon.BitsAllocated = icon.BitsStored = 8
    icon.HighBit, icon.PixelRepresentation = 7, 0
    small = _RNG.integers(0, 255, (16, 16), np.uint8)
    icon.PixelData = encapsulate([_jpeg_ls(small)])
    icon["PixelData"].VR = "OB"
    icon["PixelData"].is_undefined_length = True
    large = _RNG.integers(0, 255, (32, 32), np.uint8)
    path = _made(
        tmp_path / "a.dcm",
        [_jpeg_ls(large)],
        JPEGLSLossless,
        Rows=32,
        Columns=32,
        IconImageSequence=[icon],
    )
    sent = _sent(path, ImplicitVRLittleEndian)
    assert sent.PixelData == large.tobytes()
    assert sent.IconImageSequence[0].PixelData == small.tobytes()
    assert _sent(path, JPEG2000Lossless).IconImageSequence[0].PixelData == small.tobytes()


@pytest.mark.filterwarnings("ignore:The value length")
def test_private_sequences_and_long_texts_survive_implicit_vr(tmp_path: Path) -> None:
    path = _made(tmp_path / "a.dcm", [bytes(16)], ImplicitVRLittleEndian, Rows=4, Columns=4)
    data_set = pydicom.dcmread(path)
    item = Dataset()
    item.PatientID = "inside"
    block = data_set.private_block(0x0011, "dcmvault test", create=True)
    block.add_new(0x01, "SQ", [item])
    block.add_new(0x02, "OB", b"\1\2\3\4")
    data_set.ImageComments = "x" * 70_000  # longer than its VR has room for
    data_set.add_new("SmallestImagePixelValue", "SS", -3)
    data_set.PixelRepresentation = 1
    data_set.save_as(path)
    sent = _sent(path, ExplicitVRLittleEndian)
    assert sent.get_item((0x0011, 0x1002)).value == b"\1\2\3\4"
    assert sent.get_item("ImageComments").value == b"x" * 70_000
    assert sent.SmallestImagePixelValue == -3
    assert b"inside" in path.with_suffix(".sent").read_bytes()
    again = path.with_suffix(".sent").rename(tmp_path / "again.dcm")
    back = _sent(again, ImplicitVRLittleEndian)
    assert back.ImageComments == "x" * 70_000
    assert back.PixelData == bytes(16)


def _jpeg() -> bytes:
    ramp = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    return bytes(imagecodecs.jpeg8_encode(ramp, level=80))


_J2K = bytes(imagecodecs.jpeg2k_encode(np.eye(64, dtype=np.uint8), level=0, codecformat="J2K"))
_JLS = _jpeg_ls(np.eye(64, dtype=np.uint8))
_SV1 = bytes(
    imagecodecs.jpeg8_encode(
        _RNG.integers(0, 255, (64, 64), np.uint8), lossless=True, predictor=1, bitspersample=8
    )
)
_HUGE: dict[str, tuple[bytes, bytes, bytes]] = {
    JPEGBaseline8Bit: (_jpeg(), b"\x00\x40\x00\x40", b"\xff\xff\xff\xff"),
    JPEG2000Lossless: (_J2K, struct.pack(">II", 64, 64), struct.pack(">II", 1 << 20, 1 << 20)),
    JPEGLSLossless: (_JLS, b"\x00\x40\x00\x40", b"\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("syntax", _HUGE)
def test_a_stream_that_is_larger_than_the_data_set_says_costs_nothing(
    tmp_path: Path, syntax: str
) -> None:
    stream, size, lie = _HUGE[syntax]
    path = _made(tmp_path / "a.dcm", [stream.replace(size, lie)], syntax, Rows=64, Columns=64)
    assert "not as large as the data set says" in _refusal(path)
    assert _sent(
        _made(tmp_path / "b.dcm", [stream], syntax, Rows=64, Columns=64), ImplicitVRLittleEndian
    )


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
@pytest.mark.parametrize(
    ("stream", "syntax"),
    [
        (_jpeg(), JPEGBaseline8Bit),
        (_J2K, JPEG2000Lossless),
        (_JLS, JPEGLSLossless),
        (_SV1, JPEGLosslessSV1),
        (struct.pack("<16I", 1, 64, *(0,) * 14) + b"\x81\x07" * 32, RLELossless),
    ],
)
def test_what_is_cut_off_is_refused_not_filled_up(
    tmp_path: Path, stream: bytes, syntax: str, ending: bytes, cut: float
) -> None:
    """libjpeg-turbo, for one, makes grey of what is not there, and says nothing."""
    short = stream[: int(len(stream) * cut)] + ending
    path = _made(tmp_path / "a.dcm", [short], syntax, Rows=64, Columns=64)
    assert "cannot be sent as" in _refusal(path)


def test_colours_that_contradict_the_data_set_are_no_guess(tmp_path: Path) -> None:
    colours = _RNG.integers(0, 255, (16, 16, 3), np.uint8)
    stream = bytes(imagecodecs.jpeg8_encode(colours, level=90))  # JFIF, hence YCbCr
    shape = {"Rows": 16, "Columns": 16, "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    path = _made(
        tmp_path / "a.dcm", [stream], JPEGBaseline8Bit, PhotometricInterpretation="RGB", **shape
    )
    assert "colours are YCbCr, the data set says RGB" in _refusal(path)
    path = _made(
        tmp_path / "b.dcm",
        [stream],
        JPEGBaseline8Bit,
        PhotometricInterpretation="YBR_FULL_422",
        **shape,
    )
    assert _sent(path, ImplicitVRLittleEndian).PhotometricInterpretation == "YBR_FULL"


def test_frames_beyond_the_limits_are_refused(tmp_path: Path) -> None:
    stream = struct.pack("<16I", 1, 64, *(0,) * 14) + b"\x81\x07" * 32
    path = _made(tmp_path / "a.dcm", [stream] * 2, Rows=65535, Columns=65535)
    assert "4 GiB" in _refusal(path)
    path = _made(tmp_path / "b.dcm", [stream], Rows=20000, Columns=20000)
    assert "decoded at once" in _refusal(path)
    path = _made(tmp_path / "c.dcm", [stream] * 3, Rows=0, Columns=64)
    assert "how large" in _refusal(path)


@pytest.mark.parametrize(
    "name",
    [
        "emri_small_jpeg_ls_lossless.dcm",
        "emri_small_jpeg_2k_lossless.dcm",
        "emri_small_RLE.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "MR_small_expb.dcm",
    ],
)
def test_damage_at_any_place_is_an_answer(tmp_path: Path, name: str) -> None:
    """Every mutation ends in a checked result or in InstanceUnsendableError."""
    data = _real(name).read_bytes()
    path = tmp_path / "mutant.dcm"
    refused = 0
    for target in (ImplicitVRLittleEndian, RLELossless):
        for _ in range(40):
            mutant = bytearray(data)
            at = int(_RNG.integers(300, len(mutant) - 4))
            mutant[at : at + 4] = _RNG.bytes(4)
            path.write_bytes(mutant)
            try:
                with _open(path) as descriptor, transcoded(descriptor, target):
                    pass
            except InstanceUnsendableError:
                refused += 1
    assert refused


def test_a_result_that_is_not_equal_is_never_given_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _made(tmp_path / "a.dcm", [bytes(16)], ImplicitVRLittleEndian, Rows=4, Columns=4)
    original = Reencoder.run

    def spoilt(self: Reencoder) -> None:
        original(self)
        self._out.header(0x7FE10010, b"LO", 2)
        self._out.value(b"xx")

    monkeypatch.setattr(Reencoder, "run", spoilt)
    assert "attribute did not come out equal" in _refusal(path)
    monkeypatch.undo()
    monkeypatch.setattr(module, "pixels_digest", lambda *_: "px1:")
    assert "pixels did not come out equal" in _refusal(path, JPEG2000Lossless)


def test_a_full_disk_is_for_later_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = _made(tmp_path / "a.dcm", [bytes(16)], ImplicitVRLittleEndian, Rows=4, Columns=4)
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with _open(path) as descriptor, transcoded(descriptor, ExplicitVRLittleEndian):
        assert list(scratch.iterdir()) == []  # it has no name that anybody could open

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with (
        _open(path) as descriptor,
        pytest.raises(InstanceDeferredError, match="No such file"),
        transcoded(descriptor, ExplicitVRLittleEndian),
    ):
        pytest.fail("it came out")
    monkeypatch.setattr("tempfile.tempdir", str(scratch))

    def full(_self: Reencoder) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Reencoder, "run", full)
    with (
        _open(path) as descriptor,
        pytest.raises(InstanceDeferredError, match="No space"),
        transcoded(descriptor, ExplicitVRLittleEndian),
    ):
        pytest.fail("it came out")


def test_targets() -> None:
    both = {ExplicitVRLittleEndian, ImplicitVRLittleEndian}
    assert target_for(JPEG2000Lossless, both) == ExplicitVRLittleEndian
    assert target_for(ExplicitVRLittleEndian, both) == ImplicitVRLittleEndian
    assert target_for(JPEG2000Lossless, {JPEGLSLossless, RLELossless}) == JPEGLSLossless
    assert target_for(MPEG2MPML, both) == ""
    assert target_for(JPEG2000Lossless, {JPEGBaseline8Bit}) == ""


def test_contexts_of_one_class_share_what_is_proposed_instead() -> None:
    kinds = [InstanceKind("1.2", uid) for uid in (JPEG2000Lossless, RLELossless, MPEG2MPML)]
    plan = plan_contexts([*kinds, InstanceKind("", "1.2")], transcodes=True)
    assert [len(one.transfer_syntax_uids) for one in plan] == [1, 2, 4, 1, 1]
    never = plan_contexts(kinds, transcodes=False)
    assert [one.transfer_syntax_uids for one in never] == [
        (kind.transfer_syntax_uid,) for kind in kinds
    ]
    many = [InstanceKind(f"1.2.{number}", RLELossless) for number in range(200)]
    plan = plan_contexts(many, transcodes=True)
    assert len(plan) == 126  # with Verification and the query, 128


_PEAK = """
import os, sys
from dcmvault.dicom.transcode import transcoded
descriptor = os.open(sys.argv[1], os.O_RDONLY)
with transcoded(descriptor, sys.argv[2]) as result:
    assert result.length > 200_000_000
    assert sum(map(len, result.chunks())) == result.length
status = open("/proc/self/status").read()
print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.parametrize("syntax", [JPEGLSLossless, ExplicitVRLittleEndian])
def test_memory_is_bounded_for_large_files(tmp_path: Path, syntax: str) -> None:
    frame = np.sort(_RNG.integers(0, 4096, (512, 512), np.uint16))
    compressed = syntax == JPEGLSLossless
    data = _jpeg_ls(frame) if compressed else frame.tobytes()
    path = _made(
        tmp_path / "large.dcm",
        [data] * 400,
        syntax,
        Rows=512,
        Columns=512,
        BitsAllocated=16,
        BitsStored=16,
    )
    command = [sys.executable, "-c", _PEAK, str(path), ImplicitVRLittleEndian]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 150_000  # KiB, libraries included
