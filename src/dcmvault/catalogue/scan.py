"""Passes over sources: what is listed, what is new, what is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among, in_driver_terms
from dcmvault.catalogue.database import Database, chunks, named_id
from dcmvault.catalogue.identities import find_instances
from dcmvault.catalogue.key_set import KeySet
from dcmvault.catalogue.listed import ListedRow, ListedRows
from dcmvault.catalogue.lost import held_everywhere, note_lost
from dcmvault.catalogue.recording import Recorder
from dcmvault.catalogue.rows import entry_of
from dcmvault.catalogue.signs import count_signs, note_signs
from dcmvault.catalogue.study_changes import note_entries, note_versions
from dcmvault.catalogue.tables import EntryState, entries, runs, sources, studies, versions
from dcmvault.model.identifiers import DestinationId, RunId, SourceId, VersionId
from dcmvault.model.instance import (
    Claim,
    Fingerprint,
    InstanceEntry,
    InstanceIdentity,
    ScannedEntry,
)
from dcmvault.ports.catalogue import KnownEntry, KnownVersion, News, Scan, ScanCounts

#: Entries looked at in one go when absences are searched for.
_SWEEP = 10_000


@dataclass(frozen=True, slots=True)
class SourcesInDatabase:
    """Implements `ports.catalogue.SourceCatalogue`."""

    database: Database

    def source(self, name: str) -> SourceId:
        """Return the id of the source with this canonical address, made at first sight."""
        with self.database.write() as connection:
            return SourceId(named_id(connection, sources, name))

    def present_instances(self, source_id: SourceId) -> int:
        """Count the instances that the last believed pass saw."""
        with self.database.read() as connection:
            found = connection.scalar(
                sa.select(sources.c.believed_instances).where(sources.c.id == source_id)
            )
        return int(found or 0)

    def bookmark(self, source_id: SourceId) -> str:
        """Return where the source's log stood at its last recorded pass; empty for none."""
        with self.database.read() as connection:
            found = connection.scalar(
                sa.select(sources.c.bookmark).where(sources.c.id == source_id)
            )
        return found or ""

    def present_studies(self, source_id: SourceId) -> Iterator[str]:
        """Yield the Study Instance UIDs of all that is listed there, in order, each once."""
        of_source = (
            sa.select(entries.c.id)
            .where(
                entries.c.source_id == source_id,
                entries.c.study_id == studies.c.id,
                entries.c.state != EntryState.GONE,
            )
            .exists()
        )
        last = ""
        while True:
            query = (
                sa.select(studies.c.study_instance_uid)
                .where(studies.c.study_instance_uid > last, of_source)
                .order_by(studies.c.study_instance_uid)
                .limit(_SWEEP)
            )
            with self.database.read() as connection:
                page = connection.scalars(query).all()
            if not page:
                return
            yield from page
            last = page[-1]

    def scan(self, source_id: SourceId, run_id: RunId | None) -> Scan:
        """Begin a pass; KeyError for an unknown run."""
        with self.database.write() as connection:
            run_key = None if run_id is None else _of_source(connection, run_id, source_id)
            counters = sa.select(sources.c.entries, sources.c.instances, sources.c.counted).where(
                sources.c.id == source_id
            )
            before = connection.execute(counters).one()
            if not before.counted:
                _count_source(connection, source_id)
                before = connection.execute(counters).one()
            newest = connection.scalar(sa.select(sa.func.max(entries.c.id))) or 0
            version = connection.scalar(sa.select(sa.func.max(versions.c.id))) or 0
        return _Pass(
            self.database, source_id, run_key, before.entries, before.instances, newest, version
        )


class _Class(Enum):
    """What an entry counts as."""

    INSTANCE = "instance"
    UNREADABLE = "unreadable"
    NOT_DICOM = "not_dicom"


def _of_source(connection: sa.Connection, run_id: RunId, source_id: SourceId) -> int:
    """Note that a run is about this source; return the run's key."""
    run_key = connection.scalar(sa.select(runs.c.id).where(runs.c.run_id == run_id))
    if run_key is None:
        raise KeyError(run_id)
    connection.execute(sa.update(runs).where(runs.c.id == run_key).values(source_id=source_id))
    return int(run_key)


