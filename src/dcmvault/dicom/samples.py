"""Real studies that come with installed packages, for the demonstration. Nothing is downloaded."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

#: Folders and files inside pydicom's own test data: small CR, CT and MR studies.
_FROM_PYDICOM = (
    "dicomdirtests/77654033",
    "dicomdirtests/98892001",
    "dicomdirtests/98892003",
    "CT_small.dcm",
    "MR_small.dcm",
)
#: Files of the optional package pydicom-data: CR, MR, CT and ultrasound in clinical sizes.
_FROM_PYDICOM_DATA = (
    "RG1_UNCR.dcm",
    "RG3_UNCR.dcm",
    "MR2_UNCR.dcm",
    "693_UNCR.dcm",
    "US1_UNCR.dcm",
    "OBXXXX1A.dcm",
    "color3d_jpeg_baseline.dcm",
    "JPEG-LL.dcm",
    "MR-SIEMENS-DICOM-WithOverlays.dcm",
)


def sample_files() -> list[Path]:
    """List sound files of real studies, each SOP Instance UID once, in a stable order."""
    places = (
        ("pydicom", "data/test_files", _FROM_PYDICOM),
        ("data_store", "data", _FROM_PYDICOM_DATA),
    )
    found: list[Path] = []
    for package, inside, names in places:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        folder = Path(spec.submodule_search_locations[0], inside)
        for path in (folder / name for name in names):
            if path.is_dir():
                found += sorted(file for file in path.rglob("*") if file.is_file())
            elif path.is_file():
                found.append(path)
    return found
