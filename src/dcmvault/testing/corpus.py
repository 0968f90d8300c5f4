"""Real DICOM files that come with installed packages. Nothing is ever downloaded."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

#: Package and folder inside it. `pydicom` brings small files of many kinds, malformed ones too;
#: `data_store` is the module of the package pydicom-data (optional), with whole acquisitions.
_PLACES = (("pydicom", "data/test_files"), ("data_store", "data"))


def real_files() -> list[Path]:
    """List the `*.dcm` files of the installed packages, sorted by place and path.

    Among them are truncated and otherwise malformed files, files without preamble and files
    that are no DICOM at all: what a real archive contains.
    """
    found: list[Path] = []
    for folder in _folders():
        found += sorted(path for path in folder.rglob("*.dcm") if path.is_file())
    return found


def real_study_folders() -> list[Path]:
    """List pydicom's folders of small whole studies (CR, CT and MR; files without extension)."""
    parent = _folders()[0] / "dicomdirtests"
    return sorted(path for path in parent.iterdir() if path.is_dir() and path.name.isdecimal())


def _folders() -> list[Path]:
    folders = []
    for package, inside in _PLACES:
        spec = find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            folder = Path(spec.submodule_search_locations[0], inside)
            if folder.is_dir():
                folders.append(folder)
    return folders
