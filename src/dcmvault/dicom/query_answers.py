"""Answering C-FIND by UIDs from what is held (PS3.4 Annex C, Study Root, hierarchical)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_FIND

from dcmvault.dicom.command import decode_flat
from dcmvault.dicom.received import ReceivedInstance
from dcmvault.errors import MalformedDicomError

_Tag = tuple[int, int]
_SOP_CLASS_UID: _Tag = (0x0008, 0x0016)
_SOP_INSTANCE_UID: _Tag = (0x0008, 0x0018)
_QUERY_LEVEL: _Tag = (0x0008, 0x0052)
_STUDY_INSTANCE_UID: _Tag = (0x0020, 0x000D)
_SERIES_INSTANCE_UID: _Tag = (0x0020, 0x000E)
_STUDY_RELATED_SERIES: _Tag = (0x0020, 0x1206)
_STUDY_RELATED_INSTANCES: _Tag = (0x0020, 0x1208)
_SERIES_RELATED_INSTANCES: _Tag = (0x0020, 0x1209)
_VR: Mapping[_Tag, str] = {
    _SOP_CLASS_UID: "UI",
    _SOP_INSTANCE_UID: "UI",
    _QUERY_LEVEL: "CS",
    _STUDY_INSTANCE_UID: "UI",
    _SERIES_INSTANCE_UID: "UI",
    _STUDY_RELATED_SERIES: "IS",
    _STUDY_RELATED_INSTANCES: "IS",
    _SERIES_RELATED_INSTANCES: "IS",
}

#: Final and pending statuses of C-FIND (PS3.4 table C.4-1).
_PENDING = 0xFF00
_PENDING_WITHOUT_OPTIONAL_KEYS = 0xFF01
_CANCELLED = 0xFE00
_IDENTIFIER_DOES_NOT_MATCH = 0xA900

_Row = dict[_Tag, str]


@dataclass
class InstanceIndex:
    """The instances that a service holds, by SOP Instance UID. Safe for several threads."""

    _held: dict[str, ReceivedInstance] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, instance: ReceivedInstance) -> None:
        """Note an instance; one under the same UID is replaced."""
        with self._lock:
            self._held[instance.identity.sop_instance_uid] = instance

    def remove(self, sop_instance_uid: str) -> None:
        """Forget an instance; KeyError when there is none."""
        with self._lock:
            del self._held[sop_instance_uid]

    def uids(self) -> frozenset[str]:
        """Return the SOP Instance UIDs of all instances."""
        with self._lock:
            return frozenset(self._held)

    def answer(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """Handle EVT_C_FIND of a context in implicit VR little endian."""
        identifier = cast(C_FIND, event.request).Identifier
        try:
            keys = {
                tag: value.decode("ascii", "replace").strip("\0 ")
                for tag, value in decode_flat(identifier.getvalue() if identifier else b"")
            }
        except MalformedDicomError:
            yield _IDENTIFIER_DOES_NOT_MATCH, None
            return
        level = keys.pop(_QUERY_LEVEL, "")
        if level not in ("STUDY", "SERIES", "IMAGE"):
            yield _IDENTIFIER_DOES_NOT_MATCH, None
            return
        rows = self.rows(level, keys)
        all_keys_known = all(tag in row for tag in keys for row in rows[:1])
        status = _PENDING if all_keys_known else _PENDING_WITHOUT_OPTIONAL_KEYS
        for row in rows:
            if event.is_cancelled:
                yield _CANCELLED, None
                return
            yield status, _identifier(level, {tag: row.get(tag, "") for tag in keys if tag in _VR})

    def rows(self, level: str, keys: Mapping[_Tag, str]) -> Sequence[_Row]:
        """Return one row per study, series or instance that matches the UIDs among `keys`."""
        with self._lock:
            held = list(self._held.values())
        groups: dict[str, list[ReceivedInstance]] = {}
        for instance in held:
            if _matches(instance, keys):
                groups.setdefault(_unique_key(instance, level), []).append(instance)
        return [_row(members) for _uid, members in sorted(groups.items())]


def _uids_of(instance: ReceivedInstance) -> _Row:
    return {
        _SOP_CLASS_UID: instance.sop_class_uid,
        _SOP_INSTANCE_UID: instance.identity.sop_instance_uid,
        _STUDY_INSTANCE_UID: instance.identity.study_instance_uid,
        _SERIES_INSTANCE_UID: instance.identity.series_instance_uid,
    }


def _matches(instance: ReceivedInstance, keys: Mapping[_Tag, str]) -> bool:
    """Match single UIDs and lists of UIDs; an empty key matches all (PS3.4 section C.2.2.2)."""
    uids = _uids_of(instance)
    return all(uids[tag] in keys[tag].split("\\") for tag in uids.keys() & keys.keys() if keys[tag])


def _unique_key(instance: ReceivedInstance, level: str) -> str:
    identity = instance.identity
    if level == "STUDY":
        return identity.study_instance_uid
    if level == "SERIES":
        return identity.series_instance_uid
    return identity.sop_instance_uid


def _row(members: Sequence[ReceivedInstance]) -> _Row:
    series = {instance.identity.series_instance_uid for instance in members}
    return _uids_of(members[0]) | {
        _STUDY_RELATED_SERIES: str(len(series)),
        _STUDY_RELATED_INSTANCES: str(len(members)),
        _SERIES_RELATED_INSTANCES: str(len(members)),
    }


def _identifier(level: str, row: _Row) -> Dataset:
    data_set = Dataset()
    for tag, value in (row | {_QUERY_LEVEL: level}).items():
        # Held UIDs are given back as they came, also those that break the rules.
        data_set.add(DataElement(tag, _VR[tag], value, validation_mode=IGNORE))
    return data_set
