"""What is backed up: a corpus, and what becomes of it between backups."""

from __future__ import annotations

import re
import shutil
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from bench.vault_figures.children import run
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dcmvault.testing.corpus import real_files, real_study_folders
from dcmvault.testing.dicom_files import make_instance

_PIXEL_DATA = 0x7FE00010
#: (keyword, corrected value): what a registry corrects after a mix-up.
_CORRECTIONS = (
    ("PatientName", b"Corrected^Name^Of The Patient "),
    ("PatientID", b"CORRECTED-0042"),
    ("StudyDescription", b"Corrected description "),
)
_LITTLE_ENDIAN = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian})
_SHORT = struct.Struct("<H")
_LONG = struct.Struct("<I")
#: The last component of a UID that has room for another number.
_UID_NUMBER = re.compile(rb"[1-9]\d{2,}(?!.*\.[1-9]\d{2,})")


def copy_corpus(corpus: Path | None, target: Path) -> None:
    """Copy a folder, or what the installed packages bring."""
    if corpus is not None:
        shutil.copytree(corpus, target)
        return
    target.mkdir(parents=True)
    for number, path in enumerate(real_files()):
        shutil.copyfile(path, target / f"{number:04}-{path.name}")
    for folder in real_study_folders():
        shutil.copytree(folder, target / folder.name)


def warm(folder: Path) -> int:
    """Read every file once, so that it comes from the cache; return the bytes of all."""
    return sum(len(path.read_bytes()) for path in files_of(folder))


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _read(path: Path) -> FileDataset | None:
    try:
        return pydicom.dcmread(path)
    except (InvalidDicomError, OSError, ValueError, EOFError, KeyError, NotImplementedError):
        return None


def largest_study(folder: Path) -> list[Path]:
    """List the files of the study with the most bytes (a folder's files, if they are of one)."""
    studies: dict[str, list[Path]] = {}
    for path in files_of(folder):
        data_set = _read(path)
        uid = str(data_set.get("StudyInstanceUID", "")) if data_set is not None else ""
        if uid:
            studies.setdefault(uid, []).append(path)
    return max(studies.values(), key=lambda paths: sum(path.stat().st_size for path in paths))


def correct_header(path: Path) -> bool:
    """Replace a few values of a file's header and not one byte more; False if it has none."""
    data_set = _read(path)
    if data_set is None:
        return False
    implicit = bool(data_set.is_implicit_VR)
    content = bytearray(path.read_bytes())
    edits: list[tuple[int, int, bytes]] = []
    for keyword, value in _CORRECTIONS:
        item = data_set.get_item(keyword) if keyword in data_set else None
        at = getattr(item, "value_tell", None)
        if at is not None and data_set.is_little_endian and item is not None:
            edits.append((at, int(getattr(item, "length", 0)), value))
    for at, length, value in sorted(edits, reverse=True):
        content[at : at + length] = value
        size = _LONG.pack(len(value)) if implicit else _SHORT.pack(len(value))
        content[at - len(size) : at] = size
    if edits:
        path.write_bytes(content)
    return bool(edits)


# JPEG-LS


def native_images(folder: Path, target: Path) -> int:
    """Copy the single-frame native images that JPEG-LS encoders take; return their number."""
    target.mkdir(parents=True)
    kept = 0
    for path in files_of(folder):
        data_set = _read(path)
        if data_set is None or not _is_plain_image(data_set):
            continue
        shutil.copyfile(path, target / f"{kept:05}.dcm")
        kept += 1
    return kept


def _is_plain_image(data_set: FileDataset) -> bool:
    syntax = data_set.file_meta.get("TransferSyntaxUID", "")
    if syntax not in _LITTLE_ENDIAN or "PixelData" not in data_set:
        return False
    try:
        rows, columns = int(data_set.Rows), int(data_set.Columns)
        expected = rows * columns * data_set.SamplesPerPixel * data_set.BitsAllocated // 8
        return (
            data_set.BitsAllocated in (8, 16)
            and data_set.SamplesPerPixel == 1
            and data_set.HighBit == data_set.BitsStored - 1
            and int(data_set.get("NumberOfFrames", 1) or 1) == 1
            and len(data_set.PixelData) - expected in (0, 1)
            and rows * columns >= 32 * 32
        )
    except AttributeError:
        return False


def encode_by_charls(source: Path, target: Path) -> int:
    """Write all files of a folder again as JPEG-LS, by CharLS; return how many it took."""
    target.mkdir()
    taken = 0
    for path in files_of(source):
        data_set = pydicom.dcmread(path)
        try:
            data_set.compress(
                UID("1.2.840.10008.1.2.4.80"),
                encoding_plugin="pyjpegls",
                generate_instance_uid=False,
            )
            data_set.save_as(target / path.name)
        except (RuntimeError, ValueError, AttributeError):
            (target / path.name).unlink(missing_ok=True)
            continue
        taken += 1
    return taken


def encode_by_dcmtk(source: Path, target: Path) -> int:
    """Do the same by DCMTK's dcmcjpls."""
    target.mkdir()
    for path in files_of(source):
        accepted = frozenset(range(256))
        run(("dcmcjpls", path, target / path.name), {}, accepted=accepted)
    return len(files_of(target))


# Larger amounts


