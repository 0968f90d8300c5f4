"""Selection: one pass over a source, reading only what is new or changed, and not told of.

What a source's index names is planned by what it says, so long as nothing else goes by that name;
whoever reads the file later confirms it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain, islice

from dcmvault.dicom.digest import file_sha256
from dcmvault.errors import SourceEmptyError
from dcmvault.model.identifiers import DestinationId, RunId, SourceId, VersionId, is_valid_uid
from dcmvault.model.instance import (
    Claim,
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    InstanceHeader,
    InstanceIdentity,
    ScannedEntry,
    StudyRef,
    UnreadableEntry,
)
from dcmvault.model.remarks import SourceRemarks
from dcmvault.model.selection import EVERYTHING, Selection
from dcmvault.pipeline.equal_contents import EqualContents, OpenSource
from dcmvault.pipeline.examination import examine_listed
from dcmvault.ports.catalogue import (
    KnownEntry,
    KnownVersion,
    Scan,
    ScanCounts,
    SourceCatalogue,
)
from dcmvault.ports.source import (
    HasRemarks,
    KeepsChanges,
    PassingThrough,
    Selective,
    Source,
    Summarises,
)

#: Entries compared with the catalogue at once, and written where an index tells of them.
_BATCH = 5_000
#: Entries listed, and files read, between two words about progress; what was read is written.
_LISTED = _READ = 500
#: The fingerprint of what is listed, but cannot be examined.
_ABSENT = Fingerprint(0, 0, 0)


def select_from(
    source: Source,
    sources: SourceCatalogue,
    run_id: RunId | None,
    *,
    include_other_files: bool,
    listed: Callable[[int], None],
    open_other: OpenSource,
    held_at: Collection[DestinationId] = (),
    selection: Selection = EVERYTHING,
) -> ScanCounts:
    """Make one pass over a source: what is new or changed is read and written down.

    `open_other` opens other sources, which may have an instance in other bytes. `listed` is told
    the number of entries seen so far, batch by batch. Raises SourceUnavailableError, and
    SourceEmptyError when nothing is left of a source that had instances: then absence is not
    believed, and nothing is recorded as gone. Of a source that instances only pass through, what
    not all of `held_at` hold is gone; a pass without a run does not look for it.
    With a `selection` the pass lists what may be meant only, and nothing is concluded from absence.
    """
    source_id = sources.source(source.name)
    known_before = sources.present_instances(source_id)
    scan_pass = sources.scan(source_id, run_id)
    passes_through = is_passed_through(source)
    contents = EqualContents(source, source_id, scan_pass, open_other, alone_too=passes_through)
    listing = _Listing(source, source_id, scan_pass, contents, include_other_files, selection)
    if not selection.is_whole:
        listing.list_studies(studies_of(source, selection), listed)
        return scan_pass.finish(believe_absence=False, bookmark=sources.bookmark(source_id))
    bookmark = ""
    if isinstance(source, KeepsChanges):
        before = sources.bookmark(source_id)
        changes = source.changes_since(before) if before else None
        if changes is not None:
            listing.list_studies(changes.studies, listed)
            if scan_pass.keep_unseen(source.count()):
                return scan_pass.finish(believe_absence=True, bookmark=changes.bookmark)
        bookmark = source.bookmark()
    readable = listing.list_studies(source.studies(), listed)
    if known_before and not readable and not passes_through:
        raise SourceEmptyError(
            f"0 of {known_before:,} instances are visible at a source that had them",
            hint="Is its volume mounted? Nothing was recorded as deleted.",
        )
    return scan_pass.finish(
        # What was lost must have a run to tell it.
        believe_absence=remarks_of(source).lists_all and not (passes_through and run_id is None),
        bookmark=bookmark,
        held_at=held_at if passes_through else None,
    )


def studies_of(source: Source, selection: Selection) -> Iterator[StudyRef]:
    """List the studies of which anything may be meant."""
    studies: Iterable[StudyRef]
    if isinstance(source, Selective):
        studies = source.matching(selection)
    elif selection.studies and not selection.series and isinstance(source, Summarises):
        studies = (StudyRef(uid, uid) for uid in selection.studies)
    else:
        studies = source.studies()
    for study in studies:
        if not study.study_instance_uid or selection.may_name(study.study_instance_uid):
            yield study


def may_be_meant(entry: InstanceEntry, selection: Selection) -> bool:
    """Say whether an entry may be meant by what an index says; without one, it may."""
    told = entry.indexed
    return told is None or (
        selection.names(told.study_instance_uid, told.series_instance_uid)
        and not selection.contradicts(told.study._asdict())
    )


def remarks_of(source: Source) -> SourceRemarks:
    """Return what the last pass over a source found out about it as a whole."""
    return source.remarks() if isinstance(source, HasRemarks) else SourceRemarks()


def is_passed_through(source: Source) -> bool:
    """Say whether a source holds instances only until they are backed up."""
    return isinstance(source, PassingThrough) and source.passes_through


@dataclass(frozen=True, slots=True)
class _Listing:
    """One pass over a source, batch by batch."""

    source: Source
    source_id: SourceId
    scan_pass: Scan
    contents: EqualContents
    include_other_files: bool
    wanted: Selection

    def list_studies(self, studies: Iterable[StudyRef], listed: Callable[[int], None]) -> int:
        """List the entries of studies and record what is new; return how many can be read."""
        entries = chain.from_iterable(self.source.entries(study) for study in studies)
        total = readable = 0
        batch: list[InstanceEntry] = []
        while some := list(islice(entries, _LISTED)):
            batch += (
                some
                if self.wanted.is_whole
                else (entry for entry in some if may_be_meant(entry, self.wanted))
            )
            total += len(some)
            listed(total)
            if len(batch) >= _BATCH:
                readable += self._take(batch, partial(listed, total))
                batch = []
        return readable + self._take(batch, partial(listed, total))

    def _take(self, batch: Sequence[InstanceEntry], working: Callable[[], object]) -> int:
        news = self.scan_pass.news(batch)
        fresh = {
            entry.locator: (entry, before)
            for entry, before in news.others
            if self._is_fresh(entry, before)
        }
        if not fresh:
            return news.unchanged
        told = self._told(fresh.values())
        self._record(told)
        for scanned in told:
            del fresh[scanned.entry.locator]
        readable = news.unchanged + len(told)
        to_read = [entry for entry, _before in fresh.values()]
        for start in range(0, len(to_read), _READ):
            examined = list(self._examine(to_read[start : start + _READ]))
            self._record(self._with_digests(examined))
            readable += sum(s.header is not None or bool(s.opaque_reason) for s in examined)
            working()
        return readable

    def _record(self, scanned: Sequence[ScannedEntry]) -> None:
        self.scan_pass.record(scanned)
        alone_too = self.contents.alone_too
        compared = {
            one.header.identity for one in scanned if one.header and (one.file_sha256 or alone_too)
        }
        self.contents.compare(compared)

    def _is_fresh(self, entry: InstanceEntry, before: KnownEntry | None) -> bool:
        if before is None or before.entry.fingerprint != entry.fingerprint:
            return True
        if before.unreadable:
            # What still is not there need not be looked for; anything else may have been mended.
            return entry.fingerprint != _ABSENT
        return self.include_other_files and before.version_id is None

    def _told(self, fresh: Iterable[tuple[InstanceEntry, KnownEntry | None]]) -> list[ScannedEntry]:
        """Take from the index what is new and has a name that nothing else has.

        Where the index knows the content's digest, others may have the same name: what is equal
        is told from what is not without reading it. A file that was known before is read whatever
        the index says: it may have been found to hold something else than that.
        """
        told = [
            (entry, entry.indexed)
            for entry, before in fresh
            if entry.indexed is not None
            and before is None
            and entry.claim is Claim.DICOM
            and entry.fingerprint != _ABSENT
            and _names_an_instance(entry.indexed)
        ]
        if not told:
            return []
        identities = [header.identity for _entry, header in told]
        occurrences = Counter(identities)
        taken = self.scan_pass.versions(occurrences)
        return [
            ScannedEntry(entry, _with_valid_kind(header), file_sha256=entry.file_sha256)
            for (entry, header), identity in zip(told, identities, strict=True)
            if entry.file_sha256 or (occurrences[identity] == 1 and identity not in taken)
        ]

    def _examine(self, fresh: Sequence[InstanceEntry]) -> Iterator[ScannedEntry]:
        """Classify entries by content; what is OTHER by name is read only if it is wanted."""
        wanted = [e for e in fresh if self.include_other_files or e.claim is Claim.DICOM]
        if not self.include_other_files:
            yield from (ScannedEntry(entry) for entry in fresh if entry.claim is Claim.OTHER)
        for answer in self.source.read(wanted) if wanted else ():
            if isinstance(answer, UnreadableEntry):
                yield ScannedEntry(answer.entry, unreadable=answer)
            else:
                yield examine_listed(answer, include_other_files=self.include_other_files)

    def _with_digests(self, scanned: Sequence[ScannedEntry]) -> list[ScannedEntry]:
        """Read the digest of every entry whose identity is known already, or occurs twice here.

        Only these need it before delivery: to tell a moved or copied file from a changed one.
        """
        occurrences = Counter(s.header.identity for s in scanned if s.header is not None)
        if not occurrences:
            return list(scanned)
        twins = self._confirmed(
            self.scan_pass.versions(occurrences),
            {one.entry.locator: one.entry.fingerprint for one in scanned},
        )
        compared = {
            s.entry.locator: s
            for s in scanned
            if s.header and (occurrences[s.header.identity] > 1 or twins.get(s.header.identity))
        }
        digests = dict(self._digests([s.entry for s in compared.values()]))
        for locator, digest in digests.items():
            one = compared[locator]
            if one.header is not None:
                self._know_renamed(one.entry, digest, twins.get(one.header.identity, ()))
        return [replace(s, file_sha256=digests.get(s.entry.locator, b"")) for s in scanned]

    def _know_renamed(
        self, entry: InstanceEntry, file_sha256: bytes, twins: Iterable[KnownVersion]
    ) -> None:
        """Give versions that nobody read before their file was renamed the digest of that file.

        It is the same file when the file system says so: equal inode, size and time. That says
        something only within one source: others count otherwise, or make fingerprints up.
        """
        if not entry.fingerprint.inode:
            return
        for twin in twins:
            if (
                twin.source_id == self.source_id
                and not twin.file_sha256
                and twin.entry.fingerprint == entry.fingerprint
            ):
                self.scan_pass.set_digest(twin.version_id, file_sha256)

    def _confirmed(
        self,
        twins: Mapping[InstanceIdentity, Sequence[KnownVersion]],
        listed: Mapping[str, Fingerprint],
    ) -> Mapping[InstanceIdentity, Sequence[KnownVersion]]:
        """Read the digests of present versions that were never read whole, each in its source.

        What took the place of one here, as it is `listed` now, says nothing of it: a source over
        a network may not be able to tell the two apart when it reads.

        One of which only an index told may turn out to be another instance: then it is recorded
        as that, and is no twin. Of another source's file that is left to a pass over that source.
        """
        unread = {
            version.version_id: (version, identity)
            for identity, versions in twins.items()
            for version in versions
            if not version.file_sha256
            and not (version.source_id == self.source_id and _was_replaced(version.entry, listed))
        }
        misnamed: dict[VersionId, ScannedEntry] = {}
        for version, file in self.contents.files([version for version, _ in unread.values()]):
            found = examine_listed(file, include_other_files=True)
            try:
                digest = file_sha256(file.path)
            except OSError:
                continue
            _version, identity = unread[version.version_id]
            if found.header is not None and found.header.identity == identity:
                self.scan_pass.set_digest(version.version_id, digest)
            elif found.unreadable is None and version.source_id == self.source_id:
                misnamed[version.version_id] = replace(found, file_sha256=digest)
        if not misnamed:
            return twins
        self.scan_pass.record(list(misnamed.values()))
        return {
            identity: [one for one in versions if one.version_id not in misnamed]
            for identity, versions in twins.items()
        }

    def _digests(self, entries: Sequence[InstanceEntry]) -> Iterator[tuple[str, bytes]]:
        """Yield locators and digests of entries that can be read with their fingerprint unchanged.

        An entry that changed simply has no answer: its content then counts as different, which
        costs a delivery and loses nothing.
        """
        for answer in self.source.read(entries) if entries else ():
            if isinstance(answer, InstanceFile):
                with suppress(OSError):
                    yield answer.entry.locator, file_sha256(answer.path)


def _was_replaced(entry: InstanceEntry, listed: Mapping[str, Fingerprint]) -> bool:
    return listed.get(entry.locator, entry.fingerprint) != entry.fingerprint


def _names_an_instance(header: InstanceHeader) -> bool:
    return (
        is_valid_uid(header.sop_instance_uid)
        and _is_valid_uid(header.series_instance_uid)
        and _is_valid_uid(header.study_instance_uid)
    )


def _with_valid_kind(header: InstanceHeader) -> InstanceHeader:
    """Take a SOP class or transfer syntax that is no UID for one that the index does not know."""
    sop_class, syntax = header.sop_class_uid, header.transfer_syntax_uid
    if all(_is_valid_uid(uid) for uid in (sop_class, syntax) if uid):
        return header
    return header._replace(
        sop_class_uid=sop_class if _is_valid_uid(sop_class) else "",
        transfer_syntax_uid=syntax if _is_valid_uid(syntax) else "",
    )


#: Of a kind, a series, or a study, there are many instances.
_is_valid_uid = lru_cache(maxsize=256)(is_valid_uid)