class _Pass:
    """One pass over one source, by one thread. What was seen is kept in memory until the end."""

    def __init__(
        self,
        database: Database,
        source_id: SourceId,
        run_key: int | None,
        entries_before: int,
        known: int,
        newest: int,
        newest_version: int,
    ) -> None:
        self._database = database
        self._source_id = source_id
        self._run_key = run_key
        self._entries_before = entries_before
        self._known_before = known
        #: What another pass at the same time lists after this is not gone: it was never listed.
        self._newest_before = newest
        self._newest_version = newest_version
        self._recorder = Recorder(source_id, run_key)
        self._rows = ListedRows(source_id)
        self._seen = KeySet()
        #: Seen entries that hold what they held, and were not gone meanwhile.
        self._unchanged = 0
        self._seen_by_class: Counter[_Class] = Counter()
        #: Seen entries that were listed before this pass.
        self._seen_before = 0
        self._new = 0
        self._changed = 0
        self._wrote = False

    def news(self, listed: Sequence[InstanceEntry]) -> News:
        """Look up entries by locator; each counts as seen by this pass.

        `KnownEntry.entry` has nothing of what an index said.
        """
        others: list[tuple[InstanceEntry, KnownEntry | None]] = []
        with self._database.read() as connection:
            rows = self._rows.find(connection, [entry.locator for entry in listed])
        present, seen = EntryState.PRESENT.value, self._seen
        unchanged = 0
        for entry in listed:
            row = rows.get(entry.locator)
            if row is None:
                others.append((entry, None))
                continue
            key, _locator, size, mtime_ns, inode, _claim, state, version_id, problem_code = row
            fingerprint = entry.fingerprint
            if (
                version_id is not None
                and size == fingerprint.size
                and mtime_ns == fingerprint.mtime_ns
                and inode == in_driver_terms(fingerprint.inode)
                and not problem_code
            ):
                unchanged += 1
                if state == present:
                    self._unchanged += seen.add(key)
                else:
                    self._see(ListedRow(*row))
            else:
                others.append((entry, self._as_known(row)))
        returned = [row for row in rows.values() if row[6] == EntryState.GONE.value]
        if returned:
            self._bring_back(returned)
        return News(unchanged, others)

    def _as_known(self, row: Any) -> KnownEntry:
        known = ListedRow(*row)
        self._see(known)
        unreadable = bool(known.problem_code)
        version_id = None
        if not unreadable and known.version_id is not None:
            version_id = VersionId(known.version_id)
        inode = known.inode + (1 << 64) if known.inode < 0 else known.inode
        entry = InstanceEntry(
            known.locator, Fingerprint(known.size, known.mtime_ns, inode), Claim(known.claim)
        )
        return KnownEntry(entry, version_id, unreadable)

    def versions(
        self, identities: Collection[InstanceIdentity]
    ) -> Mapping[InstanceIdentity, list[KnownVersion]]:
        """List versions that present entries of any source have under these identities.

        And those whose data set was digested, though their entries are gone.
        """
        found: dict[InstanceIdentity, list[KnownVersion]] = {}
        with self._database.read() as connection:
            keys = find_instances(connection, set(identities))
            identity_of = {key.instance_id: identity for identity, key in keys.items()}
            if identity_of:
                query = (
                    sa.select(
                        entries,
                        versions.c.instance_id,
                        versions.c.file_sha256,
                        versions.c.data_set_digest,
                        sources.c.name.label("source"),
                    )
                    .join(versions, versions.c.id == entries.c.version_id)
                    .join(sources, sources.c.id == entries.c.source_id)
                    .where(
                        among(connection, versions.c.instance_id, identity_of),
                        sa.or_(
                            entries.c.state == EntryState.PRESENT,
                            versions.c.data_set_digest.is_not(None),
                        ),
                    )
                    .order_by(versions.c.id, entries.c.id)
                )
                for row in connection.execute(query):
                    twins = found.setdefault(identity_of[row.instance_id], [])
                    if not twins or twins[-1].version_id != row.version_id:
                        twins.append(_known_version(row))
        return found

    def set_digest(
        self, version_id: VersionId, file_sha256: bytes, data_set_digest: bytes = b""
    ) -> None:
        """Record a version's digests. Those that are known already stay, whatever is given."""
        changes: dict[str, Any] = {}
        for column, digest in (
            (versions.c.file_sha256, file_sha256),
            (versions.c.data_set_digest, data_set_digest),
        ):
            if digest:
                changes[column.name] = sa.func.coalesce(column, digest)
        with self._database.write() as connection:
            connection.execute(
                sa.update(versions).where(versions.c.id == version_id).values(changes)
            )
            note_versions(connection, versions.c.id == version_id)

    def record(self, scanned: Sequence[ScannedEntry]) -> None:
        """Write down new and changed entries (studies, series, instances, versions).

        Recording an entry again with the same fingerprint and identity keeps its version.
        An entry that cannot be read now keeps what it was last known to hold, out of sight.
        """
        if not scanned:
            return
        self._rows.forget(one.entry.locator for one in scanned)
        with self._database.write() as connection:
            written = self._recorder.record(connection, scanned)
            if any(old != new for old, new in written):
                self._begin_writing(connection)
            signs = count_signs(written, self._newest_version)
            note_signs(connection, self._source_id, self._known_before, signs)
        for old, new in written:
            self._recount(old, new)

    def keep_unseen(self, expected: int) -> bool:
        """Count entries from before that were not seen as seen: the source says they are as before.

        Believed only where so many entries are present then, and none of those that were not seen
        is unreadable; else nothing happens, and the answer is False.
        """
        present = self._entries_before - self._seen_before + self._seen_by_class.total()
        if present != expected:
            return False
        with self._database.read() as connection:
            unreadable = connection.scalars(
                sa.select(entries.c.id).where(
                    entries.c.source_id == self._source_id,
                    entries.c.state == EntryState.UNREADABLE,
                )
            )
            if any(key not in self._seen for key in unreadable):
                return False
            for page in self._listed_pages(connection):
                for row in page:
                    if self._seen.add(row.id):
                        self._seen_by_class[_class_of(row)] += 1
                        self._seen_before += 1
        return True

    def finish(
        self,
        *,
        believe_absence: bool,
        bookmark: str = "",
        held_at: Collection[DestinationId] | None = None,
    ) -> ScanCounts:
        """End the pass. Entries not seen are marked gone only if `believe_absence`.

        The `bookmark` is kept instead of the one before. With `held_at` what all these hold has
        only left, and what one of them lacks is noted as lost.
        One transaction for all that is gone and for the source's counters.
        """
        gone = 0
        with self._database.write() as connection:
            if believe_absence and self._seen_before + self._unchanged < self._entries_before:
                gone = self._sweep(connection, held_at)
                note_signs(connection, self._source_id, self._known_before, Counter(gone=gone))
            if self._wrote:
                _count_source(connection, self._source_id)
            changes: dict[str, Any] = {"bookmark": bookmark}
            if self._run_key is not None:
                changes["last_seen_at"] = (
                    sa.select(sa.func.coalesce(runs.c.started_at, runs.c.created_at))
                    .where(runs.c.id == self._run_key)
                    .scalar_subquery()
                )
            if believe_absence:
                changes["believed_instances"] = sources.c.instances
            connection.execute(
                sa.update(sources).where(sources.c.id == self._source_id).values(changes)
            )
        counts = self._seen_by_class
        return ScanCounts(
            instances=self._unchanged + counts[_Class.INSTANCE] + counts[_Class.UNREADABLE],
            new=self._new,
            changed=self._changed,
            gone=gone,
            not_dicom=counts[_Class.NOT_DICOM],
            unreadable=counts[_Class.UNREADABLE],
            known_before=self._known_before,
        )

    def _begin_writing(self, connection: sa.Connection) -> None:
        """Note, with the pass's first change, that the source's counters no longer hold.

        A pass that dies before its end leaves the note behind, for the next to count anew.
        """
        if not self._wrote:
            connection.execute(
                sa.update(sources).where(sources.c.id == self._source_id).values(counted=False)
            )
            self._wrote = True

    def _see(self, row: Any) -> None:
        if not self._seen.add(row.id):
            return
        self._seen_by_class[_class_of(row)] += 1
        if row.state != EntryState.GONE:
            self._seen_before += 1
        elif _class_of(row) is _Class.INSTANCE:
            self._new += 1

    def _recount(self, old: Any | None, new: Any) -> None:
        """Count an entry by what it was recorded as, instead of what it was known as."""
        what = _class_of(new)
        if old is None:
            self._seen.add(new.id)
            self._new += what is not _Class.NOT_DICOM
        else:
            self._see(old)
            self._seen_by_class[_class_of(old)] -= 1
            fingerprint = (new.size, new.mtime_ns, new.inode)
            if fingerprint != (old.size, old.mtime_ns, old.inode):
                self._changed += what is not _Class.NOT_DICOM
        self._seen_by_class[what] += 1

    def _bring_back(self, rows: Sequence[Any]) -> None:
        """Mark entries as present that were gone and are listed again."""
        with self._database.write() as connection:
            for some in chunks([row[0] for row in rows]):
                note_entries(connection, some)
                connection.execute(
                    sa.update(entries)
                    .where(entries.c.id.in_(some), entries.c.state == EntryState.GONE)
                    .values(
                        state=sa.case(
                            (entries.c.problem_code == "", EntryState.PRESENT),
                            else_=EntryState.UNREADABLE,
                        )
                    )
                )
            self._begin_writing(connection)
            back = sum(_class_of(ListedRow(*row)) is _Class.INSTANCE for row in rows)
            note_signs(connection, self._source_id, self._known_before, Counter(returned=back))

    def _sweep(self, connection: sa.Connection, held_at: Collection[DestinationId] | None) -> int:
        """Mark entries that were not seen as gone; return how many of them were instances."""
        gone = 0
        for page in self._listed_pages(connection):
            absent = [row for row in page if row.id not in self._seen]
            missed = [row for row in absent if _class_of(row) is not _Class.NOT_DICOM]
            if held_at is not None:
                held = held_everywhere(connection, [row.id for row in missed], held_at)
                missed = [row for row in missed if row.id not in held]
                if self._run_key is not None:
                    note_lost(connection, self._run_key, [row.id for row in missed])
            gone += len(missed)
            for some in chunks([row.id for row in absent]):
                note_entries(connection, some)
                connection.execute(
                    sa.update(entries).where(entries.c.id.in_(some)).values(state=EntryState.GONE)
                )
            self._wrote = self._wrote or bool(absent)
        return gone

    def _listed_pages(self, connection: sa.Connection) -> Iterator[Sequence[Any]]:
        """Page by locator: in that order the index has the entries of one source."""
        last = ""
        while True:
            page = connection.execute(
                sa.select(
                    entries.c.id, entries.c.locator, entries.c.problem_code, entries.c.version_id
                )
                .where(
                    entries.c.source_id == self._source_id,
                    entries.c.state != EntryState.GONE,
                    entries.c.locator > last,
                    entries.c.id <= self._newest_before,
                )
                .order_by(entries.c.locator)
                .limit(_SWEEP)
            ).all()
            if not page:
                return
            yield page
            last = page[-1].locator


