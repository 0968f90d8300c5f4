"""The Part 10 scanner: identity and attributes of a DICOM file without decoding it.

Own code instead of a library, because it meets every file of an archive, hostile ones too: it is
iterative and bounded (see `elements`), reads by pread only what it needs, steps over large values,
and says what is wrong with a file instead of mending it in silence. The data set is walked at the
top level; sequences of defined length are looked into for a while, then stepped over.
"""

from __future__ import annotations

from pathlib import Path

from dcmvault.dicom.byte_source import ByteSource, FileBytes, InflatedBytes
from dcmvault.dicom.elements import ElementWalker
from dcmvault.dicom.encoding import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    HEADER_SIZES,
    ITEM,
    ITEM_BYTES,
    PIXEL_TAGS,
    SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH,
    Encoding,
    Header,
    name_of,
    parse_header,
)
from dcmvault.dicom.file_meta import FileMeta, claims_to_be_dicom, read_file_meta
from dcmvault.dicom.instance_header import (
    HEADER_TAGS,
    IDENTITY_TAGS,
    INSTANCE_NUMBER,
    instance_header,
)
from dcmvault.dicom.nesting import (
    MAX_ELEMENTS,
    DepthLimitError,
    ElementLimitError,
    TruncatedError,
)
from dcmvault.dicom.plain_runs import DEEP_BYTES, MAX_TEXT, run_over
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import InstanceHeader

__all__ = ["claims_to_be_dicom", "scan"]

_LAST_HEADER_GROUP = max(HEADER_TAGS) >> 16

#: Elements looked at inside sequences of defined length, per file (counted as MAX_ELEMENTS are).
_PROBE_ELEMENTS = 1024
#: Inflated bytes within which the attributes of a deflated data set must come.
_MAX_INFLATED = 64 << 20
_MAX_FLAWS = 20

#: What the hot loops look out for, as they read it: raw tag to tag.
_WANTED = {
    big: {encoding.raw_tag(tag): tag for tag in HEADER_TAGS}
    for big, encoding in ((False, EXPLICIT_LITTLE), (True, EXPLICIT_BIG))
}


def scan(path: Path) -> InstanceHeader:
    """Read what a Part 10 file says it is.

    Pixels are never read. What is wrong though it parses is in `InstanceHeader.flaws`; UIDs that
    the data set lacks are empty strings, never taken from elsewhere. The pixel data of an
    encapsulated syntax end before their sequence delimitation item.
    Raises MalformedDicomError for what cannot be read as DICOM or breaks a limit, and OSError.
    """
    with FileBytes(path) as file:
        meta = read_file_meta(file)
        if not meta.deflated:
            return _Scan(file, meta, meta.data_set_start, meta.encoding).run()
        inflated = InflatedBytes(file, meta.data_set_start, _MAX_INFLATED)
        try:
            header = _Scan(inflated, meta, 0, meta.encoding, deflated_end=file.size).run()
        finally:
            inflated.close()
        return header


