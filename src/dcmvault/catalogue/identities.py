"""Rows for studies, series, instances and kinds: looked up in bulk, made at first sight."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among, insert_rows, new_keys
from dcmvault.catalogue.database import insert_new
from dcmvault.catalogue.tables import instances, kinds, series, storable, studies
from dcmvault.model.instance import InstanceHeader, InstanceIdentity, InstanceKind

_K = TypeVar("_K")


class InstanceKeys(NamedTuple):
    """The keys of one instance's rows."""

    instance_id: int
    study_id: int


def find_instances(
    connection: sa.Connection, identities: Collection[InstanceIdentity]
) -> dict[InstanceIdentity, InstanceKeys]:
    """Look up instances; those without a row are left out."""
    uids = {identity.sop_instance_uid for identity in identities}
    rows = connection.execute(
        _select_instances().where(among(connection, instances.c.sop_instance_uid, uids))
    )
    found = {}
    for instance_id, sop_uid, study_id, series_uid, study_uid in rows:
        identity = InstanceIdentity(study_uid, series_uid, sop_uid)
        if identity in identities:
            found[identity] = InstanceKeys(instance_id, study_id)
    return found


@cache
def _select_instances() -> sa.Select[Any]:
    return (
        sa.select(
            instances.c.id,
            instances.c.sop_instance_uid,
            series.c.study_id,
            series.c.series_instance_uid,
            studies.c.study_instance_uid,
        )
        .join(series, series.c.id == instances.c.series_id)
        .join(studies, studies.c.id == series.c.study_id)
    )


@dataclass(frozen=True, slots=True)
class EnsuredInstances:
    """The keys of instances' rows, and which of these were there before."""

    keys: Mapping[InstanceIdentity, InstanceKeys]
    known: Collection[int]


def ensure_instances(
    connection: sa.Connection, headers: Mapping[InstanceIdentity, InstanceHeader]
) -> EnsuredInstances:
    """Find the rows of these instances, or make them.

    The attributes last scanned win; those that an index told only fill what is empty.
    """
    study_ids = _ensure_studies(connection, headers.values())
    series_ids = _ensure_series(connection, headers.values(), study_ids)
    found = find_instances(connection, headers.keys())
    known = {keys.instance_id for keys in found.values()}
    missing = [identity for identity in headers if identity not in found]
    if missing:
        # Sorted, so that two writers never wait for each other's rows in a circle.
        missing.sort(key=attrgetter("sop_instance_uid"))
        parents = [(study_ids[one.study_instance_uid], one.series_instance_uid) for one in missing]
        rows = [
            (one.sop_instance_uid, series_ids[parent])
            for one, parent in zip(missing, parents, strict=True)
        ]
        if connection.dialect.name == "sqlite":
            # Nobody else writes between the look-up and this.
            ids = new_keys(connection, instances, len(rows))
            columns = ("id", "sop_instance_uid", "series_id")
            insert_rows(
                connection,
                instances,
                columns,
                ((key, *row) for key, row in zip(ids, rows, strict=True)),
            )
            made = zip(missing, ids, parents, strict=True)
            found |= {one: InstanceKeys(key, parent[0]) for one, key, parent in made}
        else:
            names = ("sop_instance_uid", "series_id")
            insert_new(connection, instances, [dict(zip(names, row, strict=True)) for row in rows])
            found |= find_instances(connection, set(missing))
    return EnsuredInstances(found, known)


def _ensure_studies(
    connection: sa.Connection, headers: Collection[InstanceHeader]
) -> dict[str, int]:
    newest = _newest((header.study_instance_uid, header) for header in headers)
    rows = {
        uid: {"study_instance_uid": uid, **_storable(header.study._asdict())}
        for uid, header in newest.items()
    }
    told = {uid for uid, header in newest.items() if not header.was_scanned}
    ours = among(connection, studies.c.study_instance_uid, rows.keys())
    found = _refresh(connection, studies, ours, rows, told, _study_uid)
    missing = [uid for uid in rows if uid not in found]
    if missing:
        # Keys follow the source's order, in which studies are planned; rows are sorted, so that
        # two writers never wait for each other's in a circle.
        keys = dict(zip(missing, new_keys(connection, studies, len(missing)), strict=True))
        insert_new(connection, studies, [{"id": keys[uid], **rows[uid]} for uid in sorted(missing)])
        found |= _refresh(connection, studies, ours, rows, told, _study_uid)
    return found


