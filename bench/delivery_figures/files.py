"""What is sent: CT slices, small files, and large multi-frame ones, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from dcmvault.testing.corpus import real_files
from dcmvault.testing.dicom_files import make_instance

_ROOT = "1.2.826.0.1.3680043.8.498.77"
#: Instances of one series.
_SERIES = 200


def ct_slices(folder: Path, count: int = 600) -> Path:
    """Write CT slices of 512 x 512, half a megabyte each."""
    return _images(folder, count, side=512, number=1)


def real_ct_slices(folder: Path, count: int = 600) -> Path:
    """Write slices of a real CT, half a megabyte each: one of them, shifted otherwise in each."""
    (path,) = (one for one in real_files() if one.name == "693_UNCR.dcm")
    data_set = pydicom.dcmread(path)
    frame = data_set.pixel_array
    folder.mkdir(parents=True)
    series = data_set.SeriesInstanceUID = f"{_ROOT}.4.1"
    data_set.StudyInstanceUID = f"{_ROOT}.4"
    for at in range(count):
        data_set.SOPInstanceUID = f"{series}.{at}"
        data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
        data_set.InstanceNumber = str(1 + at)
        data_set.PixelData = np.roll(frame, (at, at // 7), (0, 1)).tobytes()
        data_set.save_as(folder / f"{at:05}.dcm")
    return folder


def small_files(folder: Path, count: int = 2000) -> Path:
    """Write images of 32 kB."""
    return _images(folder, count, side=127, number=2)


def multi_frame(folder: Path, count: int = 3, size: int = 100 << 20) -> Path:
    """Write multi-frame files of at least `size` bytes."""
    return _images(folder, count, side=512, number=3, frames=-(-size // (512 * 512 * 2)))


def _images(folder: Path, count: int, *, side: int, number: int, frames: int = 1) -> Path:
    folder.mkdir(parents=True)
    template = folder / "template"
    uid = f"{_ROOT}.{number}"
    make_instance(template, uid, f"{uid}.1", f"{uid}.1.1", modality="CT", frames=min(frames, 2))
    data_set = pydicom.dcmread(template)
    template.unlink()
    data_set.Rows = data_set.Columns = side
    if frames > 1:
        data_set.NumberOfFrames = frames
    rng = np.random.default_rng(number)
    frame = rng.integers(0, 4096, (side, side), np.uint16)
    for at in range(count):
        series = f"{uid}.{1 + at // _SERIES}"
        data_set.SeriesInstanceUID = series
        data_set.SOPInstanceUID = f"{series}.{at}"
        data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
        data_set.InstanceNumber = str(1 + at % _SERIES)
        data_set.PixelData = np.roll(frame, at).tobytes() * frames
        data_set.save_as(folder / f"{at:05}.dcm")
    return folder


def size_of(folder: Path) -> int:
    """Return the bytes of all files; reads them, so that they come from the cache."""
    return sum(len(path.read_bytes()) for path in folder.iterdir())
