"""Whether two files are one instance to a PACS that keeps one: what has to be equal for that.

That is the canonical digest of their data sets, and all that it leaves out and no PACS writes anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from dcmvault.dicom.byte_source import ByteSource, FileBytes, InflatedBytes
from dcmvault.dicom.digest import MAX_INFLATED, data_set_digest
from dcmvault.dicom.elements import ElementWalker
from dcmvault.dicom.encoding import EXPLICIT_LITTLE
from dcmvault.dicom.file_meta import FileMeta, read_file_meta
from dcmvault.dicom.nesting import FRAGMENT, FRAGMENTS, VALUE
from dcmvault.dicom.part10 import scan

#: Bytes before the prefix `DICM`, and with it.
_PREAMBLE = 128
_FRONT = 132
#: Private Information Creator UID, Private Information (PS3.10 7.1).
_PRIVATE_INFORMATION = frozenset({0x00020100, 0x00020102})
_TRAILING_PADDING = 0xFFFCFFFC
_CHUNK = 1 << 20
#: Bytes of one entry of the basic offset table (PS3.5 A.4).
_OFFSET = 4


def sameness_digest(path: Path) -> bytes | None:
    """Return what is equal for two files of one instance (32 bytes), None where nothing is.

    Of encapsulated pixels the transfer syntax and the fragments' lengths count, too, and a basic
    offset table that says which of several fragments are one frame (PS3.5 A.4). Nothing equals a
    file with something in its preamble (another format's header may stand there), private file
    meta information, padding that is not zero, bytes after the data set, or damage. Raises
    OSError and MalformedDicomError.
    """
    header = scan(path)
    if header.flaws or header.data_set_end != path.stat().st_size:
        return None
    with FileBytes(path) as file:
        meta = read_file_meta(file)
        if not _is_plain(file, meta):
            return None
        if meta.deflated:
            inflated = InflatedBytes(file, meta.data_set_start, MAX_INFLATED)
            try:
                pixels = _encapsulation(inflated, 0, meta)
            finally:
                inflated.close()
        else:
            pixels = _encapsulation(file, meta.data_set_start, meta)
    if pixels is None:
        return None
    digest = bytes.fromhex(data_set_digest(path).partition(":")[2])
    return hashlib.sha256(digest + pixels).digest() if pixels else digest


def _is_plain(file: ByteSource, meta: FileMeta) -> bool:
    """Say whether nothing is before the data set that no PACS would write anew."""
    if meta.has_preamble and any(file.read(0, _PREAMBLE)):
        return False
    start = _FRONT if meta.has_preamble else 0
    walker = ElementWalker(file, start, EXPLICIT_LITTLE)
    while walker.position < meta.data_set_start and walker.more():
        if any(event[1] in _PRIVATE_INFORMATION for event in walker.element()):
            return False
    return True


def _encapsulation(source: ByteSource, position: int, meta: FileMeta) -> bytes | None:
    """Return what counts of how pixels are encapsulated, empty for none.

    None where the padding is not zero: nobody knows what it says.
    """
    fragments = hashlib.sha256(meta.transfer_syntax_uid.encode())
    found = False
    table = b""
    lengths: list[int] = []
    for kind, tag, _vr, start, end in ElementWalker(source, position, meta.encoding):
        if kind == VALUE and tag == _TRAILING_PADDING and not _is_zero(source, start, end):
            return None
        if kind == FRAGMENTS:
            found, lengths = True, []
        elif kind == FRAGMENT:
            if not lengths:
                table = source.read(start, min(end - start, _CHUNK))
            lengths.append(end - start)
        elif lengths:
            fragments.update(repr(lengths[1:]).encode())
            if 1 < len(table) // _OFFSET < len(lengths) - 1:
                fragments.update(table)
            lengths = []
    return fragments.digest() if found else b""


def _is_zero(source: ByteSource, start: int, end: int) -> bool:
    return not any(
        any(source.read(position, min(_CHUNK, end - position)))
        for position in range(start, end, _CHUNK)
    )
