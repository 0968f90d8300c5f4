"""The lies of a PACS, as values: what it does to an instance that it said to have stored."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.filewriter import dcmwrite

from dcmvault.dicom.received import part10_head

_PIXEL_DATA = 0x7FE00010
#: Values that are not touched: character set, class and UIDs (another instance would come back).
_KEPT = frozenset({0x00080005, 0x00080016, 0x00080018, 0x0020000D, 0x0020000E})


class Lie(StrEnum):
    """What became of instances that were answered 0000."""

    #: They are gone, and no query names them.
    DROPS = "drops"
    #: One bit of a value in the header is turned.
    HEADER_BIT = "header-bit"
    #: One bit of the pixels is turned.
    PIXEL_BIT = "pixel-bit"
    #: The data set ends early.
    TRUNCATES = "truncates"
    #: Two instances have each other's pixels.
    SWAPS = "swaps"
    #: A decimal value has fewer digits.
    ROUNDS = "rounds"
    #: They are gone, and the counts of study and series still fit.
    COUNTS = "counts"
    #: They are gone, the counts fit, and storage commitment succeeds.
    COMMITS = "commits"
    #: The first retrieval is answered from memory; the disk has a turned bit.
    CACHE = "cache"


#: Lies after which there is no instance any more.
GONE = frozenset({Lie.DROPS, Lie.COUNTS, Lie.COMMITS})


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance as it came: the bytes of its data set, and who it is."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes

    @property
    def _head(self) -> bytes:
        return part10_head(self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid)

    def parsed(self) -> FileDataset:
        """Read it; values stay raw until they are looked at."""
        return dcmread(BytesIO(self._head + self.data_set))

    def with_bytes(self, data_set: bytes) -> StoredInstance:
        """Return it with another data set."""
        return StoredInstance(
            self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid, data_set
        )

    def rewritten(self, change: Callable[[FileDataset], None]) -> StoredInstance:
        """Return it with changed values, in the same transfer syntax."""
        parsed = self.parsed()
        change(parsed)
        out = BytesIO()
        dcmwrite(out, parsed, enforce_file_format=True)
        whole = out.getvalue()
        # Behind preamble and prefix: group length (12 bytes), then as many bytes as it says.
        return self.with_bytes(whole[144 + int.from_bytes(whole[140:144], "little") :])

    def values(self) -> Mapping[int, tuple[int, int]]:
        """Return where top-level values lie in the data set: start and length by tag."""
        shift = len(self._head)
        places = {}
        for tag, element in self.parsed()._dict.items():  # noqa: SLF001 - raw places
            if isinstance(element, RawDataElement) and element.length not in (0, 0xFFFFFFFF):
                places[int(tag)] = (element.value_tell - shift, element.length)
        return places


def bit_in_header(stored: StoredInstance, chance: random.Random) -> StoredInstance:
    """Turn a bit of a value that is no pixel."""
    places = stored.values()
    tag = chance.choice(sorted(places.keys() - _KEPT - {_PIXEL_DATA}))
    return _turned(stored, places[tag], chance)


def bit_in_pixels(stored: StoredInstance, chance: random.Random) -> StoredInstance:
    """Turn a bit of native pixels."""
    return _turned(stored, stored.values()[_PIXEL_DATA], chance)


def cut_off(stored: StoredInstance, chance: random.Random) -> StoredInstance:
    """Leave out the end, one byte or half of it."""
    length = len(stored.data_set)
    return stored.with_bytes(stored.data_set[: chance.randrange(length // 2, length)])


def rounded(stored: StoredInstance, chance: random.Random) -> StoredInstance:
    """Give a decimal value a digit less behind its point."""

    def change(parsed: FileDataset) -> None:
        decimals = [one for one in parsed if one.VR == "DS" and len(_fraction(one.value)) > 1]
        element = chance.choice(decimals)
        places = len(_fraction(element.value)) - 1
        element.value = f"{float(element.value):.{places}f}"

    return stored.rewritten(change)


def with_pixels_of(stored: StoredInstance, other: StoredInstance) -> StoredInstance:
    """Return an instance with another one's native pixels, which have as many bytes."""
    start, length = stored.values()[_PIXEL_DATA]
    there, other_length = other.values()[_PIXEL_DATA]
    assert length == other_length
    pixels = other.data_set[there : there + length]
    return stored.with_bytes(stored.data_set[:start] + pixels + stored.data_set[start + length :])


def coerced(stored: StoredInstance, values: Mapping[str, str]) -> StoredInstance:
    """Return an instance with attributes (by keyword) that an honest PACS writes itself."""

    def change(parsed: FileDataset) -> None:
        for keyword, value in values.items():
            setattr(parsed, keyword, value)

    return stored.rewritten(change)


#: What is done to what is kept.
ALTERATIONS: Mapping[Lie, Callable[[StoredInstance, random.Random], StoredInstance]] = {
    Lie.HEADER_BIT: bit_in_header,
    Lie.PIXEL_BIT: bit_in_pixels,
    Lie.TRUNCATES: cut_off,
    Lie.ROUNDS: rounded,
    Lie.CACHE: bit_in_pixels,
}


def _fraction(value: object) -> str:
    """Return the digits behind the point of one decimal value."""
    return str(value).partition(".")[2] if "\\" not in str(value) else ""


def _turned(
    stored: StoredInstance, place: tuple[int, int], chance: random.Random
) -> StoredInstance:
    start, length = place
    content = bytearray(stored.data_set)
    # The lowest bit: no text becomes one of control characters, which mean nothing.
    content[start + chance.randrange(length)] ^= 1
    return stored.with_bytes(bytes(content))