def multiply(source: Path, target: Path, copies: int) -> None:
    """Copy native images as further instances of their series: the rows of the images rotated.

    So they compress as the originals do, and nothing of them is there already.
    """
    images = [path for path in files_of(source) if _is_rotatable(_read(path))]
    for path in images:
        data_set = _read(path)
        if data_set is None:
            continue
        content = path.read_bytes()
        item = data_set.get_item(_PIXEL_DATA)
        at, length = int(getattr(item, "value_tell", 0)), len(data_set.PixelData)
        shape = (-1, int(data_set.Columns) * int(data_set.BitsAllocated) // 8)
        whole = length - length % shape[1]
        rows = np.frombuffer(content, np.uint8, whole, at).reshape(shape)
        uid = str(data_set.SOPInstanceUID).encode()
        for number in range(copies):
            place = target / f"copy-{number:03}" / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            step = 2 * (7 * number + 3)
            head = content[:at].replace(uid, _other_uid(uid, number))
            rest = content[at + whole :]
            place.write_bytes(head + np.roll(rows, step, axis=1).tobytes() + rest)


def rotatable_bytes(folder: Path) -> int:
    """Return how many bytes one more copy by `multiply` has."""
    return sum(path.stat().st_size for path in files_of(folder) if _is_rotatable(_read(path)))


def _is_rotatable(data_set: FileDataset | None) -> bool:
    if data_set is None or "PixelData" not in data_set:
        return False
    return (
        data_set.file_meta.get("TransferSyntaxUID", "") in _LITTLE_ENDIAN
        and int(data_set.get("BitsAllocated", 0) or 0) in (8, 16)
        and int(data_set.get("SamplesPerPixel", 0) or 0) == 1
        and int(data_set.get("Columns", 0) or 0) > 0
        and _UID_NUMBER.search(str(data_set.get("SOPInstanceUID", "")).encode()) is not None
    )


def _other_uid(uid: bytes, number: int) -> bytes:
    """Return another UID of the same length."""
    found = _UID_NUMBER.search(uid)
    if found is None:
        return uid
    low = 10 ** (len(found[0]) - 1)  # no component may begin with 0
    other = low + (int(found[0]) + (number + 1) * 977) % (9 * low)
    return uid[: found.start()] + str(other).encode() + uid[found.end() :]


def small_instances(target: Path, count: int, *, per_series: int = 200) -> None:
    """Write many small images: a template whose UIDs and first pixels are patched."""
    sample = target.with_name(target.name + "-template.dcm")
    study, series, instance = (f"1.2.826.0.1.3680043.8.498.{n}000000000" for n in (1, 2, 3))
    make_instance(sample, study, series, instance, rows=16, columns=16, modality="MR")
    template = sample.read_bytes()
    sample.unlink()
    parts = re.split(
        b"(%s)" % b"|".join(map(re.escape, map(str.encode, (study, series, instance)))),
        template[:-512],
    )
    ends = {uid.encode(): at for at, uid in enumerate((study, series, instance))}
    fixed = [ends.get(part, part) for part in parts]
    rng = np.random.default_rng(1)
    for first in range(0, count, per_series):
        folder = target / f"{first // 20_000:03}" / f"{first // per_series:06}"
        folder.mkdir(parents=True)
        number = first // per_series
        pixels = rng.integers(0, 4096, (per_series, 256), np.uint16)
        for at in range(min(per_series, count - first)):
            values = (
                study[:-9].encode() + b"%09d" % (number // 4),
                series[:-9].encode() + b"%09d" % number,
                instance[:-9].encode() + b"%09d" % (first + at),
            )
            content = b"".join(values[part] if isinstance(part, int) else part for part in fixed)
            with (folder / f"{at:04}.dcm").open("wb", buffering=0) as stream:
                stream.write(content + pixels[at].tobytes())


# One large file


def native_giant(path: Path, size: int, side: int = 512) -> None:
    """Write one file of square frames of 16 bits; `size` bytes of pixels."""
    frames = size // (side * side * 2)
    _begin_giant(path, frames, side, ExplicitVRLittleEndian)
    frame = _texture(side)
    with path.open("ab") as stream:
        stream.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, frames * side * side * 2))
        for number in range(frames):
            turned = np.roll(frame, number * 37, axis=1)
            stream.write((turned + np.uint16(number // side)).tobytes())


def encapsulated_giant(path: Path, size: int, *, fragment_bytes: int = 60_000) -> None:
    """Write one file of many compressed frames, a fragment each (said to be JPEG 2000)."""
    frames = size // fragment_bytes
    _begin_giant(path, frames, 512, UID("1.2.840.10008.1.2.4.90"))
    rng = np.random.default_rng(2)
    noise = rng.integers(0, 256, fragment_bytes + frames, np.uint8).tobytes()
    with path.open("ab") as stream:
        stream.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF))
        stream.write(struct.pack("<HHI", 0xFFFE, 0xE000, 0))
        for number in range(frames):
            stream.write(struct.pack("<HHI", 0xFFFE, 0xE000, fragment_bytes))
            stream.write(noise[number : number + fragment_bytes])
        stream.write(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))


def _begin_giant(path: Path, frames: int, side: int, syntax: str) -> None:
    """Write all of a file but its pixel data."""
    path.parent.mkdir(parents=True)
    uid = "1.2.826.0.1.3680043.8.498.99"
    make_instance(path, uid, f"{uid}.1", f"{uid}.2", modality="XA", frames=2)
    data_set = pydicom.dcmread(path)
    data_set.Rows = data_set.Columns = side
    data_set.NumberOfFrames = frames
    data_set.file_meta.TransferSyntaxUID = UID(syntax)
    del data_set.PixelData
    data_set.save_as(path)


def _texture(side: int) -> npt.NDArray[np.uint16]:
    """Make a frame that compresses as a CT does: smooth shapes, and noise in the low bits."""
    y, x = np.mgrid[:side, :side] / side
    smooth = 1000 + 600 * np.sin(9 * x) * np.cos(7 * y)
    noise = np.random.default_rng(3).normal(0, 12, (side, side))
    inside = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.24
    frame: npt.NDArray[np.uint16] = np.where(inside, smooth + noise, 0).clip(0).astype(np.uint16)
    return frame
