"""All digests of a Part 10 file by which copies are compared, whatever became of its encoding."""

from __future__ import annotations

from pathlib import Path

from dcmvault.dicom.byte_source import FileBytes, InflatedBytes
from dcmvault.dicom.digest import MAX_INFLATED
from dcmvault.dicom.file_meta import read_file_meta
from dcmvault.dicom.pixels import pixels_digest
from dcmvault.dicom.transfer_syntaxes import FAMILIES


def file_pixels_digest(path: Path) -> str:
    """Return the `px1:` digest of a file's decoded pixels; that of nothing where it has none.

    Raises MalformedDicomError when they cannot be decoded, OSError when they cannot be read.
    """
    with FileBytes(path) as file:
        meta = read_file_meta(file)
        family = FAMILIES.get(meta.transfer_syntax_uid)
        if not meta.deflated:
            return pixels_digest(file, meta.data_set_start, meta.encoding, family)
        inflated = InflatedBytes(file, meta.data_set_start, MAX_INFLATED)
        try:
            return pixels_digest(inflated, 0, meta.encoding, family)
        finally:
            inflated.close()
