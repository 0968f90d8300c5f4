"""Digests that are equal for two files of one instance in different transfer syntaxes.

`px1` (`dicom.pixels`) is of the pixels as they are decoded; `at1` is of all other attributes: as
`dsd1`, but without those that a transfer syntax dictates or that coders write of themselves. The
definition of `at1` is frozen as that of `dsd1` is: any change gets another name. Left out are, at
the top level, Photometric Interpretation (0028,0004), Planar Configuration (0028,0006), Derivation
Description (0008,2111) and Derivation Code Sequence (0008,9215); at any depth Pixel Data
(7FE0,0010) and Encapsulated Pixel Data Value Total Length (7FE0,0003).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dcmvault.dicom.byte_source import ByteSource, FileBytes, InflatedBytes
from dcmvault.dicom.digest import MAX_INFLATED, elements_digest
from dcmvault.dicom.file_meta import FileMeta, read_file_meta
from dcmvault.dicom.pixels import pixels_digest
from dcmvault.dicom.transfer_syntaxes import FAMILIES

_LEFT_OUT = frozenset({0x00280004, 0x00280006, 0x00082111, 0x00089215, 0x7FE00010, 0x7FE00003})


def attributes_digest(path: Path) -> str:
    """Return the `at1:` digest of a file; errors as `dicom.digest.data_set_digest`."""
    with _data_set(path) as (source, position, meta):
        digest = elements_digest(source, position, meta.encoding, _LEFT_OUT)
        return "at1:" + digest.partition(":")[2]


def file_pixels_digest(path: Path) -> str:
    """Return the `px1:` digest of a file's decoded pixels; that of nothing where it has none.

    Raises MalformedDicomError when they cannot be decoded, OSError when they cannot be read.
    """
    with _data_set(path) as (source, position, meta):
        family = FAMILIES.get(meta.transfer_syntax_uid)
        return pixels_digest(source, position, meta.encoding, family)


@contextmanager
def _data_set(path: Path) -> Iterator[tuple[ByteSource, int, FileMeta]]:
    with FileBytes(path) as file:
        meta = read_file_meta(file)
        if not meta.deflated:
            yield file, meta.data_set_start, meta
            return
        inflated = InflatedBytes(file, meta.data_set_start, MAX_INFLATED)
        try:
            yield inflated, 0, meta
        finally:
            inflated.close()
