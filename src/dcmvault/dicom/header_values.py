"""Values of some attributes, read from the header of one instance as text, without decoding it all.

What stands inside sequences or after the pixel data is not looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping

from dcmvault.dicom.attributes import CHARACTER_SET, ENCODED_VRS, NUMBER_VRS, TEXT_VRS, vr_of
from dcmvault.dicom.byte_source import ByteSource, InflatedBytes
from dcmvault.dicom.charset import decode_text
from dcmvault.dicom.encoding import (
    IMPLICIT_LITTLE,
    PIXEL_TAGS,
    UNDEFINED_LENGTH,
    Encoding,
    parse_header,
)
from dcmvault.dicom.file_meta import read_file_meta
from dcmvault.dicom.nesting import MAX_ELEMENTS
from dcmvault.dicom.plain_runs import Wanted, run_over
from dcmvault.dicom.undefined_length import skip_sequence
from dcmvault.errors import MalformedDicomError

#: Inflated bytes within which the attributes of a deflated data set must come.
_MAX_INFLATED = 64 << 20
#: Elements that one which is no plain value counts for.
_RARE_COST = 16
#: Longest value that is told, bytes.
_LONGEST_VALUE = 16 * 1024


class WantedValues:
    """Which attributes are looked for; made once for many headers."""

    def __init__(self, tags: Collection[int]) -> None:
        self.tags = frozenset(tags)
        self._wanted = Wanted({*tags, CHARACTER_SET})
        self._last = max({*tags, CHARACTER_SET})

    def read(self, source: ByteSource) -> Mapping[int, str]:
        """Return those that have a value. Raises MalformedDicomError where there is no header.

        From where a header is damaged nothing more is found.
        """
        meta = read_file_meta(source)
        if not meta.deflated:
            found = self._walk(source, meta.data_set_start, meta.encoding)
        else:
            inflated = InflatedBytes(source, meta.data_set_start, _MAX_INFLATED)
            try:
                found = self._walk(inflated, 0, meta.encoding)
            finally:
                inflated.close()
        character_set = found.get(CHARACTER_SET, b"")
        order = ">" if meta.encoding.big_endian else "<"
        texts = {
            tag: text_of(vr_of(tag), value, character_set, order)
            for tag, value in found.items()
            if tag in self.tags
        }
        return {tag: text for tag, text in texts.items() if text}

    def _walk(self, source: ByteSource, position: int, encoding: Encoding) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        allowance = MAX_ELEMENTS
        try:
            while True:
                position, allowance, _odd = run_over(
                    source, encoding, position, allowance, self._wanted, found
                )
                allowance -= _RARE_COST
                buffer, base = source.window(position)
                header = parse_header(buffer, position - base, base, encoding)
                if header is None or allowance < 0 or header.tag > self._last:
                    break
                if header.tag in PIXEL_TAGS or header.tag >> 16 == 0xFFFE:
                    break
                if header.length == UNDEFINED_LENGTH:
                    inner = IMPLICIT_LITTLE if header.vr == b"UN" else encoding
                    position, allowance = skip_sequence(source, inner, header.start, allowance)
                else:
                    # A long value of what is wanted, or a VR that nobody knows.
                    if header.tag in self.tags and header.length <= _LONGEST_VALUE:
                        found[header.tag] = source.read(header.start, header.length)
                    position = header.start + header.length
        except MalformedDicomError:
            return found
        return found


def text_of(vr: str, value: bytes, character_set: bytes, order: str = "<") -> str:
    """Return a value as text: numbers in decimal, several values divided by backslashes."""
    if vr in TEXT_VRS:
        text = decode_text(value, character_set if vr in ENCODED_VRS else b"").strip("\0")
        if vr in ("LT", "ST", "UT"):
            return text.rstrip()
        return "\\".join(one.strip(" \0") for one in text.split("\\"))
    if vr == "AT":
        words = struct.unpack(f"{order}{len(value) // 4 * 2}H", value[: len(value) // 4 * 4])
        return "\\".join(f"{a:04X}{b:04X}" for a, b in zip(words[::2], words[1::2], strict=True))
    form = NUMBER_VRS.get(vr)
    if form is None:
        return ""
    size = struct.calcsize(form)
    numbers = struct.unpack(
        f"{order}{len(value) // size}{form}", value[: len(value) // size * size]
    )
    return "\\".join(map(repr if form in "fd" else str, numbers))
