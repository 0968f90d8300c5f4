"""One study with very many instances, in one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dcmvault.testing.dicom_files import make_instance

_ROWS = 64
_UID = "2.25.7{number:09}"


def make_study(folder: Path, instances: int) -> None:
    """Write CT files of 64 x 64 pixels that differ in SOP Instance UID and in pixels.

    The first files of a larger study are those of a smaller one.
    """
    made = make_instance(
        folder.with_name("template.dcm"),
        "2.25.5",
        "2.25.6",
        _UID.format(number=0),
        rows=_ROWS,
        columns=_ROWS,
    )
    template = made.path.read_bytes()
    made.path.unlink()
    pixels = _ROWS * _ROWS * 2
    slope = np.add.outer(np.arange(_ROWS), np.arange(_ROWS)).astype("<u2")
    noise = np.random.default_rng(7)
    old = _UID.format(number=0).encode()
    for number in range(instances):
        place = folder / f"{number // 1000:04}"
        place.mkdir(parents=True, exist_ok=True)
        slice_of = (slope + number % 997 + noise.integers(0, 8, slope.shape)).astype("<u2")
        head = template[:-pixels].replace(old, _UID.format(number=number).encode())
        (place / f"{number:07}.dcm").write_bytes(head + slice_of.tobytes())
