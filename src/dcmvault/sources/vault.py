"""A vault as a source: the files that it holds, rebuilt and verified when they are read."""

from __future__ import annotations

import hashlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

from dcmvault.config.sections import VaultSection, VaultSourceSection
from dcmvault.dicom.sentences import sentence
from dcmvault.errors import (
    DcmvaultError,
    DestinationError,
    EntryChangedError,
    EntryUnreadableError,
    EntryVanishedError,
    SourceUnavailableError,
    VaultFormatError,
    VaultLockedError,
)
from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    InstanceHeader,
    SeriesAttributes,
    StudyRef,
    UnreadableEntry,
)
from dcmvault.model.remarks import SourceRemarks
from dcmvault.model.selection import EVERYTHING, Selection
from dcmvault.scratch import scratch_folder
from dcmvault.vault.choosing import Choice
from dcmvault.vault.damage import out_of_reach, read_in_spite_of_damage
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.reading import FileReader
from dcmvault.vault.records import InstanceRecord, StudyRecords, current
from dcmvault.vault.repository import Vault
from dcmvault.vault.state import VaultState

#: The study of files that are no instances, as locators have it.
_NO_STUDY = "-"
#: Digits that tell files of one base name apart within a study.
_MARK_DIGITS = 16
_LOCATOR = re.compile(rf"([^/]+)/([0-9a-f]{{{_MARK_DIGITS}}})-")
#: The name of what stands for records that cannot be read.
_RECORDS = "records"
#: The locator of what stands for lists of studies that cannot be read; no study has such a one.
_LISTS = "%lists"
_UNREAD_LISTS = "A list of studies in the vault cannot be read."
#: The fingerprint of what is listed, but cannot be examined.
_ABSENT = Fingerprint(0, 0, 0)
_SEPARATOR = re.compile(r"[/\\]")
_LONGEST_NAME = 120
#: Files that are looked up, and whose places in packs are planned, at once.
_READ_AT_ONCE = 32
#: Groups of files that are rebuilt at once, and as many wait to be read.
_SIDE_BY_SIDE = min(4, os.cpu_count() or 1)
#: A group's files at most, and their bytes.
_GROUP_FILES, _GROUP_BYTES = 8, 16 << 20

_Found = tuple[InstanceEntry, "InstanceRecord | UnreadableEntry"]


class VaultSource:
    """A Source over the present state of a vault, or over one of its snapshots.

    A StudyRef is a study; its locator is the Study Instance UID, and `-` for the files that are
    no instances. An entry's locator is that, a mark made of what the file was in its own source
    (source, locator, SOP Instance UID), and the file's base name there. The fingerprint is the
    recorded one, without an inode. `read` rebuilds files in a private folder outside the vault,
    a few ahead, and verifies size and SHA-256 of each.

    The vault is opened, by whichever key is configured, when it is first needed. `snapshot` is as
    `find_snapshot` takes it.
    """

    def __init__(
        self, section: VaultSection, open_vault: Callable[[], Vault], snapshot: str = ""
    ) -> None:
        self._section = section
        self._open_vault = open_vault
        self._snapshot = snapshot
        self._vault: Vault | None = None
        self._listed: VaultState | None = None
        #: Why lists of studies could not be read, by the locator of what stands for each.
        self._lost_lists: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The vault's address, with the snapshot if it is not the present."""
        return VaultSourceSection(location=self._section.location, snapshot=self._snapshot).address

    def studies(self) -> Iterator[StudyRef]:
        """List the studies that the vault holds.

        Raises VaultLockedError and VaultFormatError as they come, SourceUnavailableError for
        everything else that keeps the vault from being read.
        """
        return self.matching(EVERYTHING)

    def matching(self, selection: Selection) -> Iterator[StudyRef]:
        """List the studies that a selection may mean, by what snapshots say of each.

        Lists that cannot be read are listed as one more, whose files cannot be read: nobody knows
        which studies these name.
        """
        self._lost_lists = {}
        with _unavailable():
            state = self._listed = self._state()
            listed = [
                uid
                for uid, entry in LegibleState(state, self._lose_list).overview()
                if selection.may_name(_word(uid))
                and (entry is None or selection.describes(entry.about))
            ]
        for uid in listed:
            yield StudyRef(_word(uid), uid)
        by_uid = selection.studies and not selection.series
        all_found = by_uid and len(listed) == len({*selection.studies})
        if self._lost_lists and not all_found:
            yield StudyRef(_LISTS, "")

    def remarks(self) -> SourceRemarks:
        """Say whether lists of studies could not be read."""
        return SourceRemarks(lists_all=not self._lost_lists)

    def _lose_list(self, _study: str, error: DestinationError) -> None:
        told = f"{_UNREAD_LISTS[:-1]}: {sentence(error.message)}"
        self._lost_lists[f"{_LISTS}/{_mark(told)}-lists"] = told

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        """List the files of one study, as its records say.

        Records that cannot be read are listed as a file that cannot: nobody knows which they name.
        """
        if study.locator == _LISTS:
            for locator in self._lost_lists:
                yield InstanceEntry(locator, _ABSENT)
            return
        uid = _uid(study.locator)
        losses: dict[str, str] = {}
        with _unavailable():
            if self._listed is None:
                self._listed = self._state()
            parts = _legible(self._listed, uid, losses).parts(uid)
        for locator in losses:
            yield InstanceEntry(locator, _ABSENT)
        part_of = {(one.key, one.version): part for part in parts for one in part.instances}
        records = current([record for part in parts for record in part.instances])
        for record in sorted(records, key=lambda record: (record.stored_at, record.key)):
            entry = _entry(uid, record)
            header = _header(uid, record, part_of[record.key, record.version])
            yield replace(entry, indexed=header, file_sha256=record.file_sha256)

    def read(
        self, entries: Iterable[InstanceEntry], *, kept: int = 1
    ) -> Iterator[InstanceFile | UnreadableEntry]:
        """Rebuild each file from what the vault holds now; the last `kept` are there."""
        with scratch_folder() as folder:
            rebuilt: deque[Path] = deque()
            with _Rebuilding(self._lookup, folder) as rebuilding:
                for answer in rebuilding.answers(entries):
                    if isinstance(answer, InstanceFile):
                        rebuilt.append(answer.path)
                    yield answer
                    while len(rebuilt) >= kept:
                        rebuilt.popleft().unlink(missing_ok=True)

    def _lookup(self) -> _Lookup | DcmvaultError:
        try:
            return _Lookup(self._state(), self._lost_lists)
        except DcmvaultError as error:
            return error

    def _state(self) -> VaultState:
        """Look at the vault anew: others may have written to it."""
        if self._vault is None:
            self._vault = self._open_vault()
            read_in_spite_of_damage(self._vault)
        return Choice(self._vault).named(self._snapshot)


