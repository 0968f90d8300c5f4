"""Digests: of a file's bytes, and of a data set's content whatever encoding it travels in.

`dsd1`, the canonical data set digest, is equal for two Part 10 files that hold the same data set
even if a peer re-encoded it. It is SHA-256 over the canonical form defined here. This definition
is frozen, as is the table it uses (`vr_table`): any change gets another name.

    digest  = "dsd1:" + hex(SHA-256("dsd1" + records))
    records = the records of the data set's elements, ordered by tag (equal tags: as they stand)
    record  = group (2 bytes, big endian) + element (2 bytes, big endian) + kind (1 byte)
              + SHA-256(content)

kind "V", a value: content is the canonical value.
kind "S", a sequence with at least one item: content is the items' digests in order, each
    SHA-256("dsd1-item" + records of the item). A sequence without items is an empty value.
kind "E", encapsulated pixel data: content is the fragments' bytes joined, without the first
    fragment (the basic offset table): peers may write another table and other fragments.

Left out everywhere: preamble and file meta information, group lengths (gggg,0000), group 0002,
delimiters, Data Set Trailing Padding (FFFC,FFFC), the extended offset table (7FE0,0001) and its
lengths (7FE0,0002), and bytes after the data set that do not parse. VRs and lengths are left out
too: implicit VR forgets the ones, and peers choose the others. A deflated data set is inflated.

The canonical value depends on the tag, by the frozen table:
 1. Big endian values are turned to little endian by the width of the VR in the file (AT, OW, SS,
    US: 2; FL, OF, OL, SL, UL: 4; FD, OD, OV, SV, UV: 8). UN is little endian already (PS3.5
    6.2.2).
 2. TEXT: trailing NULs and spaces are cut off, whatever VR the file gives. So for private
    creators.
 3. BINARY: as it stands.
 4. UNKNOWN (private, or newer than the table) of at most 65,536 bytes: trailing spaces are cut
    off, whatever VR the file gives; longer ones as they stand. NULs stay: without the VR, text
    and numbers look alike, and cutting spaces only can never make two values of equal length
    equal.

An element is a sequence if its VR is SQ or its length undefined (and it is not encapsulated);
and, because implicit VR and UN hide sequences, if the table says SEQUENCE or UNKNOWN (then of at
most 16 MiB) and its value is, to the last byte, a list of items in implicit VR little endian.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Collection, Iterable
from pathlib import Path

from dcmvault.dicom.byte_source import ByteSource, FileBytes, InflatedBytes
from dcmvault.dicom.elements import ElementWalker, is_item_list
from dcmvault.dicom.encoding import ITEM_BYTES, Encoding
from dcmvault.dicom.file_meta import read_file_meta
from dcmvault.dicom.nesting import (
    FRAGMENT,
    FRAGMENTS,
    ITEM_END,
    ITEM_START,
    SEQUENCE,
    SEQUENCE_END,
    VALUE,
)
from dcmvault.dicom.vr_table import ValueKind, value_kind
from dcmvault.errors import MalformedDicomError

#: Bytes read at once, however long the value.
_CHUNK = 1 << 20
#: Longest UNKNOWN value of which padding is cut off, and that may hide a sequence.
_MAX_UNKNOWN_TEXT = 64 << 10
_MAX_HIDDEN_SEQUENCE = 16 << 20
#: Inflated bytes of a deflated data set, at most.
MAX_INFLATED = 512 << 20

#: Array type codes by VR, to turn big endian values.
_WIDTHS = {
    **dict.fromkeys((b"AT", b"OW", b"SS", b"US"), "H"),
    **dict.fromkeys((b"FL", b"OF", b"OL", b"SL", b"UL"), "I"),
    **dict.fromkeys((b"FD", b"OD", b"OV", b"SV", b"UV"), "Q"),
}
_LEFT_OUT = frozenset({0xFFFCFFFC, 0x7FE00001, 0x7FE00002})
_record_head = struct.Struct(">Lc").pack


def file_sha256(path: Path) -> bytes:
    """Return the SHA-256 of a file's bytes (32 bytes), read in pieces of 1 MiB."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").digest()


def data_set_digest(path: Path | int) -> str:
    """Return the `dsd1:` digest of a Part 10 file (or of a bare data set, read as by the scanner).

    A descriptor stays open. Memory stays bounded whatever the file's size. Raises
    MalformedDicomError where the data set is cut off or does not parse to its end, at any depth:
    what is not whole has no digest.
    """
    with FileBytes(path) as file:
        meta = read_file_meta(file)
        if not meta.deflated:
            return elements_digest(file, meta.data_set_start, meta.encoding)
        inflated = InflatedBytes(file, meta.data_set_start, MAX_INFLATED)
        try:
            return elements_digest(inflated, 0, meta.encoding)
        finally:
            inflated.close()


def elements_digest(
    source: ByteSource,
    position: int,
    encoding: Encoding,
    leave_out: Collection[int] = (),
) -> str:
    """Return the digest of the data set at `position`, as `data_set_digest` does.

    With `leave_out` it is no `dsd1` any more, only comparable with its like: top-level elements
    of these tags do not count, nor do those of group 7FE0 at any depth.
    """
    return _DataSetDigest(source, position, encoding, leave_out).compute()


def element_digests(source: ByteSource, position: int, encoding: Encoding) -> dict[int, bytes]:
    """Return what `dsd1` counts of each top-level element, by tag: equal means equal to `dsd1`.

    A tag that stands twice is one entry for both. Raises as `data_set_digest`.
    """
    found: dict[int, bytes] = {}
    for record in _DataSetDigest(source, position, encoding, ()).records():
        tag = int.from_bytes(_tag_of(record), "big")
        found[tag] = found.get(tag, b"") + record[4:]
    return found


