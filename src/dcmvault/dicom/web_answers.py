"""Reading what DICOMweb services answer: the DICOM JSON and Native DICOM models, distrustfully.

Both become the same: data sets by eight hexadecimal digits of a tag, with lists of values. Of
what does not fit the model, only the part that does not fit is left out (PS3.18 Annex F, PS3.19
Annex A.1).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from dcmvault.dicom.command import is_usable_uid
from dcmvault.errors import MalformedDicomError

#: A data set as both models have it.
DataSet = Mapping[str, object]

_REFERENCED_SOP_INSTANCE_UID = "00081155"
_WARNING_REASON = "00081196"
_FAILURE_REASON = "00081197"
_FAILED_SOP_SEQUENCE = "00081198"
_REFERENCED_SOP_SEQUENCE = "00081199"
_OTHER_FAILURES_SEQUENCE = "0008119A"
#: Sequences inside sequences; an answer has one.
_DEEPEST = 32
_LONGEST_VALUE = 128
#: Longer values are no attributes that are shown.
_LONGEST_TEXT = 4096
#: Component groups of a person name in JSON (PS3.18 section F.2.2).
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """The Store Instances Response Module (PS3.18 Annex I), as far as it is about instances."""

    #: SOP Instance UID to Warning Reason (0008,1196); 0 for none.
    stored: Mapping[str, int]
    #: SOP Instance UID to Failure Reason (0008,1197); 0 for none.
    failed: Mapping[str, int]
    #: Failure reasons of what had no UID that the peer could read.
    other_failures: tuple[int, ...]


def read_store_answer(body: bytes) -> StoreAnswer:
    """Read the answer to a STOW-RS request, in JSON or XML whatever it is called.

    Raises MalformedDicomError for anything else. What is named as stored and as failed counts
    as failed.
    """
    stored: dict[str, int] = {}
    failed: dict[str, int] = {}
    others: list[int] = []
    for data_set in read_data_sets(body):
        for item in values(data_set, _REFERENCED_SOP_SEQUENCE):
            if uid := first_uid(item, _REFERENCED_SOP_INSTANCE_UID):
                stored[uid] = first_number(item, _WARNING_REASON) or 0
        for item in values(data_set, _FAILED_SOP_SEQUENCE):
            reason = first_number(item, _FAILURE_REASON) or 0
            if uid := first_uid(item, _REFERENCED_SOP_INSTANCE_UID):
                failed[uid] = reason
            elif isinstance(item, dict):
                others.append(reason)
        others.extend(
            first_number(item, _FAILURE_REASON) or 0
            for item in values(data_set, _OTHER_FAILURES_SEQUENCE)
        )
    for uid in failed.keys() & stored.keys():
        del stored[uid]
    return StoreAnswer(stored, failed, tuple(others))


def read_data_sets(body: bytes) -> list[DataSet]:
    """Read a data set, or a list of them; MalformedDicomError for what is neither JSON nor XML."""
    if body.lstrip()[:1] == b"<":
        return [_read_native_model(body)]
    try:
        read: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedDicomError("an answer that is neither JSON nor XML") from error
    rows: list[object] = read if isinstance(read, list) else [read]
    data_sets: list[DataSet] = [row for row in rows if isinstance(row, dict)]
    if len(data_sets) < len(rows):
        raise MalformedDicomError("an answer that holds no data sets")
    return data_sets


def values(data_set: object, tag: str) -> Iterator[object]:
    """Yield the values of an attribute; none where it is not there or not as it should be."""
    attribute = data_set.get(tag) if isinstance(data_set, dict) else None
    found = attribute.get("Value") if isinstance(attribute, dict) else None
    yield from found if isinstance(found, list) else ()


def first_uid(data_set: object, tag: str) -> str:
    """Return the first value of an attribute if it is a UID, else nothing."""
    value = next(values(data_set, tag), "")
    text = value.strip("\0 \t\r\n") if isinstance(value, str) else ""
    return text if is_usable_uid(text) else ""


def first_number(data_set: object, tag: str) -> int | None:
    """Return the first value of an attribute if it is a number that is not negative."""
    value = next(values(data_set, tag), None)
    if isinstance(value, str) and len(value) < _LONGEST_VALUE and value.strip().isdecimal():
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 53:
        return int(value)
    return None


def text_of(row: DataSet, tag: str) -> str:
    r"""Return the values of an attribute as text, with `\` between them; nothing for others."""
    text = "\\".join(map(_text, values(row, tag)))[:_LONGEST_TEXT]
    return text.encode("utf-8", "replace").decode("utf-8")


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        groups = [value.get(group) for group in _NAME_GROUPS]
        return "=".join(one if isinstance(one, str) else "" for one in groups).rstrip("=").strip()
    if isinstance(value, str):
        return value.strip("\0 ")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    is_whole = isinstance(value, int) or value.is_integer()
    return str(int(value)) if is_whole and abs(value) < 1 << 63 else repr(value)


def _read_native_model(body: bytes) -> DataSet:
    reader = _NativeModel()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: its encoding
        raise MalformedDicomError("an answer that is neither JSON nor XML") from error
    return reader.data_sets[0]


@dataclass
class _NativeModel:
    """Builds data sets from DicomAttribute, Item and Value elements; others are passed over."""

    #: The data set in hand, in its sequence's item, in ... the outermost first.
    data_sets: list[dict[str, object]] = field(default_factory=lambda: [{}])
    #: Values of the attribute in hand, in its sequence, in ...
    _values: list[list[object]] = field(default_factory=list)
    _text: list[str] | None = None
    _is_begun: bool = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin an element; MalformedDicomError for the root of anything else."""
        if not self._is_begun and name.rpartition(":")[2] != "NativeDicomModel":
            raise MalformedDicomError("an answer in XML that is no data set")
        self._is_begun = True
        match name.rpartition(":")[2]:
            case "DicomAttribute":
                found: list[object] = []
                self.data_sets[-1][attributes.get("tag", "").upper()] = {"Value": found}
                self._values.append(found)
            case "Item" if self._values:
                item: dict[str, object] = {}
                self._values[-1].append(item)
                self.data_sets.append(item)
            case "Value" if self._values:
                self._text = []
        if len(self._values) > _DEEPEST or len(self.data_sets) > _DEEPEST:
            raise MalformedDicomError("an answer with sequences without end")

    def end(self, name: str) -> None:
        """End an element."""
        match name.rpartition(":")[2]:
            case "DicomAttribute":
                self._values.pop()
            case "Item" if len(self.data_sets) > 1:
                self.data_sets.pop()
            case "Value" if self._text is not None and self._values:
                self._values[-1].append("".join(self._text))
                self._text = None

    def text(self, data: str) -> None:
        """Take a part of a text."""
        if self._text is not None:
            self._text.append(data)

    def refuse(self, *_declaration: object) -> None:
        """Refuse a document type: only attacks need one."""
        raise MalformedDicomError("an answer with a document type")