@dataclass(slots=True)
class _Lookup:
    """Finds records by locator; knows those of one study at a time."""

    state: VaultState
    lost_lists: Mapping[str, str]
    _word: str = ""
    #: By locator of what stands for records: why they cannot be read.
    _losses: dict[str, str] = field(default_factory=dict)
    _records: dict[str, InstanceRecord] = field(default_factory=dict)

    def record(self, entry: InstanceEntry) -> InstanceRecord | UnreadableEntry:
        """Return the record that an entry still is, or why there is none."""
        found = _LOCATOR.match(entry.locator)
        if found is None:
            return _refusal(entry, EntryUnreadableError, "No file of a vault has this locator.")
        if found[1] == _LISTS:
            told = self.lost_lists.get(entry.locator, _UNREAD_LISTS)
            return _refusal(entry, EntryUnreadableError, told)
        if found[1] != self._word:
            uid = _uid(found[1])
            losses: dict[str, str] = {}
            try:
                records = _legible(self.state, uid, losses).records(uid)
            except DestinationError as error:
                return _refusal(entry, EntryUnreadableError, sentence(error.message))
            self._word, self._losses = found[1], losses
            self._records = {_entry(uid, record).locator: record for record in records}
        record = self._records.get(entry.locator)
        if (lost := self._losses.get(entry.locator)) is not None:
            return _refusal(entry, EntryUnreadableError, lost)
        if record is None:
            return _refusal(entry, EntryVanishedError, "The vault does not hold the file any more.")
        if _fingerprint(record) != entry.fingerprint:
            return _refusal(
                entry, EntryChangedError, "The vault holds another version of the file now."
            )
        return record


class _Rebuilding:
    """Rebuilds files in a folder, some groups of them ahead and side by side."""

    def __init__(self, lookup: Callable[[], _Lookup | DcmvaultError], folder: Path) -> None:
        self._look_up = lookup
        self._paths = (folder / f"file-{number}" for number in count())
        self._groups = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="rebuild")
        self._decoders = ThreadPoolExecutor(thread_name_prefix="decoder")
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended = True
        self._groups.shutdown(cancel_futures=True)
        self._decoders.shutdown(cancel_futures=True)

    def answers(self, entries: Iterable[InstanceEntry]) -> Iterator[InstanceFile | UnreadableEntry]:
        """Answer for entries in their order."""
        coming = iter(entries)
        under_way: deque[Future[list[InstanceFile | UnreadableEntry]]] = deque()
        lookup: _Lookup | DcmvaultError | None = None
        while batch := list(islice(coming, _READ_AT_ONCE)):
            if lookup is None:
                lookup = self._look_up()
            if isinstance(lookup, DcmvaultError):
                for entry in batch:
                    yield _refusal(entry, EntryUnreadableError, sentence(lookup.message))
                continue
            found = [(entry, lookup.record(entry)) for entry in batch]
            for group in _grouped(found):
                while len(under_way) > _SIDE_BY_SIDE:
                    yield from under_way.popleft().result()
                paths = [next(self._paths) for _one in group]
                vault = lookup.state.vault
                under_way.append(self._groups.submit(self._rebuild, vault, group, paths))
        while under_way:
            yield from under_way.popleft().result()

    def _rebuild(
        self, vault: Vault, group: Sequence[_Found], paths: Sequence[Path]
    ) -> list[InstanceFile | UnreadableEntry]:
        records = [record for _entry, record in group if isinstance(record, InstanceRecord)]
        reader = FileReader(vault, records, self._decoders)
        return [
            record
            if isinstance(record, UnreadableEntry)
            else self._one(entry, record, reader, path)
            for (entry, record), path in zip(group, paths, strict=True)
        ]

    def _one(
        self, entry: InstanceEntry, record: InstanceRecord, reader: FileReader, path: Path
    ) -> InstanceFile | UnreadableEntry:
        if self._ended:
            return _refusal(entry, EntryUnreadableError, "Nobody reads it any more.")
        try:
            _write(path, record, reader)
        except DestinationError as error:
            return _refusal(entry, EntryUnreadableError, sentence(error.message))
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            message = f"The file cannot be rebuilt on this machine: {reason}."
            return _refusal(entry, EntryUnreadableError, message)
        return InstanceFile(entry, path)


