"""The Part 10 scanner: identity and attributes of a DICOM file without decoding it.

Own code instead of a library, because it meets every file of an archive, hostile ones too: it is
iterative and bounded (see `elements`), reads by pread only what it needs, steps over large values,
and says what is wrong with a file instead of mending it in silence. The data set is walked at the
top level; what is inside sequences is for `digest` to judge, which walks every depth.
"""

from __future__ import annotations

from pathlib import Path

from dcmvault.dicom.byte_source import ByteSource, FileBytes, InflatedBytes
from dcmvault.dicom.elements import ElementWalker
from dcmvault.dicom.encoding import (
    HEADER_SIZES,
    IMPLICIT_LITTLE,
    PIXEL_TAGS,
    UNDEFINED_LENGTH,
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
from dcmvault.dicom.nesting import MAX_ELEMENTS, ElementLimitError, TruncatedError
from dcmvault.dicom.plain_runs import MAX_TEXT, Wanted, run_over
from dcmvault.dicom.undefined_length import skip_sequence
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import InstanceHeader

__all__ = ["claims_to_be_dicom", "scan", "scan_bytes"]

_LAST_HEADER_GROUP = max(HEADER_TAGS) >> 16

#: Elements that one which is no plain value counts for: it takes about as long.
_RARE_COST = 16
#: Inflated bytes within which the attributes of a deflated data set must come.
_MAX_INFLATED = 64 << 20
_MAX_FLAWS = 20
#: After a fragment of this many bytes no more than the next header is read.
_FAR = 4096

_WANTED = Wanted(HEADER_TAGS)


def scan(path: Path) -> InstanceHeader:
    """Read what a Part 10 file says it is.

    Pixels are never read. What is wrong though it parses is in `InstanceHeader.flaws`; UIDs that
    the data set lacks are empty strings, never taken from elsewhere. The pixel data of an
    encapsulated syntax end before their sequence delimitation item.
    Raises MalformedDicomError for what cannot be read as DICOM or breaks a limit, and OSError.
    """
    with FileBytes(path) as file:
        return scan_bytes(file)


def scan_bytes(file: ByteSource) -> InstanceHeader:
    """Read what the bytes of a Part 10 file say it is, as `scan`."""
    meta = read_file_meta(file)
    if not meta.deflated:
        return _Scan(file, meta, meta.data_set_start).run()
    inflated = InflatedBytes(file, meta.data_set_start, _MAX_INFLATED)
    try:
        return _Scan(inflated, meta, 0, deflated_end=file.size).run()
    finally:
        inflated.close()


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
        "_source",
        "_walker",
    )

    def __init__(
        self,
        source: ByteSource,
        meta: FileMeta,
        position: int,
        *,
        deflated_end: int = -1,
    ) -> None:
        self._source = source
        self._meta = meta
        self._encoding = meta.encoding
        self._position = position
        self._deflated_end = deflated_end
        self._found: dict[int, bytes] = {}
        self._flaws: list[str] = list(meta.flaws)
        self._odd = 0
        self._allowance = MAX_ELEMENTS
        self._pixels = (-1, -1)
        self._end = -1
        self._walker: ElementWalker | None = None

    def run(self) -> InstanceHeader:
        """Walk the top level and put the header together."""
        source, start = self._source, self._position
        try:
            while self._end < 0:
                # After pixel data rubbish may come, at which the hot loops do not look twice.
                if self._pixels[0] < 0:
                    self._position, self._allowance, odd_at = run_over(
                        source,
                        self._encoding,
                        self._position,
                        self._allowance,
                        _WANTED,
                        self._found,
                    )
                    self._odd = self._odd or odd_at
                if self._deflated_end >= 0 and self._identified() and self._past_header():
                    break
                if self._position == source.size:
                    self._end = self._position
                else:
                    self._rare_element()
        except ElementLimitError as limit:
            if not self._identified():
                raise
            self._flaw(limit.message)
            self._end = source.size
        if not self._found and self._position == start:
            raise MalformedDicomError(f"No data element can be read from byte {start} on.")
        return self._header()

    # Whatever the hot loops leave

    def _rare_element(self) -> None:
        """Take one element that is no plain value: undefined length, pixel data, damage."""
        position = self._position
        self._allowance -= _RARE_COST
        if self._allowance < 0:
            raise ElementLimitError(
                f"More elements than the limit of {MAX_ELEMENTS} up to byte {position}."
            )
        buffer, base = self._source.window(position)
        header = parse_header(buffer, position - base, base, self._encoding)
        if header is None or not self._surely_element(header):
            header = self._element_in_doubt()
            if header is None:
                return
        is_pixels = header.tag in PIXEL_TAGS and header.vr != b"SQ"
        try:
            if header.length != UNDEFINED_LENGTH:
                end = self._step_over(header)
            elif is_pixels:
                end = self._step_over_fragments(header.start)
            else:
                end = self._step_over_items(header)
        except TruncatedError:
            self._cut_off("Pixel Data" if is_pixels else name_of(header.tag), header)
            end = self._source.size
        if is_pixels and self._pixels[0] < 0:
            self._pixels = (header.start, end)

    def _surely_element(self, header: Header) -> bool:
        """Say whether a header can hardly be anything but one of a top-level element."""
        tag, vr, length, start = header
        after_pixels = self._pixels[0] >= 0
        if not self._encoding.explicit:
            return tag >> 16 not in (0, 0xFFFE) and not after_pixels
        fits = length != UNDEFINED_LENGTH and start + length <= self._source.size
        return vr in HEADER_SIZES and (fits or not after_pixels)

    def _element_in_doubt(self) -> Header | None:
        """Return the header at `_position` if it is one; note what is there if it is none.

        Raises MalformedDicomError if nothing says that the data set ends there.
        """
        walker = self._walker
        if walker is None:
            walker = self._walker = ElementWalker(self._source, self._position, self._encoding)
        if self._pixels[0] >= 0 and not walker.pixels_seen:
            walker.passed(max(PIXEL_TAGS))
        walker.position = self._position
        if walker.more():
            header = walker.peek()
            walker.passed(header.tag)
            return header
        self._end = self._position
        if walker.trailing_start >= 0:
            left = self._source.size - self._end
            self._flaw(f"After the data set, {left} bytes at byte {self._end} do not parse.")
        return None

    def _step_over(self, header: Header) -> int:
        """Step over a value of defined length, which says where it ends."""
        position, size = self._position, self._source.size
        tag, vr, length, start = header
        if start + length > size:
            raise TruncatedError(f"{name_of(tag)} goes on past the end of the data.")
        if tag in HEADER_TAGS:
            self._found[tag] = self._source.read(start, min(length, MAX_TEXT))
        if tag >> 16 == 0xFFFE:
            self._flaw(f"A delimiter without a sequence stands at byte {position}.")
        elif vr not in HEADER_SIZES and self._encoding.explicit:
            what = "an unknown VR" if vr else "no VR in a data set of explicit VR"
            self._flaw(f"{name_of(tag)} at byte {position} has {what}.")
        if length & 1:
            self._odd = self._odd or position
        self._position = start + length
        return self._position

    def _step_over_fragments(self, position: int) -> int:
        """Step over the items of encapsulated pixel data (PS3.5 A.4) and their delimiter.

        Returns where the delimiter begins.
        """
        source, read_item = self._source, self._encoding.item_header
        item, _, end = self._encoding.raw_delimiters
        length = 0
        for left in range(self._allowance, 0, -1):
            if length < _FAR:
                buffer, base = source.window(position)
            else:
                buffer, base = source.read(position, 8), position
            at = position - base
            if len(buffer) - at < 8:
                raise TruncatedError("The data end where another fragment must begin.")
            raw, length = read_item(buffer, at)
            if raw == end:
                self._position, self._allowance = position + 8, left
                return position
            if raw != item or length == UNDEFINED_LENGTH:
                raise MalformedDicomError(f"No fragment of Pixel Data begins at byte {position}.")
            position += 8 + length
        raise ElementLimitError(f"More fragments than the limit of {MAX_ELEMENTS} elements.")

    def _step_over_items(self, header: Header) -> int:
        """Step over a sequence of undefined length."""
        if header.tag >> 16 == 0xFFFE:
            raise MalformedDicomError(
                f"The item delimiter {name_of(header.tag)} at byte {self._position} has no length."
            )
        # PS3.5 6.2.2: a sequence of unknown VR is written in implicit VR little endian.
        encoding = IMPLICIT_LITTLE if header.vr == b"UN" else self._encoding
        self._position, self._allowance = skip_sequence(
            self._source, encoding, header.start, self._allowance
        )
        return self._position

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
