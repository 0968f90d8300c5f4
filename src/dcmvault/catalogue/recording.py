"""Writing down what a pass read: which version of which instance an entry holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among, in_driver_terms, insert_rows, new_keys, slices
from dcmvault.catalogue.identities import (
    EnsuredInstances,
    InstanceKeys,
    ensure_instances,
    ensure_kinds,
)
from dcmvault.catalogue.study_changes import note_studies
from dcmvault.catalogue.tables import EntryState, entries, storable, versions
from dcmvault.model.identifiers import SourceId
from dcmvault.model.instance import InstanceHeader, InstanceIdentity, InstanceKind, ScannedEntry

#: The largest Instance Number kept for ordering; IS has at most 12 characters (PS3.5 6.2).
_MAX_INSTANCE_NUMBER = 10**12


#: Columns of new rows, in order.
_VERSION_COLUMNS = (
    "instance_id",
    "kind_id",
    "file_sha256",
    "size",
    "instance_number",
    "opaque_reason",
    "first_run_id",
)
_ENTRY_COLUMNS = (
    "id",
    "source_id",
    "locator",
    "size",
    "mtime_ns",
    "inode",
    "claim",
    "state",
    "version_id",
    "study_id",
    "problem_code",
    "problem",
)


class EntryRow(NamedTuple):
    """What an entry's row says, as far as passes count by it."""

    id: int
    size: int
    mtime_ns: int
    inode: int
    state: EntryState
    version_id: int | None
    study_id: int | None
    problem_code: str


_NO_INSTANCES = EnsuredInstances({}, ())
_version_values = itemgetter(*_VERSION_COLUMNS)
_entry_columns = itemgetter(*_ENTRY_COLUMNS)
_entry_row_values = itemgetter(*EntryRow._fields)


@dataclass(slots=True)
class _Contents:
    """The versions of the instances of one batch, those about to be made included."""

    #: (instance, digest) to version; a negative one is a place in `made`.
    by_digest: dict[tuple[int, bytes], int] = field(default_factory=dict)
    digest_of: dict[int, bytes] = field(default_factory=dict)
    instance_of: dict[int, int | None] = field(default_factory=dict)
    kind_of: dict[int, int | None] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    learned: dict[int, bytes] = field(default_factory=dict)
    #: What a scan found of versions that were told of, or found of another kind.
    completed: dict[int, dict[str, Any]] = field(default_factory=dict)

    def add(
        self, version_id: int, instance_id: int | None, kind_id: int | None, digest: bytes
    ) -> None:
        self.instance_of[version_id] = instance_id
        self.kind_of[version_id] = kind_id
        self.digest_of[version_id] = digest
        if digest and instance_id is not None:
            self.by_digest.setdefault((instance_id, digest), version_id)

    def make(self, row: dict[str, Any]) -> int:
        self.made.append(row)
        version_id = -len(self.made)
        self.add(version_id, row["instance_id"], row["kind_id"], row["file_sha256"] or b"")
        return version_id

    def learn(self, version_id: int, digest: bytes) -> None:
        self.learned[version_id] = digest
        instance_id = self.instance_of[version_id]
        self.add(version_id, instance_id, self.kind_of[version_id], digest)

    def complete(self, version_id: int, attributes: dict[str, Any]) -> None:
        if self.kind_of[version_id] == attributes["kind_id"]:
            return
        self.kind_of[version_id] = attributes["kind_id"]
        if version_id < 0:
            self.made[-version_id - 1].update(attributes)
        else:
            self.completed[version_id] = attributes


