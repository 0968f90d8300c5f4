"""Files of every kind that a vault takes apart in another way, and files that are none.

The same versions of the coders make the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
from jpeg_ls.CharLS import encode_buffer
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from dcmvault.testing.dicom_files import make_instance, make_uid

Samples = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
_ROWS, _COLUMNS = 40, 44


@dataclass(frozen=True, slots=True)
class _Image:
    """What differs between the images."""

    allocated: int = 16
    stored: int = 12
    signed: bool = False
    samples: int = 1
    frames: int = 1
    planar: bool = False
    rows: int = _ROWS
    columns: int = _COLUMNS

    def frame(self, number: int = 0) -> Samples:
        """Make rows x columns x samples: a slope with a little noise and a flat corner."""
        y, x, c = np.mgrid[: self.rows, : self.columns, : self.samples]
        noise = np.random.default_rng(number).integers(0, 4, x.shape)
        values = (5 * x + 3 * y + 11 * c + 64 * number + noise) % (1 << self.stored)
        values[: self.rows // 3, : self.columns // 3] = 1
        if self.signed:
            spare = 1 << (self.stored - 1)
            values = (values + spare) % (2 * spare) - spare
        made: Samples = values.astype(np.int64).astype(f"<u{self.allocated // 8}")
        return made

    def native(self) -> bytes:
        """Return all frames as native Pixel Data, little endian."""
        frames = [self.frame(number) for number in range(self.frames)]
        if self.planar:
            frames = [frame.transpose(2, 0, 1) for frame in frames]
        return b"".join(frame.tobytes() for frame in frames)


_CT = _Image(signed=True)
_GRAY8 = _Image(allocated=8, stored=8)
_RGB = _Image(allocated=8, stored=8, samples=3)
#: Large enough for JPEG XL to make a JPEG stream smaller.
_PHOTO = _Image(allocated=8, stored=8, samples=3, rows=160, columns=200)
_PHOTO_GRAY = _Image(allocated=8, stored=8, rows=160, columns=200)


def _native(image: _Image, *, big_endian: bool = False) -> bytes:
    words = np.frombuffer(image.native(), f"<u{image.allocated // 8}")
    if not big_endian:
        return words.tobytes()
    if image.allocated == 8:  # bytes travel in words of two (PS3.5 A.3)
        return np.frombuffer(image.native(), "<u2").byteswap().tobytes()
    return words.byteswap().tobytes()


def _jpeg_ls(image: _Image, number: int, *, near: int = 0, mode: int = 0) -> bytes:
    """Return one frame; mode 0: components have scans of their own, 2: sample by sample."""
    frame = image.frame(number) & np.uint16((1 << image.stored) - 1)
    narrow = frame.astype("<u1" if image.stored <= 8 else "<u2")
    ordered = narrow.transpose(2, 0, 1) if mode == 0 else narrow
    shape = (image.rows, image.columns, image.samples, image.stored)
    return bytes(encode_buffer(ordered.tobytes(), *shape, near, mode))


def _jpeg_lossless(image: _Image, number: int) -> bytes:
    """Return one frame of one component, predictor 1 (ITU-T T.81 annex H)."""
    # Each of the 17 categories has a code of five bits, its own number.
    table = bytes((0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)))
    size = image.rows.to_bytes(2, "big") + image.columns.to_bytes(2, "big")
    head = b"\xff\xd8" + _segment(0xC4, table)
    head += _segment(0xC3, bytes((image.stored,)) + size + bytes((1, 1, 0x11, 0)))
    head += _segment(0xDA, bytes((1, 1, 0, 1, 0, 0)))
    bits, above = "", 1 << (image.stored - 1)
    for row in image.frame(number)[:, :, 0].tolist():
        before = above
        for sample in row:
            difference, before = sample - before, sample
            category = abs(difference).bit_length()
            bits += f"{category:05b}"
            if category:
                extra = difference if difference > 0 else difference + (1 << category) - 1
                bits += f"{extra:0{category}b}"
        above = row[0]
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return head + scan + b"\xff\xd9"


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def _jpeg_baseline(image: _Image, number: int) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(image.frame(number).squeeze(), level=85))


def _jpeg_2000(image: _Image, number: int) -> bytes:
    frame = image.frame(number).squeeze()
    return bytes(imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k"))


def _rle(image: _Image, number: int) -> bytes:
    return RLELosslessEncoder.encode(
        image.frame(number).tobytes(),
        rows=image.rows,
        columns=image.columns,
        samples_per_pixel=image.samples,
        bits_allocated=image.allocated,
        bits_stored=image.stored,
        pixel_representation=int(image.signed),
        photometric_interpretation="RGB" if image.samples == 3 else "MONOCHROME2",
        planar_configuration=0,
        number_of_frames=1,
        encoding_plugin="pydicom",
    )


def _data_set(name: str, image: _Image, syntax: UID) -> Dataset:
    made = Dataset()
    made.SOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = make_uid("recipe", name)
    made.StudyInstanceUID = make_uid("recipe study", name[0])
    made.SeriesInstanceUID = make_uid("recipe series", name[0])
    made.StudyDate = "20260131"
    made.Modality = "OT"
    made.PatientName = "Doe^Recipe"
    made.PatientID = "R-1"
    made.SamplesPerPixel = image.samples
    made.PhotometricInterpretation = "RGB" if image.samples == 3 else "MONOCHROME2"
    if image.samples == 3:
        made.PlanarConfiguration = int(image.planar)
    if image.frames > 1:
        made.NumberOfFrames = image.frames
    made.Rows = image.rows
    made.Columns = image.columns
    made.BitsAllocated = image.allocated
    made.BitsStored = image.stored
    made.HighBit = image.stored - 1
    made.PixelRepresentation = int(image.signed)
    made.ensure_file_meta()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.ImplementationClassUID = UID(make_uid("dcmvault.testing.recipe_files"))
    made.file_meta.ImplementationVersionName = "DCMVAULT_TEST"
    return made


def _write(path: Path, image: _Image, syntax: UID, pixels: bytes, *, vr: str = "OW") -> None:
    made = _data_set(path.stem, image, syntax)
    made.add_new("PixelData", vr, pixels + bytes(len(pixels) % 2))
    if syntax.is_encapsulated:
        made["PixelData"].is_undefined_length = True
    dcmwrite(path, made, enforce_file_format=True)


_ENCAPSULATED: dict[str, tuple[_Image, UID, Callable[[_Image, int], bytes], int]] = {
    # name: image, transfer syntax, coder, fragments per frame
    "jls-8": (_GRAY8, JPEGLSLossless, _jpeg_ls, 1),
    "jls-12": (_Image(), JPEGLSLossless, _jpeg_ls, 1),
    "jls-16": (_Image(stored=16, signed=True), JPEGLSLossless, _jpeg_ls, 1),
    "jls-signed": (_CT, JPEGLSLossless, _jpeg_ls, 1),
    "jls-colour-planes": (_RGB, JPEGLSLossless, _jpeg_ls, 1),
    "jls-colour-samples": (_RGB, JPEGLSLossless, partial(_jpeg_ls, mode=2), 1),
    "jls-near": (_Image(), JPEGLSNearLossless, partial(_jpeg_ls, near=3), 1),
    "jls-frames": (_Image(frames=3), JPEGLSLossless, _jpeg_ls, 1),
    "jls-fragments": (_Image(), JPEGLSLossless, _jpeg_ls, 3),
    "ljpeg-12": (_Image(), JPEGLosslessSV1, _jpeg_lossless, 1),
    "ljpeg-8": (_GRAY8, JPEGLosslessSV1, _jpeg_lossless, 1),
    "ljpeg-fragments": (_Image(), JPEGLosslessSV1, _jpeg_lossless, 2),
    "rle-16": (_CT, RLELossless, _rle, 1),
    "rle-colour": (_RGB, RLELossless, _rle, 1),
    "rle-frames": (_Image(frames=2), RLELossless, _rle, 1),
    "jpeg-baseline": (_PHOTO, JPEGBaseline8Bit, _jpeg_baseline, 1),
    "jpeg-baseline-gray": (_PHOTO_GRAY, JPEGBaseline8Bit, _jpeg_baseline, 1),
    "jpeg-2000": (_Image(), JPEG2000Lossless, _jpeg_2000, 1),
}
_NATIVE: dict[str, tuple[_Image, UID]] = {
    "native-8": (_GRAY8, ExplicitVRLittleEndian),
    "native-16": (_Image(), ImplicitVRLittleEndian),
    "native-16-signed": (_CT, ExplicitVRLittleEndian),
    "native-16-frames": (_Image(frames=3), ExplicitVRLittleEndian),
    "native-32": (_Image(allocated=32, stored=30), ExplicitVRLittleEndian),
    "native-colour": (_RGB, ExplicitVRLittleEndian),
    "native-planes": (
        _Image(allocated=8, stored=8, samples=3, planar=True),
        ExplicitVRLittleEndian,
    ),
    "native-big-8": (_Image(allocated=8, stored=8, frames=2), ExplicitVRBigEndian),
    "native-big-16": (_CT, ExplicitVRBigEndian),
    "native-deflated": (_CT, DeflatedExplicitVRLittleEndian),
}


def write_recipe_files(folder: Path) -> None:
    """Write them into a folder that is there; all files of one letter are one study."""
    for name, (image, syntax) in _NATIVE.items():
        pixels = _native(image, big_endian=syntax == ExplicitVRBigEndian)
        _write(folder / f"{name}.dcm", image, syntax, pixels)
    for name, (image, syntax, encode, fragments) in _ENCAPSULATED.items():
        frames = [encode(image, number) for number in range(image.frames)]
        value = encapsulate(frames, fragments_per_frame=fragments)
        _write(folder / f"{name}.dcm", image, syntax, value, vr="OB")
    noise = np.random.default_rng(2).bytes(_ROWS * _COLUMNS)
    _write(folder / "native-noise.dcm", _GRAY8, ExplicitVRLittleEndian, noise)
    _write_large(folder)
    _write_opaque(folder)


def _write_large(folder: Path) -> None:
    """Write a frame that is coded in strips, and a value that is stored in pieces."""
    flat = _Image(rows=2900, columns=2900)
    pixels = np.zeros((flat.rows, flat.columns), "<u2")
    pixels[::100] = np.arange(flat.columns) // 8
    _write(folder / "native-strips.dcm", flat, ExplicitVRLittleEndian, pixels.tobytes())
    make_instance(
        folder / "value-in-pieces.dcm",
        make_uid("recipe study", "v"),
        make_uid("recipe series", "v"),
        make_uid("recipe", "value-in-pieces"),
        elements={"EncapsulatedDocument": b"%PDF-1.4 " + bytes(5 << 20)},
    )


def _write_opaque(folder: Path) -> None:
    whole = (folder / "native-16-signed.dcm").read_bytes()
    noise = np.random.default_rng(1).bytes(5000)
    for name, content in {
        "empty": b"",
        "one-byte": b"x",
        "notes.txt": b"no DICOM",
        "garbage.dcm": noise,
        "zeros.bin": bytes(9 << 20),
        "without-preamble.dcm": whole[132:],
        "cut-in-its-pixels.dcm": whole[: len(whole) * 3 // 4],
        "cut-in-its-header.dcm": whole[:400],
        "with-a-tail.dcm": whole + noise,
        "back\\slash ünï\nline.dcm": whole[:-2] + b"ab",
    }.items():
        (folder / name).write_bytes(content)
    deep = folder / "a folder" / "in a folder"
    deep.mkdir(parents=True)
    (deep / "the same again.dcm").write_bytes(whole)
