"""Selection: one pass over a source, reading only what is new or changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice

from dcmvault.dicom.digest import file_sha256
from dcmvault.dicom.part10 import claims_to_be_dicom, scan
from dcmvault.errors import MalformedDicomError, SourceEmptyError
from dcmvault.model.identifiers import RunId
from dcmvault.model.instance import (
    Claim,
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    InstanceHeader,
    ScannedEntry,
    UnreadableEntry,
)
from dcmvault.ports.catalogue import (
    KnownEntry,
    KnownVersion,
    Scan,
    ScanCounts,
    SourceCatalogue,
)
from dcmvault.ports.source import PassingThrough, Source

#: Entries compared with the catalogue at once.
_BATCH = 500
#: The fingerprint of what is listed, but cannot be examined.
_ABSENT = Fingerprint(0, 0, 0)
#: Bytes that tell whether a file claims to be DICOM.
_HEAD = 1024


def select_from(
    source: Source,
    sources: SourceCatalogue,
    run_id: RunId | None,
    *,
    include_other_files: bool,
    listed: Callable[[int], None],
) -> ScanCounts:
    """Make one pass over a source: what is new or changed is read and written down.

    `listed` is told the number of entries seen so far, batch by batch. Raises
    SourceUnavailableError, and SourceEmptyError when nothing is left of a source that had
    instances: then absence is not believed, and nothing is recorded as gone.
    """
    source_id = sources.source(source.name)
    known_before = sources.present_instances(source_id)
    scan_pass = sources.scan(source_id, run_id)
    readable = _scan(source, scan_pass, include_other_files=include_other_files, listed=listed)
    passes_through = isinstance(source, PassingThrough) and source.passes_through
    if known_before and not readable and not passes_through:
        raise SourceEmptyError(
            f"0 of {known_before:,} instances are visible at a source that had them",
            hint="Is its volume mounted? Nothing was recorded as deleted.",
        )
    counts = scan_pass.finish(believe_absence=True)
    return replace(counts, gone=0) if passes_through else counts


def _scan(
    source: Source,
    scan_pass: Scan,
    *,
    include_other_files: bool,
    listed: Callable[[int], None],
) -> int:
    """List every entry and record what is new; return how many instances can be read."""
    entries = chain.from_iterable(source.entries(study) for study in source.studies())
    total = readable = 0
    while batch := list(islice(entries, _BATCH)):
        known = scan_pass.known(batch)
        fresh = [
            entry
            for entry, before in zip(batch, known, strict=True)
            if _needs_reading(entry, before, include_other_files=include_other_files)
        ]
        if fresh:
            scanned = list(_examine(source, fresh, include_other_files=include_other_files))
            scan_pass.record(_with_digests(source, scan_pass, scanned))
            readable += sum(s.header is not None or bool(s.opaque_reason) for s in scanned)
        readable += _unchanged_instances(known, fresh)
        total += len(batch)
        listed(total)
    return readable


def _unchanged_instances(known: Sequence[KnownEntry | None], fresh: Sequence[InstanceEntry]) -> int:
    read = {entry.locator for entry in fresh}
    return sum(
        k is not None and k.version_id is not None and k.entry.locator not in read for k in known
    )


def _needs_reading(
    entry: InstanceEntry, before: KnownEntry | None, *, include_other_files: bool
) -> bool:
    if before is None or before.entry.fingerprint != entry.fingerprint:
        return True
    if before.unreadable:
        # What still is not there need not be looked for; anything else may have been mended.
        return entry.fingerprint != _ABSENT
    return include_other_files and before.version_id is None


def _examine(
    source: Source, fresh: Sequence[InstanceEntry], *, include_other_files: bool
) -> Iterator[ScannedEntry]:
    """Classify entries by content; an entry that is OTHER by name is read only if it is wanted."""
    wanted = [e for e in fresh if include_other_files or e.claim is Claim.DICOM]
    yield from (
        ScannedEntry(e) for e in fresh if not include_other_files and e.claim is Claim.OTHER
    )
    for answer in source.read(wanted):
        if isinstance(answer, UnreadableEntry):
            yield ScannedEntry(answer.entry, unreadable=answer)
        else:
            yield _classify(answer, include_other_files=include_other_files)


def _classify(file: InstanceFile, *, include_other_files: bool) -> ScannedEntry:
    entry = file.entry
    try:
        with file.path.open("rb") as stream:
            head = stream.read(_HEAD)
        name = entry.locator.rpartition("/")[2]
        if not (entry.expected_sop_instance_uid or claims_to_be_dicom(name, head)):
            if include_other_files:
                return ScannedEntry(entry, opaque_reason="not a DICOM file")
            return ScannedEntry(replace(entry, claim=Claim.OTHER))
        header = scan(file.path)
    except MalformedDicomError as error:
        return ScannedEntry(entry, opaque_reason=error.message)
    except OSError as error:
        reason = f"it cannot be read: {error.strerror or type(error).__name__}"
        return ScannedEntry(entry, unreadable=UnreadableEntry(entry, "unreadable", reason))
    if lacking := _lacking_identity(header):
        return ScannedEntry(entry, opaque_reason=f"{lacking} is missing")
    return ScannedEntry(entry, header=header)


def _lacking_identity(header: InstanceHeader) -> str:
    """Name the first UID without which an instance has no identity; empty if it has one."""
    if not header.sop_instance_uid:
        return "SOP Instance UID (0008,0018)"
    if not header.study_instance_uid:
        return "Study Instance UID (0020,000D)"
    if not header.series_instance_uid:
        return "Series Instance UID (0020,000E)"
    return ""


def _with_digests(
    source: Source, scan_pass: Scan, scanned: Sequence[ScannedEntry]
) -> list[ScannedEntry]:
    """Read the digest of every entry whose identity is known already, or occurs twice here.

    Only these need it before delivery: to tell a moved or copied file from a changed one.
    """
    identities = [s.header.identity for s in scanned if s.header is not None]
    if not identities:
        return list(scanned)
    occurrences = Counter(identities)
    twins = scan_pass.versions(sorted(occurrences))
    _digest_twins(source, scan_pass, twins.values())
    compared = {
        s.entry.locator: s
        for s in scanned
        if s.header is not None
        and (occurrences[s.header.identity] > 1 or twins.get(s.header.identity))
    }
    if not compared:
        return list(scanned)
    digests: dict[str, bytes] = {}
    for entry, value in _digests(source, [s.entry for s in compared.values()]):
        digests[entry.locator] = value
    for one in compared.values():
        if one.header is not None and one.entry.locator in digests:
            _know_renamed(
                scan_pass, one.entry, digests[one.entry.locator], twins.get(one.header.identity, ())
            )
    return [replace(s, file_sha256=digests.get(s.entry.locator, b"")) for s in scanned]


def _know_renamed(
    scan_pass: Scan, entry: InstanceEntry, file_sha256: bytes, twins: Iterable[KnownVersion]
) -> None:
    """Give versions that nobody read before their file was renamed the digest of that file.

    It is the same file when the file system says so: equal inode, size and time.
    """
    if not entry.fingerprint.inode:
        return
    for twin in twins:
        if not twin.file_sha256 and twin.entry.fingerprint == entry.fingerprint:
            scan_pass.set_digest(twin.version_id, file_sha256)


def _digest_twins(source: Source, scan_pass: Scan, twins: Iterable[Sequence[KnownVersion]]) -> None:
    """Read the digests of present versions that were never read whole, where this source can."""
    unread = {v.entry.locator: v for versions in twins for v in versions if not v.file_sha256}
    for entry, value in _digests(source, [v.entry for v in unread.values()]):
        scan_pass.set_digest(unread[entry.locator].version_id, value)


def _digests(
    source: Source, entries: Sequence[InstanceEntry]
) -> Iterator[tuple[InstanceEntry, bytes]]:
    """Yield the digests of the entries that can be read with their fingerprint unchanged.

    An entry of another source, or one that changed, simply has no answer: its content then
    counts as different, which costs a delivery and loses nothing.
    """
    for answer in source.read(entries):
        if isinstance(answer, InstanceFile):
            try:
                yield answer.entry, file_sha256(answer.path)
            except OSError:
                continue