class _Scan:
    """One scan: where it is, and what it found."""

    __slots__ = (
        "_allowance",
        "_deflated_end",
        "_encoding",
        "_end",
        "_flaws",
        "_found",
        "_meta",
        "_odd",
        "_pixels",
        "_position",
        "_probe_allowance",
        "_source",
        "_walker",
    )

    def __init__(
        self,
        source: ByteSource,
        meta: FileMeta,
        position: int,
        encoding: Encoding,
        *,
        deflated_end: int = -1,
    ) -> None:
        self._source = source
        self._meta = meta
        self._encoding = encoding
        self._position = position
        self._deflated_end = deflated_end
        self._found: dict[int, bytes] = {}
        self._flaws: list[str] = list(meta.flaws)
        self._odd: int = 0
        self._allowance = MAX_ELEMENTS
        self._probe_allowance = _PROBE_ELEMENTS
        self._pixels = (-1, -1)
        self._end = -1
        self._walker: ElementWalker | None = None

    def run(self) -> InstanceHeader:
        """Walk the top level and put the header together."""
        source, start = self._source, self._position
        wanted = _WANTED[self._encoding.big_endian]
        try:
            while self._end < 0:
                # After pixel data rubbish may come, at which the hot loops do not look twice.
                if self._pixels[0] < 0:
                    position, encoding = self._position, self._encoding
                    self._position, self._allowance, odd_at = run_over(
                        source,
                        encoding,
                        position,
                        source.size,
                        self._allowance,
                        wanted,
                        self._found,
                    )
                    self._odd = self._odd or odd_at
                if self._deflated_end >= 0 and self._identified() and self._past_header():
                    break
                if self._position == source.size:
                    self._end = self._position
                else:
                    self._odd_one_out()
        except ElementLimitError as limit:
            if not self._identified():
                raise
            self._flaw(limit.message)
            self._end = source.size
        if not self._found and self._position == start:
            raise MalformedDicomError(f"No data element can be read from byte {start} on.")
        return self._header()

    # Whatever the hot loops leave

    def _odd_one_out(self) -> None:
        """Take one element that is no plain value: sequences, pixel data, the end, damage."""
        buffer, base = self._source.window(self._position)
        header = parse_header(buffer, self._position - base, base, self._encoding)
        if header is None or header.vr not in HEADER_SIZES or self._pixels[0] >= 0:
            # Not surely an element: the walker knows what to make of it, or raises.
            walker = self._walk_on()
            if not walker.more():
                self._end = self._position
                if walker.trailing_start >= 0:
                    left = self._source.size - self._end
                    self._flaw(
                        f"After the data set, {left} bytes at byte {self._end} do not parse."
                    )
                return
            header = walker.peek()
        stop = header.start + header.length
        sound = header.length != UNDEFINED_LENGTH and stop <= self._source.size
        if header.tag in PIXEL_TAGS and header.vr != b"SQ":
            self._take_pixels(header, sound=sound)
        elif sound and (
            header.vr == b"SQ" or self._hides_items(header.tag, header.vr, header.start, stop)
        ):
            self._probe(header)
        else:
            self._take_other(header)

    def _walk_on(self) -> ElementWalker:
        """Return the walker, set to where the scan is."""
        walker = self._walker
        if walker is None:
            walker = ElementWalker(
                self._source, self._position, self._encoding, sequence_hint=self._hides_items
            )
            self._walker = walker
        if self._pixels[0] >= 0 and not walker.pixels_seen:
            walker.passed(max(PIXEL_TAGS))
        walker.position = self._position
        walker.allowance = self._allowance
        return walker

    def _hides_items(self, tag: int, vr: bytes, start: int, end: int) -> bool:
        """Say whether an implicit VR value may be a deep sequence: only those matter here."""
        return (
            not vr
            and end - start >= DEEP_BYTES
            and not tag >> 16 & 1
            and self._source.read(start, 4) == ITEM_BYTES
        )

    def _take_pixels(self, header: Header, *, sound: bool) -> None:
        stop = header.start + header.length
        if sound:
            if header.length & 1:
                self._odd = self._odd or self._position
            self._position = stop
        elif header.length != UNDEFINED_LENGTH:
            self._cut_off("Pixel Data", header)
            stop = self._source.size
        else:
            stop = self._fragments_end(header.start)
        if stop < 0:
            self._cut_off("Pixel Data", header)
            stop = self._source.size
        if self._pixels[0] < 0:
            self._pixels = (header.start, stop)

    def _fragments_end(self, position: int) -> int:
        """Walk over the items of encapsulated pixel data (PS3.5 A.4); set `_position` after them.

        Returns where the sequence delimitation item begins; -1 if the data end before it.
        """
        source, plain_header = self._source, self._encoding.plain_header
        while self._allowance > 0:
            buffer, base = source.window(position)
            at = position - base
            if len(buffer) - at < 8:
                return -1
            group, element, length = plain_header(buffer, at)
            if group << 16 | element == SEQUENCE_DELIMITATION:
                self._position = position + 8
                return position
            if group << 16 | element != ITEM or length == UNDEFINED_LENGTH:
                raise MalformedDicomError(f"No fragment of Pixel Data begins at byte {position}.")
            position += 8 + length
            self._allowance -= 1
            if position > source.size:
                return -1
        raise ElementLimitError(f"More fragments than the limit of {MAX_ELEMENTS} elements.")

    def _probe(self, header: Header) -> None:
        """Look into a sequence of defined length; its end is known whatever is inside."""
        stop = header.start + header.length
        granted = min(self._probe_allowance, self._allowance)
        walker = self._walk_on()
        walker.allowance = granted
        try:
            walker.skip(header)
        except DepthLimitError:
            raise
        except ElementLimitError:
            walker.allowance = 0
            walker.abandon(stop)
        except MalformedDicomError as error:
            self._flaw(f"Inside {name_of(header.tag)}: {error.message}")
            walker.abandon(stop)
        used = granted - max(walker.allowance, 0)
        self._probe_allowance -= used
        walker.allowance = self._allowance - used - 1
        self._walked(walker)

    def _take_other(self, header: Header) -> None:
        walker, position = self._walk_on(), self._position
        try:
            walker.skip(header)
        except TruncatedError:
            self._cut_off(name_of(header.tag), header)
            return
        self._walked(walker)
        if header.length == UNDEFINED_LENGTH:
            return
        if header.tag in HEADER_TAGS:
            value = self._source.read(header.start, min(header.length, MAX_TEXT))
            self._found[header.tag] = value
        if header.tag >> 16 == 0xFFFE:
            self._flaw(f"A delimiter without a sequence stands at byte {position}.")
        elif header.vr not in HEADER_SIZES and self._encoding.explicit:
            what = "an unknown VR" if header.vr else "no VR in a data set of explicit VR"
            self._flaw(f"{name_of(header.tag)} at byte {position} has {what}.")
        if header.length & 1:
            self._odd = self._odd or position

    def _walked(self, walker: ElementWalker) -> None:
        self._position = walker.position
        self._allowance = walker.allowance
        self._odd = self._odd or walker.odd_at

    def _cut_off(self, what: str, header: Header) -> None:
        """Note that the file ends inside a top-level element; the scan is over."""
        size = self._source.size
        if self._deflated_end >= 0:
            raise MalformedDicomError(
                f"{what} of the deflated data set goes on past the {size} inflated bytes to be had."
            )
        if header.length == UNDEFINED_LENGTH:
            self._flaw(f"{what} has no end, file has {size} bytes.")
        else:
            self._flaw(f"{what} ends at byte {header.start + header.length}, file has {size}.")
        self._position = self._end = size
        if self._walker is not None:
            self._walker.abandon(size)

    # The header

    def _identified(self) -> bool:
        return self._found.keys() >= IDENTITY_TAGS

    def _past_header(self) -> bool:
        """Say whether the element at `_position` comes after all that are wanted."""
        if INSTANCE_NUMBER in self._found:
            return True
        group = self._source.read(self._position, 2)
        return int.from_bytes(group, "little") > _LAST_HEADER_GROUP

    def _flaw(self, sentence: str) -> None:
        if len(self._flaws) < _MAX_FLAWS:
            self._flaws.append(sentence)

    def _header(self) -> InstanceHeader:
        if self._odd:
            self._flaw(f"The element at byte {self._odd} has an odd length.")
        deflated = self._deflated_end >= 0
        return instance_header(
            self._meta,
            self._found,
            self._flaws,
            data_set_end=self._deflated_end if deflated else self._end,
            pixels=(-1, -1) if deflated else self._pixels,
        )