class _DataSetDigest:
    """One computation of `dsd1`, iterative: one list of records for each open data set or item."""

    def __init__(
        self, source: ByteSource, position: int, encoding: Encoding, leave_out: Collection[int]
    ) -> None:
        self._source = source
        self._leave_out = leave_out
        self._big_endian = encoding.big_endian
        self._walker = ElementWalker(source, position, encoding, sequence_hint=self._hides_sequence)
        self._records: list[list[bytes]] = [[]]
        #: Per open sequence the digests of its items; tags by the side.
        self._items: list[list[bytes]] = []
        self._fragments: hashlib._Hash | None = None
        self._offset_table_passed = False

    def compute(self) -> str:
        """Walk the data set to its end and digest it."""
        return "dsd1:" + _digest(b"dsd1", self.records()).hex()

    def records(self) -> list[bytes]:
        """Walk the data set to its end and return the records of its elements, as they stand."""
        for kind, tag, vr, start, end in self._walker:
            if kind == VALUE:
                self._value(tag, vr, start, end)
            elif kind == ITEM_START:
                self._records.append([])
            elif kind == ITEM_END:
                records = self._records.pop()
                self._items[-1].append(_digest(b"dsd1-item", records))
            elif kind == SEQUENCE:
                self._items.append([])
            elif kind == FRAGMENTS:
                self._fragments, self._offset_table_passed = hashlib.sha256(), False
            elif kind == FRAGMENT:
                self._fragment(start, end)
            elif kind == SEQUENCE_END:
                self._close(tag)
        return self._records[0]

    def _add(self, tag: int, kind: bytes, content: bytes) -> None:
        if tag in self._leave_out and (tag >> 16 == 0x7FE0 or len(self._records) == 1):
            return
        if tag & 0xFFFF and tag >> 16 not in (0x0002, 0xFFFE) and tag not in _LEFT_OUT:
            self._records[-1].append(_record_head(tag, kind) + content)

    def _close(self, tag: int) -> None:
        if self._fragments is not None:
            self._add(tag, b"E", self._fragments.digest())
            self._fragments = None
            return
        items = self._items.pop()
        self._add(tag, b"S" if items else b"V", hashlib.sha256(b"".join(items)).digest())

    def _fragment(self, start: int, end: int) -> None:
        if self._fragments is not None and self._offset_table_passed:
            self._feed(self._fragments, start, end)
        self._offset_table_passed = True

    def _value(self, tag: int, vr: bytes, start: int, end: int) -> None:
        kind = value_kind(tag)
        width = width_of(vr) if self._big_endian else ""
        if kind == ValueKind.TEXT:
            end = self._without_padding(start, end)
        elif kind == ValueKind.UNKNOWN and end - start <= _MAX_UNKNOWN_TEXT:
            value = turned(self._read(start, end), width).rstrip(b" ")
            self._add(tag, b"V", hashlib.sha256(value).digest())
            return
        hasher = hashlib.sha256()
        self._feed(hasher, start, end, width)
        self._add(tag, b"V", hasher.digest())

    def _without_padding(self, start: int, end: int) -> int:
        """Return where a text value ends without its trailing NULs and spaces."""
        while end > start:
            begin = max(start, end - 4096)
            kept = self._read(begin, end).rstrip(b"\0 ")
            if kept:
                return begin + len(kept)
            end = begin
        return end

    def _hides_sequence(self, tag: int, _vr: bytes, start: int, end: int) -> bool:
        """Say whether a value is a sequence by rule (see the module), though no VR says so."""
        if self._source.read(start, 4) != ITEM_BYTES:
            return False
        kind = value_kind(tag)
        if kind == ValueKind.UNKNOWN:
            if end - start > _MAX_HIDDEN_SEQUENCE:
                return False
        elif kind != ValueKind.SEQUENCE:
            return False
        walker = self._walker
        answer, walker.allowance = is_item_list(self._source, start, end, walker.allowance)
        return answer

    def _read(self, start: int, end: int) -> bytes:
        data = self._source.read(start, end - start)
        if len(data) != end - start:
            raise MalformedDicomError(f"The data end inside the value that begins at byte {start}.")
        return data

    def _feed(self, hasher: hashlib._Hash, start: int, end: int, width: str = "") -> None:
        for position in range(start, end, _CHUNK):
            hasher.update(turned(self._read(position, min(position + _CHUNK, end)), width))


def _digest(domain: bytes, records: list[bytes]) -> bytes:
    """Hash records in the order of their tags, which are their first four bytes."""
    records.sort(key=_tag_of)
    return hashlib.sha256(domain + b"".join(records)).digest()


def _tag_of(record: bytes) -> bytes:
    return record[:4]


def width_of(vr: bytes) -> str:
    """Return the array type code of what big endian turns in a VR; empty where it turns nothing."""
    return _WIDTHS.get(vr, "")


def turned(data: bytes, width: str) -> bytes:
    """Turn the byte order of numbers; an incomplete last one stays as it stands."""
    if not width:
        return data
    numbers = array(width)
    whole = len(data) - len(data) % numbers.itemsize
    numbers.frombytes(data[:whole])
    numbers.byteswap()
    return numbers.tobytes() + data[whole:]


def merkle_root(digests: Iterable[bytes]) -> bytes:
    """Return the Merkle root of digests, whatever their order (repeated ones count).

    As RFC 6962 section 2.1 over the sorted digests: SHA-256 of 00 + digest for a leaf, of 01 +
    left + right for a node, of nothing for no digests; an odd node is carried up.
    """
    level = [hashlib.sha256(b"\x00" + digest).digest() for digest in sorted(digests)]
    if not level:
        return hashlib.sha256().digest()
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        pairs = zip(level[0::2], level[1::2], strict=False)
        level = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs] + odd
    return level[0]
