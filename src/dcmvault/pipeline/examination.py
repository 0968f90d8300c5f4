"""Examination: what a file holds, found by reading it, whatever was planned or an index says."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from dcmvault.dicom.digest import file_sha256
from dcmvault.dicom.part10 import claims_to_be_dicom, scan
from dcmvault.errors import EntryMisnamedError, MalformedDicomError
from dcmvault.model.instance import (
    Claim,
    InstanceEntry,
    InstanceFile,
    InstanceHeader,
    ScannedEntry,
    UnreadableEntry,
)
from dcmvault.model.plan import PlanItem

#: Bytes that tell whether a file claims to be DICOM.
_HEAD = 1024
#: A time at which no file was changed: just before 1970.
_NEVER = -1


def examine_listed(file: InstanceFile, *, include_other_files: bool) -> ScannedEntry:
    """Classify a file that a source listed, by its content."""
    entry = file.entry
    try:
        with file.path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        return _unread(file, error)
    name = entry.locator.rpartition("/")[2]
    if not (entry.expected_sop_instance_uid or claims_to_be_dicom(name, head)):
        if include_other_files:
            return ScannedEntry(entry, opaque_reason="not a DICOM file")
        return ScannedEntry(replace(entry, claim=Claim.OTHER))
    return _scanned(file)


@dataclass(frozen=True, slots=True)
class Examined:
    """A file that may be delivered, or why not; and what the catalogue did not know of it."""

    file: InstanceFile | UnreadableEntry
    found: ScannedEntry | None = None


def examine_planned(plan: PlanItem, answer: InstanceFile | UnreadableEntry) -> Examined:
    """Find out whether a file is the instance that was planned.

    One that holds something else is not delivered under the planned UIDs, nor under its own in
    this run: its place in the plan, and what the destination has of it, are not known.
    """
    if isinstance(answer, UnreadableEntry) or plan.opaque_reason:
        return Examined(answer)
    scanned = _scanned(answer)
    header = scanned.header
    if scanned.unreadable is not None:
        return Examined(scanned.unreadable)
    if header is not None and header.identity == plan.identity:
        is_known = header.kind == plan.kind
        return Examined(replace(answer, header=header), None if is_known else scanned)
    if header is not None:
        # The next pass takes it for a new file, and compares it with others of that name.
        scanned = replace(scanned, entry=_as_changed(scanned.entry))
    # Without a digest its content counts as different from any other's, which loses nothing.
    with suppress(OSError):
        scanned = replace(scanned, file_sha256=file_sha256(answer.path))
    message = (
        "the source's index named another instance for this file; the catalogue knows now what it"
        " holds, and the next run delivers that"
    )
    return Examined(UnreadableEntry(answer.entry, EntryMisnamedError.code, message), scanned)


def _as_changed(entry: InstanceEntry) -> InstanceEntry:
    """Give an entry a fingerprint that no file has."""
    return replace(entry, fingerprint=entry.fingerprint._replace(mtime_ns=_NEVER))


def _scanned(file: InstanceFile) -> ScannedEntry:
    try:
        header = scan(file.path)
    except MalformedDicomError as error:
        return ScannedEntry(file.entry, opaque_reason=error.message)
    except OSError as error:
        return _unread(file, error)
    if lacking := _lacking_identity(header):
        return ScannedEntry(file.entry, opaque_reason=f"{lacking} is missing")
    return ScannedEntry(file.entry, header=header)


def _unread(file: InstanceFile, error: OSError) -> ScannedEntry:
    reason = f"it cannot be read: {error.strerror or type(error).__name__}"
    return ScannedEntry(file.entry, unreadable=UnreadableEntry(file.entry, "unreadable", reason))


def _lacking_identity(header: InstanceHeader) -> str:
    """Name the first UID without which an instance has no identity; empty if it has one."""
    if not header.sop_instance_uid:
        return "SOP Instance UID (0008,0018)"
    if not header.study_instance_uid:
        return "Study Instance UID (0020,000D)"
    if not header.series_instance_uid:
        return "Series Instance UID (0020,000E)"
    return ""