def _ensure_series(
    connection: sa.Connection, headers: Collection[InstanceHeader], study_ids: Mapping[str, int]
) -> dict[tuple[int, str], int]:
    newest = _newest(
        ((study_ids[header.study_instance_uid], header.series_instance_uid), header)
        for header in headers
    )
    rows = {
        (study_id, uid): {
            "study_id": study_id,
            "series_instance_uid": uid,
            **_storable(header.series._asdict()),
            "source_ae_title": storable(header.source_ae_title),
            "station_name": storable(header.station_name),
        }
        for (study_id, uid), header in newest.items()
    }
    told = {key for key, header in newest.items() if not header.was_scanned}
    ours = among(connection, series.c.study_id, {study_id for study_id, _ in rows})
    found = _refresh(connection, series, ours, rows, told, _series_key)
    missing = sorted(rows.keys() - found.keys())
    if missing:
        insert_new(connection, series, [rows[key] for key in missing])
        found |= _refresh(connection, series, ours, rows, told, _series_key)
    return found


def _newest(headers: Iterable[tuple[_K, InstanceHeader]]) -> dict[_K, InstanceHeader]:
    """Choose the header given last under each key, and a scanned one before a told one."""
    newest: dict[_K, InstanceHeader] = {}
    for key, header in headers:
        before = newest.get(key)
        if before is None or header.was_scanned or not before.was_scanned:
            newest[key] = header
    return newest


def _study_uid(row: Any) -> str:
    return str(row.study_instance_uid)


def _series_key(row: Any) -> tuple[int, str]:
    return row.study_id, row.series_instance_uid


def _refresh(
    connection: sa.Connection,
    table: sa.Table,
    ours: sa.ColumnElement[bool],
    rows: Mapping[_K, Mapping[str, object]],
    told: Collection[_K],
    key_of: Callable[[Any], _K],
) -> dict[_K, int]:
    """Find the rows that exist, and write the attributes that are new in them.

    Of those whose keys are among `told` only attributes are written that were empty.
    """
    found: dict[_K, int] = {}
    for row in connection.execute(sa.select(table).where(ours)):
        key = key_of(row)
        wanted = rows.get(key)
        if wanted is None:
            continue
        found[key] = row.id
        old = row._mapping  # noqa: SLF001 - the documented name
        changed = {
            name: value
            for name, value in wanted.items()
            if old[name] != value and (key not in told or (value and not old[name]))
        }
        if changed:
            connection.execute(sa.update(table).where(table.c.id == row.id).values(changed))
    return found


def _storable(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: storable(text) for name, text in attributes.items()}


def ensure_kinds(
    connection: sa.Connection, wanted: Collection[InstanceKind]
) -> dict[InstanceKind, int]:
    """Return the keys of these kinds."""
    found = _read_kinds(connection, wanted)
    missing = sorted(set(wanted) - found.keys())
    if missing:
        insert_new(connection, kinds, [asdict(kind) for kind in missing])
        found |= _read_kinds(connection, missing)
    return found


def _read_kinds(
    connection: sa.Connection, wanted: Collection[InstanceKind]
) -> dict[InstanceKind, int]:
    of_classes = among(connection, kinds.c.sop_class_uid, {kind.sop_class_uid for kind in wanted})
    found = {
        InstanceKind(row.sop_class_uid, row.transfer_syntax_uid): row.id
        for row in connection.execute(sa.select(kinds).where(of_classes))
    }
    return {kind: key for kind, key in found.items() if kind in wanted}
