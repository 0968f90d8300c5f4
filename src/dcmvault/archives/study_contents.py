"""What makes up a study of a vault: its series, and one file for each instance."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from dcmvault.model.instance import SeriesAttributes
from dcmvault.model.query import ArchivedInstance
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.records import InstanceRecord, current

_NUMBER = re.compile(r"[+-]?[0-9]{1,12}")


class HeldSeries(NamedTuple):
    """A series with one record for each instance, by Instance Number."""

    series_instance_uid: str
    attributes: SeriesAttributes
    records: tuple[InstanceRecord, ...]

    def instances(
        self, study_instance_uid: str, among: Collection[str] = ()
    ) -> Iterator[ArchivedInstance]:
        """List its instances, or those of some SOP Instance UIDs."""
        for record in self.records:
            if among and record.sop_instance_uid not in among:
                continue
            yield ArchivedInstance(
                study_instance_uid,
                self.series_instance_uid,
                record.sop_instance_uid,
                record.sop_class_uid,
                record.transfer_syntax_uid,
                record.size,
                record.file_sha256,
                record.instance_number,
                record,
            )


def read_study(legible: LegibleState, study_instance_uid: str) -> Sequence[HeldSeries]:
    """Read the series of a study, by Series Number; files that are no instances are left out.

    Of several contents under the same UIDs the one that was stored last counts.
    """
    parts = legible.parts(study_instance_uid)
    attributes = {uid: one for part in parts for uid, one in part.series.items()}
    newest: dict[tuple[str, str], InstanceRecord] = {}
    for record in current([record for part in parts for record in part.instances]):
        if not record.sop_instance_uid or record.opaque_reason:
            continue
        key = (record.series_instance_uid, record.sop_instance_uid)
        before = newest.get(key)
        if before is None or record.version > before.version:
            newest[key] = record
    by_series: dict[str, list[InstanceRecord]] = {}
    for record in newest.values():
        by_series.setdefault(record.series_instance_uid, []).append(record)
    found = [
        HeldSeries(uid, attributes.get(uid, SeriesAttributes()), tuple(sorted(records, key=_order)))
        for uid, records in by_series.items()
    ]
    return sorted(
        found, key=lambda one: (number(one.attributes.series_number), one.series_instance_uid)
    )


def _order(record: InstanceRecord) -> tuple[int, str]:
    return number(record.instance_number), record.sop_instance_uid


def number(text: str) -> int:
    """Return an IS value for sorting; what is none comes last."""
    stripped = text.strip()
    return int(stripped) if _NUMBER.fullmatch(stripped) else 1 << 60
