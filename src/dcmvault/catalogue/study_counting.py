"""Counting studies and their copies anew, from the rows that say it."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among
from dcmvault.catalogue.excluded import is_excluded
from dcmvault.catalogue.siblings import version_there, was_replaced
from dcmvault.catalogue.tables import (
    EntryState,
    HoldingState,
    Moment,
    destinations,
    entries,
    holdings,
    instances,
    run_destinations,
    runs,
    series,
    sources,
    studies,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.plan import RunKind
from dcmvault.model.study_matrix import Coverage

#: The levels whose copies are counted, with their columns in `study_copies`.
LEVEL_COLUMNS: Mapping[Level, str] = {level: level.word for level in Level if level}


#: What searches look at, so many characters of each: together they fit into an entry of an index
#: (PostgreSQL's have 2.7 kB), whatever a file says.
_SEARCHED = {
    "patient_name": 160,
    "patient_id": 64,
    "accession_number": 64,
    "study_description": 160,
    "study_instance_uid": 64,
}
_LONGEST_DATE, _LONGEST_CODE, _MOST_MODALITIES = 16, 16, 32


@dataclass(frozen=True, slots=True)
class Route:
    """A source whose studies should be at a destination, because they were sent there before."""

    source_id: int
    destination_id: int
    keeps_versions: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows of the matrix: of `study_lines`, `study_copies` and `study_sources`.

    A study of which nothing is or was anywhere has no line.
    """

    lines: list[dict[str, Any]]
    copies: list[dict[str, Any]]
    sources: list[dict[str, Any]]


def routes_now(connection: sa.Connection) -> set[Route]:
    """Say which source's studies should be where, as `status` shows them."""
    query = (
        sa.select(
            runs.c.source_id, run_destinations.c.destination_id, destinations.c.keeps_versions
        )
        .distinct()
        .join(runs, runs.c.id == run_destinations.c.run_id)
        .join(destinations, destinations.c.id == run_destinations.c.destination_id)
        .where(runs.c.source_id.is_not(None), runs.c.kind != RunKind.RESTORE.value)
    )
    return {Route(*row) for row in connection.execute(query)}


def count_studies(
    connection: sa.Connection, study_ids: Collection[int], routes: Collection[Route]
) -> Counted:
    """Count these studies; nothing is written."""
    origins = _origins(connection)
    listed = _listed(connection, study_ids, origins)
    totals = _totals(connection, study_ids, origins)
    copies: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in connection.execute(sa.select(destinations).order_by(destinations.c.id)):
        routed = {one.source_id for one in routes if one.destination_id == row.id}
        for found in _copies_at(connection, row, study_ids, routed):
            copies[found["study_id"]].append(found)
    attributes = _attributes(connection, study_ids)
    excluded = _excluded(connection, study_ids)
    lines = []
    for key in sorted(study_ids):
        if key not in attributes or not (key in listed or copies[key]):
            continue
        where = listed.get(key, {})
        instances_of, size = totals.get(key) or _of_copies(copies[key])
        lines.append(
            {
                "study_id": key,
                **attributes[key],
                **_standing(copies[key], is_listed=bool(where), is_left_out=key in excluded),
                "instances": instances_of,
                "bytes": size,
                "unreadable": sum(one.unreadable for one in where.values()),
            }
        )
    return Counted(
        lines,
        [_without_notes(one) for key in sorted(copies) for one in copies[key]],
        [
            {"study_id": key, "source_id": source_id, "instances": row.instances}
            for key, where in sorted(listed.items())
            for source_id, row in sorted(where.items())
        ],
    )


def _origins(connection: sa.Connection) -> Sequence[int]:
    """List the sources of backups; what was only restored from has copies, no originals."""
    of_runs = sa.select(runs.c.source_id).where(runs.c.source_id.is_not(None))
    restored = of_runs.where(runs.c.kind == RunKind.RESTORE.value)
    others = of_runs.where(runs.c.kind != RunKind.RESTORE.value)
    query = sa.select(sources.c.id).where(
        sa.or_(sources.c.id.not_in(restored), sources.c.id.in_(others))
    )
    return connection.scalars(query.order_by(sources.c.id)).all()