def _grouped(found: Sequence[_Found]) -> Iterator[list[_Found]]:
    """Divide files into groups that are worth a thread, and cost little disk ahead."""
    group: list[_Found] = []
    size = 0
    for entry, record in found:
        group.append((entry, record))
        size += record.size if isinstance(record, InstanceRecord) else 0
        if len(group) >= _GROUP_FILES or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _legible(state: VaultState, uid: str, losses: dict[str, str]) -> LegibleState:
    """Read a study as far as that is possible; `losses` takes what is lost of it, by locator."""

    def lose(_study: str, error: DestinationError) -> None:
        told = f"Records of the study cannot be read: {sentence(error.message)}"
        losses[f"{_word(uid)}/{_mark(told)}-{_RECORDS}"] = told

    return LegibleState(state, lose)


def _mark(told: str) -> str:
    return hashlib.sha256(told.encode()).hexdigest()[:_MARK_DIGITS]


def _word(uid: str) -> str:
    return quote(uid, safe="") or _NO_STUDY


def _uid(word: str) -> str:
    return "" if word == _NO_STUDY else unquote(word)


def _entry(uid: str, record: InstanceRecord) -> InstanceEntry:
    """Make the entry of a record: the same record gives the same one, another another."""
    told = "\0".join(record.key).encode("utf-8", "surrogatepass")
    mark = hashlib.sha256(told).hexdigest()[:_MARK_DIGITS]
    base = _SEPARATOR.split(record.locator)[-1][-_LONGEST_NAME:]
    base = base.encode(errors="replace").decode()
    return InstanceEntry(
        f"{_word(uid)}/{mark}-{base}",
        _fingerprint(record),
        expected_sop_instance_uid=record.sop_instance_uid,
    )


def _header(uid: str, record: InstanceRecord, part: StudyRecords) -> InstanceHeader | None:
    """Say what the vault knows of an instance; None for what is none."""
    if not (uid and record.sop_instance_uid):
        return None
    return InstanceHeader(
        sop_class_uid=record.sop_class_uid,
        sop_instance_uid=record.sop_instance_uid,
        study_instance_uid=uid,
        series_instance_uid=record.series_instance_uid,
        transfer_syntax_uid=record.transfer_syntax_uid,
        study=part.attributes,
        series=part.series.get(record.series_instance_uid, SeriesAttributes()),
        instance_number=record.instance_number,
        data_set_start=0,
        data_set_end=0,
    )


def _fingerprint(record: InstanceRecord) -> Fingerprint:
    return Fingerprint(record.size, record.mtime_ns, 0)


def _write(path: Path, record: InstanceRecord, reader: FileReader) -> None:
    """Rebuild a file piece by piece; it is whole and verified on return, or not there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
            for piece in reader.pieces(record):
                file.write(piece)
            file.flush()
            os.utime(file.fileno(), ns=(record.mtime_ns, record.mtime_ns))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _refusal(
    entry: InstanceEntry, kind: type[EntryUnreadableError], message: str
) -> UnreadableEntry:
    return UnreadableEntry(entry, kind.code, message)


@contextmanager
def _unavailable() -> Iterator[None]:
    """Say of the source what the vault's place said of itself."""
    try:
        yield
    except (VaultLockedError, VaultFormatError):
        raise  # each with the exit status that it has for every other command
    except DestinationError as error:
        hint = error.hint or "`dcmvault vault check` finds out what is wrong with it."
        if out_of_reach(error):
            hint = error.hint or "Check that it is reachable, then run again."
        raise SourceUnavailableError(
            f"The vault cannot be read: {sentence(error.message)}", hint=hint
        ) from error
