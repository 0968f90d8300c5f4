"""Entries made of what a DICOMweb service tells of its instances."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from dcmvault.dicom.qido_inventory import (
    SERIES_INSTANCE_UID,
    SERIES_RELATED_INSTANCES,
    STUDY_INSTANCE_UID,
    STUDY_RELATED_SERIES,
    WebInventory,
)
from dcmvault.dicom.web_answers import DataSet, first_number, first_uid
from dcmvault.dicom.web_headers import (
    INSTANCE_FIELDS,
    SERIES_FIELDS,
    STUDY_FIELDS,
    digest_told,
    header_told,
)
from dcmvault.errors import DestinationError
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceIdentity

_LOCATOR = re.compile(r"([0-9.]{1,64})/([0-9.]{1,64})/([0-9.]{1,64})")
_LONGEST_NUMBER = 12


def identity_of(entry: InstanceEntry) -> InstanceIdentity | None:
    """Return whom an entry names; None where it can be none of this source's."""
    found = _LOCATOR.fullmatch(entry.locator)
    return None if found is None else InstanceIdentity(*found.groups())


def list_study(inventory: WebInventory, study_instance_uid: str) -> list[InstanceEntry]:
    """List a study's instances by series, instance number and UID.

    A study or series that goes away meanwhile has none. Raises as WebInventory, and
    DestinationError where the service has the study and lists nothing of it.
    """
    study = inventory.study(study_instance_uid, STUDY_FIELDS)
    if study is None:
        return []
    found: list[InstanceEntry] = []
    empty: set[str] = set()
    for series in list(inventory.series(study, SERIES_FIELDS)):
        instances = inventory.instances(study, series, INSTANCE_FIELDS)
        of_series = [_entry(study, series, row) for row in instances]
        found += of_series
        if not of_series and first_number(series, SERIES_RELATED_INSTANCES) != 0:
            empty.add(first_uid(series, SERIES_INSTANCE_UID))
    if empty or (not found and first_number(study, STUDY_RELATED_SERIES) != 0):
        _require_gone(inventory, study_instance_uid, empty, is_listed=bool(found))
    return sorted(found, key=_place)


def _require_gone(
    inventory: WebInventory, study_instance_uid: str, series_uids: set[str], *, is_listed: bool
) -> None:
    """Believe of nothing that is still named that it has no instances."""
    study = inventory.study(study_instance_uid, STUDY_FIELDS)
    if study is None:
        return
    if not is_listed:
        raise DestinationError(
            f"{inventory.service.peer.name} names it, and no instance of it",
            hint="See whether the service lists the series and instances of a study (QIDO-RS).",
        )
    named = {first_uid(row, SERIES_INSTANCE_UID) for row in inventory.series(study, ())}
    inventory.is_incomplete = inventory.is_incomplete or not named.isdisjoint(series_uids)


def _entry(study: DataSet, series: DataSet, row: DataSet) -> InstanceEntry:
    header = header_told(study, series, row)
    uids = (header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
    return InstanceEntry(
        "/".join(uids),
        Fingerprint(0, 0, digest_told(header, row)),
        expected_sop_instance_uid=header.sop_instance_uid,
        indexed=header,
    )


def _place(entry: InstanceEntry) -> tuple[str, int, str]:
    header = entry.indexed
    assert header is not None
    text = header.instance_number
    number = int(text) if text.isdecimal() and len(text) < _LONGEST_NUMBER else 0
    return header.series_instance_uid, number, header.sop_instance_uid


@dataclass(slots=True)
class Recollection:
    """What the service tells now of instances that were listed before.

    Rows of studies and series are asked for once, those of instances each time.
    """

    _studies: dict[str, DataSet | None] = field(default_factory=dict)
    _series: dict[str, dict[str, DataSet]] = field(default_factory=dict)

    def entries(
        self, inventory: WebInventory, identities: Sequence[InstanceIdentity]
    ) -> Iterator[InstanceEntry]:
        """Yield an entry for each of these instances that is still there, in any order."""
        ordered = sorted(identities)
        for (study_uid, series_uid), some in groupby(ordered, key=_series_of):
            study = self._study(inventory, study_uid)
            series = None if study is None else self._one_series(inventory, study, series_uid)
            if study is None or series is None:
                continue
            uids = list(dict.fromkeys(one.sop_instance_uid for one in some))
            for row in inventory.instances_among(study_uid, series_uid, INSTANCE_FIELDS, uids):
                yield _entry(study, series, row)

    def _study(self, inventory: WebInventory, uid: str) -> DataSet | None:
        if uid not in self._studies:
            # Work goes study by study: what was asked for before is not needed any more.
            self._studies = {uid: inventory.study(uid, STUDY_FIELDS)}
            self._series = {}
        return self._studies[uid]

    def _one_series(self, inventory: WebInventory, study: DataSet, uid: str) -> DataSet | None:
        study_uid = first_uid(study, STUDY_INSTANCE_UID)
        if study_uid not in self._series:
            rows = inventory.series(study, SERIES_FIELDS)
            self._series[study_uid] = {first_uid(row, SERIES_INSTANCE_UID): row for row in rows}
        return self._series[study_uid].get(uid)


def _series_of(identity: InstanceIdentity) -> tuple[str, str]:
    return identity.study_instance_uid, identity.series_instance_uid