def _entries_of(
    connection: sa.Connection, study_ids: Collection[int], source_ids: Collection[int]
) -> sa.ColumnElement[bool]:
    # Both are named, because the index begins with the source.
    return sa.and_(
        entries.c.source_id.in_(sorted(source_ids)),
        among(connection, entries.c.study_id, study_ids),
    )


def _listed(
    connection: sa.Connection, study_ids: Collection[int], origins: Sequence[int]
) -> dict[int, dict[int, Any]]:
    """Say which sources list something of each study."""
    is_unreadable = entries.c.state == EntryState.UNREADABLE
    query = (
        sa.select(
            entries.c.study_id,
            entries.c.source_id,
            sa.func.count(entries.c.version_id.distinct()).label("instances"),
            sa.func.count(sa.case((is_unreadable, 1))).label("unreadable"),
        )
        .where(_entries_of(connection, study_ids, origins), entries.c.state != EntryState.GONE)
        .group_by(entries.c.study_id, entries.c.source_id)
    )
    found: dict[int, dict[int, Any]] = defaultdict(dict)
    for row in connection.execute(query):
        found[row.study_id][row.source_id] = row
    return found


def _totals(
    connection: sa.Connection, study_ids: Collection[int], origins: Sequence[int]
) -> dict[int, tuple[int, int]]:
    """Count the present versions of each study, and their bytes."""
    present = (
        sa.select(entries.c.study_id, versions.c.id, versions.c.size)
        .distinct()
        .join(versions, versions.c.id == entries.c.version_id)
        .where(_entries_of(connection, study_ids, origins), entries.c.state == EntryState.PRESENT)
        .subquery()
    )
    query = sa.select(
        present.c.study_id, sa.func.count(), sa.func.coalesce(sa.func.sum(present.c.size), 0)
    ).group_by(present.c.study_id)
    return {key: (count, int(size)) for key, count, size in connection.execute(query)}


def _copies_at(
    connection: sa.Connection, destination: Any, study_ids: Collection[int], routed: Collection[int]
) -> Iterable[dict[str, Any]]:
    """Count the copies at one destination: of what should be there, and of what else is."""
    found = {}
    if routed:
        version = version_there(destination.id).label("version_id")
        expected = (
            sa.select(entries.c.study_id, version)
            .distinct()
            .join(versions, versions.c.id == entries.c.version_id)
            .where(
                _entries_of(connection, study_ids, routed), entries.c.state == EntryState.PRESENT
            )
            .subquery()
        )
        for row in connection.execute(_count_copies(expected, destination, is_outer=True)):
            found[row.study_id] = _copy_row(row, destination.id, is_routed=True)
    others = [key for key in study_ids if key not in found]
    if others:
        known = (
            sa.select(series.c.study_id, versions.c.id.label("version_id"))
            .join(instances, instances.c.series_id == series.c.id)
            .join(versions, versions.c.instance_id == instances.c.id)
            .where(among(connection, series.c.study_id, others))
            .subquery()
        )
        for row in connection.execute(_count_copies(known, destination, is_outer=False)):
            found[row.study_id] = _copy_row(row, destination.id, is_routed=False)
    return found.values()


