"""The DICOM JSON model (PS3.18 Annex F), made of a header as it stands, or of answers to a query.

Values are told as they are, also those that break the rules of their VR. What is long, or can be
told in bytes only, becomes a reference; pixel data always do. A header is walked with the limits
of every walk, and only what stands before its pixel data is read.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom.datadict import dictionary_VR

from dcmvault.dicom.attributes import CHARACTER_SET, TEXT_VRS, vr_of
from dcmvault.dicom.byte_source import ByteSource, InflatedBytes
from dcmvault.dicom.digest import turned, width_of
from dcmvault.dicom.elements import ElementWalker, is_item_list
from dcmvault.dicom.encoding import HEADER_SIZES, PIXEL_TAGS, Encoding
from dcmvault.dicom.file_meta import read_file_meta
from dcmvault.dicom.header_values import text_of
from dcmvault.dicom.nesting import (
    FRAGMENTS,
    ITEM_END,
    ITEM_START,
    SEQUENCE,
    SEQUENCE_END,
    VALUE,
    Event,
)
from dcmvault.dicom.pixel_shape import PIXEL_REPRESENTATION

#: A data set: attributes by eight hexadecimal digits.
JsonDataSet = dict[str, object]

_UTF_8 = "ISO_IR 192"
#: Longer values of bytes and numbers are told by reference; all longer texts, too.
_LONGEST_INLINE = 1024
_LONGEST_TEXT = 64 * 1024
#: Values together: what is beyond is told by reference, however short.
_LONGEST_DATA_SET = 16 << 20
_MOST_INFLATED = 64 << 20
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}
_SINGLE_TEXTS = frozenset(["LT", "ST", "UT", "UR"])
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
#: Integers that JSON's readers keep.
_LARGEST_INTEGER = 1 << 53


def json_of_values(attributes: Mapping[int, str]) -> JsonDataSet:
    """Tell the values of an answer to a query."""
    return {f"{tag:08X}": _attribute(vr_of(tag), text) for tag, text in sorted(attributes.items())}


@contextmanager
def opened_data_set(source: ByteSource) -> Iterator[tuple[ByteSource, int, Encoding]]:
    """Give the data set of a Part 10 file: inflated where it is deflated, where it starts, how.

    Raises MalformedDicomError.
    """
    meta = read_file_meta(source)
    if not meta.deflated:
        yield source, meta.data_set_start, meta.encoding
        return
    inflated = InflatedBytes(source, meta.data_set_start, _MOST_INFLATED)
    try:
        yield inflated, 0, meta.encoding
    finally:
        inflated.close()


def json_of_header(source: ByteSource, bulk_root: str) -> JsonDataSet:
    """Tell a Part 10 file up to its pixel data. Raises MalformedDicomError.

    The address of a long value is `bulk_root` and its path: tags, and items counted from 1.
    """
    with opened_data_set(source) as (data, position, encoding):
        return _Header(data, position, encoding, bulk_root).tell()


def bulk_value(source: ByteSource, path: str) -> bytes | None:
    """Return the value that `json_of_header` referred to by a path; None where there is none.

    In little endian. Raises MalformedDicomError.
    """
    with opened_data_set(source) as (data, position, encoding):
        for at, (kind, _tag, vr, start, end) in PlacedWalk(data, position, encoding):
            if kind == VALUE and at == path:
                value = data.read(start, end - start)
                return turned(value, width_of(vr)) if encoding.big_endian and vr else value
    return None


@dataclass(slots=True)
class PlacedWalk:
    """A walk over a data set that says at which path each event stands; ends at pixel data."""

    source: ByteSource
    position: int
    encoding: Encoding
    _walker: ElementWalker = field(init=False)
    _path: list[str] = field(default_factory=list)
    _items: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._walker = ElementWalker(
            self.source, self.position, self.encoding, sequence_hint=self._is_sequence
        )

    def __iter__(self) -> Iterator[tuple[str, Event]]:
        """Yield (path, event); of pixel data the header only, as a value without a length.

        Of a compressed icon image nothing is told.
        """
        while self._walker.more():
            header = self._walker.peek()
            if header.tag in PIXEL_TAGS:
                start = header.start
                yield f"{header.tag:08X}", (VALUE, header.tag, header.vr, start, start)
                return
            in_fragments = False
            for event in self._walker.element():
                kind = event[0]
                in_fragments |= kind == FRAGMENTS
                if not in_fragments:
                    yield self._placed(event), event
                in_fragments &= kind != SEQUENCE_END

    def _placed(self, event: Event) -> str:
        kind, tag = event[:2]
        if kind == ITEM_START:
            self._items[-1] += 1
            self._path[-1] = str(self._items[-1])
            return "/".join(self._path)
        if kind == SEQUENCE:
            self._path += [f"{tag:08X}", ""]
            self._items.append(0)
        elif kind == SEQUENCE_END and self._items:
            del self._path[-2:]
            self._items.pop()
        return "/".join((*self._path, f"{tag:08X}"))

    def _is_sequence(self, tag: int, vr: bytes, start: int, end: int) -> bool:
        """Say whether a value in implicit VR is a sequence by PS3.6, and reads as one."""
        if vr or vr_of(tag) != "SQ":
            return False
        answer, self._walker.allowance = is_item_list(
            self.source, start, end, self._walker.allowance
        )
        return answer


class _Header:
    """One header on its way to JSON."""

    def __init__(
        self, source: ByteSource, position: int, encoding: Encoding, bulk_root: str
    ) -> None:
        self._source = source
        self._walk = PlacedWalk(source, position, encoding)
        self._is_big = encoding.big_endian
        self._bulk_root = bulk_root
        #: Data sets that are open, the innermost last, and the character set and sign of each.
        self._open: list[JsonDataSet] = [{}]
        self._character_sets = [b""]
        self._signed = [False]
        self._sequences: list[list[JsonDataSet]] = []
        self._told = 0

    def tell(self) -> JsonDataSet:
        for path, event in self._walk:
            kind, tag = event[:2]
            if kind == VALUE:
                self._value(path, event)
            elif kind == SEQUENCE:
                items: list[JsonDataSet] = []
                self._open[-1][f"{tag:08X}"] = {"vr": "SQ", "Value": items}
                self._sequences.append(items)
            elif kind == ITEM_START:
                self._open.append({})
                self._sequences[-1].append(self._open[-1])
                self._character_sets.append(self._character_sets[-1])
                self._signed.append(self._signed[-1])
            elif kind == ITEM_END:
                del self._open[-1], self._character_sets[-1], self._signed[-1]
            elif kind == SEQUENCE_END and self._sequences:
                self._sequences.pop()
        return _without_empty(self._open[0])

    def _value(self, path: str, event: Event) -> None:
        _kind, tag, written, start, end = event
        if not tag & 0xFFFF or tag >> 16 in (0x0002, 0xFFFE):
            return
        vr = self._vr(tag, written)
        name = f"{tag:08X}"
        length = end - start
        if tag in PIXEL_TAGS:
            self._open[-1][name] = {"vr": vr, "BulkDataURI": self._bulk_root + path}
            return
        is_text = vr in TEXT_VRS or vr == "AT"
        longest = _LONGEST_TEXT if is_text else _LONGEST_INLINE
        if length > longest or self._told + length > _LONGEST_DATA_SET:
            self._open[-1][name] = {"vr": vr, "BulkDataURI": self._bulk_root + path}
            return
        self._told += length
        value = self._source.read(start, length)
        if tag == CHARACTER_SET:
            self._character_sets[-1] = value
            self._open[-1][name] = {"vr": "CS", "Value": [_UTF_8]}
            return
        if tag == PIXEL_REPRESENTATION:
            self._signed[-1] = value[-1 if self._is_big else 0 :][:1] == b"\1"
        order = ">" if self._is_big and written else "<"
        self._open[-1][name] = self._told_value(vr, value, order)

    def _told_value(self, vr: str, value: bytes, order: str) -> JsonDataSet:
        form = _NUMBERS.get(vr)
        if form is not None and not len(value) % struct.calcsize(form):
            count = len(value) // struct.calcsize(form)
            numbers = struct.unpack(f"{order}{count}{form}", value)
            return {"vr": vr, "Value": list(map(_number, numbers))} if numbers else {"vr": vr}
        if vr in TEXT_VRS or vr == "AT":
            return _attribute(vr, text_of(vr, value, self._character_sets[-1], order))
        if not value:
            return {"vr": vr}
        return {"vr": vr, "InlineBinary": base64.b64encode(value).decode("ascii")}

    def _vr(self, tag: int, written: bytes) -> str:
        if written in HEADER_SIZES and written != b"UN":
            return written.decode("ascii")
        if written or tag >> 16 & 1:
            return "LO" if not written and 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
        try:
            known = dictionary_VR(tag)
        except KeyError:
            return "UN"
        if known == "US or SS":
            return "SS" if self._signed[-1] else "US"
        if " or " in known:
            return "OW"
        return "UN" if known == "SQ" else known


def _without_empty(data_set: JsonDataSet) -> JsonDataSet:
    """Leave out the value of sequences without items, as of everything that is empty."""
    pending = [data_set]
    while pending:
        for attribute in pending.pop().values():
            if isinstance(attribute, dict) and attribute.get("vr") == "SQ":
                items = attribute.get("Value")
                if items:
                    pending.extend(items)
                else:
                    attribute.pop("Value", None)
    return data_set


def _attribute(vr: str, text: str) -> JsonDataSet:
    """Tell a value that was read as text."""
    if not text:
        return {"vr": vr}
    texts = [text] if vr in _SINGLE_TEXTS else text.split("\\")
    return {"vr": vr, "Value": [_one(vr, one) for one in texts]}


def _one(vr: str, text: str) -> object:
    if not text:
        return None
    if vr == "PN":
        groups = zip(_NAME_GROUPS, text.split("="), strict=False)
        return {name: group for name, group in groups if group} or None
    if vr in ("DS", "FL", "FD"):
        try:
            return _number(float(text))
        except ValueError:
            return text
    if vr in ("IS", *_NUMBERS):
        try:
            return _number(int(text))
        except ValueError:
            return text
    return text


def _number(number: float) -> object:
    """Tell a number; as text where JSON has none (PS3.18 section F.2.3.1)."""
    if isinstance(number, int):
        return number if abs(number) <= _LARGEST_INTEGER else str(number)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "inf" if number > 0 else "-inf"