class Recorder:
    """Records entries of one source for one run."""

    def __init__(self, source_id: SourceId, run_key: int | None) -> None:
        self._source_id = source_id
        self._run_key = run_key
        self._kinds: dict[InstanceKind, int] = {}

    def record(
        self, connection: sa.Connection, scanned: Sequence[ScannedEntry]
    ) -> list[tuple[EntryRow | None, EntryRow]]:
        """Write entries; return each one's row before (None if there was none) and after."""
        written = []
        # A locator given twice is written once, as given last.
        for some in slices(list({one.entry.locator: one for one in scanned}.values())):
            written += self._record_chunk(connection, some)
        return written

    def _record_chunk(
        self, connection: sa.Connection, scanned: Sequence[ScannedEntry]
    ) -> list[tuple[EntryRow | None, EntryRow]]:
        headers = _by_identity(scanned)
        ensured = ensure_instances(connection, headers) if headers else _NO_INSTANCES
        wanted = {one.header.kind for one in scanned if one.header is not None}
        if not wanted <= self._kinds.keys():
            self._kinds |= ensure_kinds(connection, wanted - self._kinds.keys())
        before = self._rows_before(connection, scanned)
        contents = _read_contents(connection, ensured.known, before)
        keys = ensured.keys
        planned = [
            self._plan_row(one, before.get(one.entry.locator), keys, contents) for one in scanned
        ]
        made = _write_versions(connection, contents)
        for row in planned:
            if row["version_id"] is not None and row["version_id"] < 0:
                row["version_id"] = made[-row["version_id"] - 1]
        return self._write_rows(connection, planned, before)

    def _rows_before(
        self, connection: sa.Connection, scanned: Sequence[ScannedEntry]
    ) -> dict[str, Any]:
        query = sa.select(entries).where(
            entries.c.source_id == self._source_id,
            among(connection, entries.c.locator, [one.entry.locator for one in scanned]),
        )
        return {row.locator: row for row in connection.execute(query)}

    def _plan_row(
        self,
        one: ScannedEntry,
        before: Any | None,
        keys: Mapping[InstanceIdentity, InstanceKeys],
        contents: _Contents,
    ) -> dict[str, Any]:
        row = {
            "source_id": self._source_id,
            "locator": one.entry.locator,
            "size": one.entry.fingerprint.size,
            "mtime_ns": one.entry.fingerprint.mtime_ns,
            "inode": one.entry.fingerprint.inode,
            "claim": one.entry.claim.value,
            "state": EntryState.PRESENT,
            "version_id": None,
            "study_id": None,
            "problem_code": "",
            "problem": "",
        }
        if one.unreadable is not None:
            if before is not None and before.version_id is not None:
                # What it held may still be there when it can be read again.
                for name in ("size", "mtime_ns", "inode", "version_id", "study_id"):
                    row[name] = getattr(before, name)
            row["state"] = EntryState.UNREADABLE
            row["problem_code"] = one.unreadable.code
            row["problem"] = storable(one.unreadable.message)
        elif one.header is not None:
            instance = keys[one.header.identity]
            row["study_id"] = instance.study_id
            row["version_id"] = self._version_of(one, before, instance.instance_id, contents)
        elif one.opaque_reason:
            row["version_id"] = self._version_of(one, before, None, contents)
        return row

    def _version_of(
        self, one: ScannedEntry, before: Any | None, instance_id: int | None, contents: _Contents
    ) -> int:
        """Find the version that the entry holds and complete it, or make one."""
        version_id = self._known_version(one, before, instance_id, contents)
        if version_id is None:
            return contents.make(self._new_version(one, instance_id))
        if one.header is not None and one.header.was_scanned:
            contents.complete(version_id, self._attributes(one))
        return version_id

    def _known_version(
        self, one: ScannedEntry, before: Any | None, instance_id: int | None, contents: _Contents
    ) -> int | None:
        digest = one.file_sha256
        if instance_id is not None and digest:
            found = contents.by_digest.get((instance_id, digest))
            if found is not None:
                return found
        if before is not None and before.version_id is not None:
            fingerprint = one.entry.fingerprint
            same_file = (before.size, before.mtime_ns, before.inode) == (
                fingerprint.size,
                fingerprint.mtime_ns,
                fingerprint.inode,
            )
            version_id: int = before.version_id
            same_identity = contents.instance_of[version_id] == instance_id
            known = contents.digest_of[version_id]
            if same_file and same_identity and (not digest or not known or digest == known):
                if digest and not known:
                    contents.learn(version_id, digest)
                return version_id
        return None

    def _new_version(self, one: ScannedEntry, instance_id: int | None) -> dict[str, Any]:
        return {
            "instance_id": instance_id,
            "file_sha256": one.file_sha256 or None,
            "size": one.entry.fingerprint.size,
            "opaque_reason": storable(one.opaque_reason),
            "first_run_id": self._run_key,
            **self._attributes(one),
        }

    def _attributes(self, one: ScannedEntry) -> dict[str, Any]:
        header = one.header
        return {
            "kind_id": None if header is None else self._kinds[header.kind],
            "instance_number": None if header is None else _number(header.instance_number),
        }

    def _write_rows(
        self,
        connection: sa.Connection,
        planned: Sequence[dict[str, Any]],
        before: Mapping[str, Any],
    ) -> list[tuple[EntryRow | None, EntryRow]]:
        new = [row for row in planned if row["locator"] not in before]
        if new:
            for row, key in zip(new, new_keys(connection, entries, len(new)), strict=True):
                row["id"] = key
            insert_rows(connection, entries, _ENTRY_COLUMNS, map(_entry_values, new))
        for row in planned:
            if row["locator"] in before:
                row["id"] = before[row["locator"]].id
        changing = [row["study_id"] for row in planned]
        note_studies(connection, [*changing, *(row.study_id for row in before.values())])
        old = [row for row in planned if row["locator"] in before and _differs(row, before)]
        if old:
            names = [name for name in old[0] if name not in {"id", "source_id", "locator"}]
            connection.execute(
                sa.update(entries)
                .where(entries.c.id == sa.bindparam("key"))
                .values({name: sa.bindparam(f"new_{name}") for name in names}),
                [{"key": row["id"], **{f"new_{name}": row[name] for name in names}} for row in old],
            )
        return [
            (
                None if row["locator"] not in before else _entry_row(before[row["locator"]]),
                EntryRow(*_entry_row_values(row)),
            )
            for row in planned
        ]