def _count_copies(expected: sa.Subquery, destination: Any, *, is_outer: bool) -> sa.Select[Any]:
    there = sa.and_(
        holdings.c.version_id == expected.c.version_id,
        holdings.c.destination_id == destination.id,
    )
    if not destination.keeps_versions:
        there = sa.and_(there, ~was_replaced(destination.id))
    level = sa.func.coalesce(holdings.c.level, sa.literal_column("0"))
    is_held = holdings.c.level >= Level.PRESENT

    def counted(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.count(sa.case((condition, 1)))

    return (
        sa.select(
            expected.c.study_id,
            sa.func.count().label("expected"),
            sa.func.min(level).label("level"),
            sa.func.min(sa.case((is_held, holdings.c.verified_at)), type_=Moment).label(
                "oldest_at"
            ),
            *(counted(level == one).label(column) for one, column in LEVEL_COLUMNS.items()),
            counted(holdings.c.state == HoldingState.MISSING).label("missing"),
            counted(holdings.c.state == HoldingState.DAMAGED).label("damaged"),
            counted(sa.and_(level == Level.PROVEN, holdings.c.coerced)).label("coerced"),
            sa.func.coalesce(sa.func.sum(versions.c.size), 0).label("bytes"),
        )
        .select_from(
            expected.join(versions, versions.c.id == expected.c.version_id).join(
                holdings, there, isouter=is_outer
            )
        )
        .group_by(expected.c.study_id)
    )


def _copy_row(row: Any, destination_id: int, *, is_routed: bool) -> dict[str, Any]:
    found = dict(row._mapping)  # noqa: SLF001 - the documented name
    held = sum(found[column] for level, column in LEVEL_COLUMNS.items() if level > Level.SENT)
    if found["missing"] or found["damaged"]:
        state = Coverage.DAMAGED
    elif not held:
        state = Coverage.NOT
    else:
        state = Coverage.PROTECTED if held == found["expected"] else Coverage.PARTLY
    return {
        **found,
        "destination_id": destination_id,
        "state": state.value,
        "bytes": int(found["bytes"]),
        "is_routed": is_routed,
    }


def _without_notes(copy: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in copy.items() if name not in ("bytes", "is_routed")}


def _of_copies(copies: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Say how large a study was that no source has any more, by its fullest copy."""
    return max(((one["expected"], one["bytes"]) for one in copies), default=(0, 0))


def _excluded(connection: sa.Connection, study_ids: Collection[int]) -> set[int]:
    query = sa.select(studies.c.id).where(
        among(connection, studies.c.id, study_ids), is_excluded(studies.c.id)
    )
    return set(connection.scalars(query))


def _standing(
    copies: Sequence[Mapping[str, Any]], *, is_listed: bool, is_left_out: bool
) -> dict[str, int]:
    """Say how a study stands in all, by its copies where it should be, and its least level."""
    wanted = [one for one in copies if one["is_routed"] or not is_listed]
    states = {one["state"] for one in wanted}
    if any(one["state"] == Coverage.DAMAGED for one in copies):
        state = Coverage.DAMAGED
    elif not is_listed:
        state = Coverage.GONE
    elif is_left_out:
        state = Coverage.EXCLUDED
    elif states <= {Coverage.NOT}:
        state = Coverage.NOT
    else:
        state = Coverage.PROTECTED if states == {Coverage.PROTECTED} else Coverage.PARTLY
    level = min((one["level"] for one in wanted), default=Level.NONE.value)
    return {"state": state.value, "level": level}


def _attributes(connection: sa.Connection, study_ids: Collection[int]) -> dict[int, dict[str, Any]]:
    modalities: dict[int, set[str]] = defaultdict(set)
    count: dict[int, int] = defaultdict(int)
    for row in connection.execute(
        sa.select(series.c.study_id, series.c.modality).where(
            among(connection, series.c.study_id, study_ids)
        )
    ):
        count[row.study_id] += 1
        modalities[row.study_id].add(row.modality.replace("/", "")[:_LONGEST_CODE])
    found = {}
    for row in connection.execute(
        sa.select(studies).where(among(connection, studies.c.id, study_ids))
    ):
        words = sorted(word for word in modalities[row.id] if word)
        found[row.id] = {
            "search": _search_text(row),
            # Without the dots of ACR-NEMA.
            "study_date": row.study_date.replace(".", "")[:_LONGEST_DATE],
            "modalities": f"/{'/'.join(words[:_MOST_MODALITIES])}/" if words else "",
            "series": count[row.id],
        }
    return found


def _search_text(row: Any) -> str:
    return "\n".join(folded(row._mapping[name])[:most] for name, most in _SEARCHED.items())  # noqa: SLF001 - the documented name


def folded(text: str) -> str:
    """Fold case, accents and the component delimiter of names (PS3.5 section 6.2)."""
    apart = unicodedata.normalize("NFKD", text.replace("^", " "))
    plain = "".join(one for one in apart if not unicodedata.combining(one))
    return " ".join(plain.casefold().split())