def _class_of(row: Any) -> _Class:
    if row.problem_code:
        return _Class.UNREADABLE
    return _Class.NOT_DICOM if row.version_id is None else _Class.INSTANCE


def _known_version(row: Any) -> KnownVersion:
    return KnownVersion(
        VersionId(row.version_id),
        entry_of(row),
        SourceId(row.source_id),
        row.file_sha256 or b"",
        row.data_set_digest or b"",
        row.source,
    )


def _count_source(connection: sa.Connection, source_id: SourceId) -> None:
    """Write what a source lists now into its row, from the entries."""
    listed = sa.and_(entries.c.source_id == source_id, entries.c.state != EntryState.GONE)
    is_instance = sa.or_(entries.c.version_id.is_not(None), entries.c.problem_code != "")
    totals = connection.execute(
        sa.select(
            sa.func.count().label("entries"),
            sa.func.count(sa.case((is_instance, 1))).label("instances"),
            sa.func.coalesce(sa.func.sum(sa.case((is_instance, entries.c.size))), 0).label("bytes"),
            sa.func.count(sa.distinct(entries.c.study_id)).label("studies"),
        ).where(listed)
    ).one()
    connection.execute(
        sa.update(sources)
        .where(sources.c.id == source_id)
        .values(
            entries=totals.entries,
            instances=totals.instances,
            bytes=int(totals.bytes),
            studies=totals.studies,
            counted=True,
        )
    )