def _by_identity(scanned: Sequence[ScannedEntry]) -> dict[InstanceIdentity, InstanceHeader]:
    """Collect headers by identity; the one last given, and a scanned one before a told one."""
    headers: dict[InstanceIdentity, InstanceHeader] = {}
    for one in scanned:
        if (header := one.header) is None:
            continue
        before = headers.setdefault(header.identity, header)
        if before is not header and (header.was_scanned or not before.was_scanned):
            headers[header.identity] = header
    return headers


def _entry_values(row: Mapping[str, Any]) -> Sequence[Any]:
    inode, state = in_driver_terms(row["inode"]), row["state"].value
    values: Sequence[Any] = _entry_columns({**row, "inode": inode, "state": state})
    return values


def _differs(row: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    old = before[row["locator"]]
    return any(getattr(old, name) != value for name, value in row.items())


def _entry_row(row: Any) -> EntryRow:
    return EntryRow(*(getattr(row, name) for name in EntryRow._fields))


def _read_contents(
    connection: sa.Connection,
    of_instances: Collection[int],
    before: Mapping[str, Any],
) -> _Contents:
    contents = _Contents()
    columns = sa.select(
        versions.c.id, versions.c.instance_id, versions.c.kind_id, versions.c.file_sha256
    )
    found: list[Any] = []
    if of_instances:
        ours = among(connection, versions.c.instance_id, of_instances)
        found += connection.execute(columns.where(ours)).all()
    of_entries = {row.version_id for row in before.values() if row.version_id is not None}
    of_entries -= {row.id for row in found}
    if of_entries:
        found += connection.execute(
            columns.where(among(connection, versions.c.id, of_entries))
        ).all()
    for row in sorted(found, key=lambda row: row.id):
        contents.add(row.id, row.instance_id, row.kind_id, row.file_sha256 or b"")
    return contents


def _write_versions(connection: sa.Connection, contents: _Contents) -> Sequence[int]:
    """Write what was learned of versions, and new ones; return the new ones' keys in order."""
    for version_id, digest in sorted((key, d) for key, d in contents.learned.items() if key > 0):
        connection.execute(
            sa.update(versions)
            .where(versions.c.id == version_id, versions.c.file_sha256.is_(None))
            .values(file_sha256=digest)
        )
    if contents.completed:
        connection.execute(
            sa.update(versions)
            .where(versions.c.id == sa.bindparam("key"))
            .values(kind_id=sa.bindparam("kind"), instance_number=sa.bindparam("number")),
            [
                {"key": key, "kind": one["kind_id"], "number": one["instance_number"]}
                for key, one in sorted(contents.completed.items())
            ],
        )
    if not contents.made:
        return []
    keys = new_keys(connection, versions, len(contents.made))
    rows = map(_version_values, contents.made)
    insert_rows(
        connection,
        versions,
        ("id", *_VERSION_COLUMNS),
        ((key, *row) for key, row in zip(keys, rows, strict=True)),
    )
    return keys


def _number(text: str) -> int | None:
    try:
        number = int(text)
    except ValueError:
        return None
    return number if abs(number) < _MAX_INSTANCE_NUMBER else None
