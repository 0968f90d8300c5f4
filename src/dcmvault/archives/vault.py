"""A vault as an archive: at one of its snapshots, or at present, which goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from dcmvault.archives.finding import Finding, StateView
from dcmvault.archives.giving_way import GivingWay
from dcmvault.archives.kept_cards import KeptCards
from dcmvault.archives.kept_files import KeptFiles, bytes_to_keep
from dcmvault.archives.read_ahead import read_ahead, record_of
from dcmvault.archives.study_cards import StudyCards
from dcmvault.archives.study_table import StudyRow, StudyTable
from dcmvault.dicom import attributes as tags
from dcmvault.errors import DcmvaultError, DestinationError, UsageError, VaultDamagedError
from dcmvault.model.query import (
    ArchiveAnswer,
    ArchivedInstance,
    ArchiveQuery,
    InstanceBytes,
    QueryLevel,
    Selection,
    UnreadableInstance,
)
from dcmvault.ports.archive import HeaderBytes
from dcmvault.vault.blob import BlobType
from dcmvault.vault.damage import out_of_reach, read_in_spite_of_damage
from dcmvault.vault.freed_memory import give_back
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.repository import Vault
from dcmvault.vault.skeletons import SkeletonBytes
from dcmvault.vault.state import VaultState

_log = logging.getLogger(__name__)

#: Seconds between looks whether there is a new snapshot.
_LOOK_S = 15.0
#: Files that nobody asked for in so many seconds are let go of.
_UNUSED_S = 900.0
#: Of the memory that files are kept in, one part in so many is for headers' blocks meanwhile.
_HEADERS_PART = 4
#: The pseudo study of files that are no instances.
_NO_STUDY = ""
#: What a loss is told of that hides studies nobody can name.
_MANY_STUDIES = ""


class VaultArchive:
    """An Archive over a vault. Used as a context: inside, it follows the vault in the background.

    `choose` looks at the vault and returns the state that is meant; `follows` says that it is
    the present. Files that belong to no study are not shown. What a look
    into each study told is kept in the folder `keeps`, sealed, for the next time.
    """

    def __init__(
        self,
        vault: Vault,
        choose: Callable[[], VaultState],
        *,
        follows: bool = True,
        keeps: Path | None = None,
    ) -> None:
        """Read the lists of studies; DestinationError where the vault cannot be read."""
        self._vault = vault
        self._choose = choose
        self._follows = follows
        self._cards = StudyCards(vault)
        self._kept_cards = KeptCards(vault, keeps) if keeps is not None else None
        if self._kept_cards is not None:
            self._cards.take_up(self._kept_cards.load())
        self._files = KeptFiles(bytes_to_keep())
        self._giving_way = GivingWay()
        self._thread: threading.Thread | None = None
        read_in_spite_of_damage(vault)
        self._seen = _snapshots(self._vault)
        self._view = _look(self._choose(), self._cards)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._follow, name="archive", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._giving_way.stop()
        if self._thread is not None:
            self._thread.join()

    @property
    def studies(self) -> int:
        """How many studies it has."""
        return len(self._view.table)

    def find(self, query: ArchiveQuery) -> Iterator[ArchiveAnswer]:
        """Yield what matches, the newest studies first."""
        return self._giving_way.going_first(Finding(self._view, query).answers())

    def instances(self, selection: Selection) -> Sequence[ArchivedInstance]:
        """List the instances of a selection, by study, series and Instance Number.

        Raises QueryTooBroadError where it names neither patient nor study and there are too many,
        VaultDamagedError where damage hides all of it: nothing would look like success.
        """
        view = self._view
        selected = list(_selected(view, selection))
        series_uids = frozenset(selection.series_instance_uids)
        instance_uids = frozenset(selection.sop_instance_uids)
        found = [
            instance
            for row in selected
            for series in self._cards.contents(row, view.legible)
            if not series_uids or series.series_instance_uid in series_uids
            for instance in series.instances(row.study_instance_uid, instance_uids)
        ]
        if not found and view.lost & {_MANY_STUDIES, *(row.study_instance_uid for row in selected)}:
            raise VaultDamagedError("what the vault says of its studies is damaged")
        return found

    def is_whole(self, selection: Selection, found: Sequence[ArchivedInstance]) -> bool:
        """Say whether that is all of a selection, as far as damage was met."""
        asked = frozenset(selection.sop_instance_uids)
        if asked and asked <= {one.sop_instance_uid for one in found}:
            return True
        view = self._view
        return not any(
            uid in view.lost or (_MANY_STUDIES in view.lost and not view.has_list_of(uid))
            for uid in {one.study_instance_uid for one in found}
        )

    def syntaxes(self, sop_class_uid: str) -> Sequence[str]:
        """Return what transfer syntaxes instances of a class are held in, as cards have it."""
        return self._cards.syntaxes(sop_class_uid)

    def read(
        self, instances: Iterable[ArchivedInstance]
    ) -> Generator[InstanceBytes | UnreadableInstance, None, None]:
        """Yield the file of each instance in turn."""
        return self._giving_way.going_first(read_ahead(self._vault, instances, self._files))

    def headers(
        self, instances: Iterable[ArchivedInstance]
    ) -> Iterator[tuple[ArchivedInstance, HeaderBytes | None]]:
        """Yield the header of each instance in turn, from its skeleton."""
        for instance in instances:
            try:
                yield instance, SkeletonBytes(self._vault, record_of(instance))
            except DestinationError as error:
                if out_of_reach(error):
                    raise
                yield instance, None

    # In the background

    def _follow(self) -> None:
        """Take up new snapshots, look into studies before somebody asks, let go of unused files."""
        self._read_cards()
        while not self._giving_way.rest(_LOOK_S):
            if self._files.drop_unused(_UNUSED_S):
                give_back()
            try:
                if not self._look_again():
                    continue
            except DcmvaultError as error:
                _log.warning("the vault could not be looked at again: %s", error.message)
                continue
            self._read_cards()

    def _look_again(self) -> bool:
        """Take up what became of the vault; say whether anything did.

        A snapshot does not change, but it, or a study of it, may be forgotten: then it is shown,
        and kept in memory, no longer.
        """
        seen = _snapshots(self._vault)
        if seen == self._seen:
            return False
        before = self._view.table
        try:
            self._view = _look(self._choose(), self._cards)
        except UsageError as error:  # there is no such snapshot any more
            _log.warning("nothing is shown any more: %s", error.message)
            self._cards.forget_contents()
            self._view = replace(self._view, table=StudyTable(()))
        self._seen = seen
        if any(self._view.table.study(row.study_instance_uid) is None for row in before.rows):
            self._files.drop_unused(0.0)
        return True

    def _read_cards(self) -> None:
        view = self._view
        began = time.monotonic()
        rows = [row for row in view.table.rows if row.manifest and not self._cards.kept(row)]
        # Until all are known each question looks into studies, which lie anywhere.
        self._vault.keep_headers(bytes_to_keep() // _HEADERS_PART)
        try:
            rows.sort(key=partial(self._place_of, view.legible))
            for row in rows:
                self._giving_way.step()
                self._cards.card(row, view.legible)
        except InterruptedError:
            _log.info("stopped while studies were looked into")
        except DestinationError as error:
            _log.warning("studies could not be looked into: %s", error.message)
        else:
            took_s = time.monotonic() - began
            _log.info("looked into %d studies in %.0f s", len(rows), took_s)
        finally:
            self._vault.keep_headers()
        # Of a snapshot that somebody looks at for once, nothing is kept in place of the present.
        if self._kept_cards is not None and self._follows and _is_still(self._vault, self._seen):
            self._kept_cards.save(view.table.rows, self._cards.every())

    def _place_of(self, legible: LegibleState, row: StudyRow) -> tuple[bytes, int]:
        """Return where records of a study lie: neighbours share their headers' block."""
        self._giving_way.step()
        for ref in legible.refs(row.study_instance_uid):
            for place in self._vault.index.places(BlobType.RECORDS, ref.id):
                return place.pack, place.offset
        return b"", 0


def _look(state: VaultState, cards: StudyCards) -> StateView:
    """Arrange a state to be asked; what was read of another one is let go of."""
    lost: set[str] = set()

    def tell(study_instance_uid: str, error: DestinationError) -> None:
        lost.add(study_instance_uid)
        _tell_loss(study_instance_uid, error)

    legible = LegibleState(state, tell)
    cards.forget_contents()
    return StateView(StudyTable(_rows(legible)), legible, cards, lost)


def _snapshots(vault: Vault) -> frozenset[str]:
    return frozenset(vault.objects.keys("snapshots/"))


def _is_still(vault: Vault, seen: frozenset[str]) -> bool:
    """Say whether nothing came since a look: a study that was forgotten, for one."""
    try:
        return _snapshots(vault) == seen
    except DestinationError as error:
        _log.warning("the vault could not be looked at again: %s", error.message)
        return False


def _selected(view: StateView, selection: Selection) -> Iterator[StudyRow]:
    """Yield the studies that may hold what is selected."""
    named = {
        tags.STUDY_INSTANCE_UID: selection.study_instance_uids,
        tags.PATIENT_ID: selection.patient_ids,
    }
    level = QueryLevel.STUDY
    if not any(named.values()):
        # Only a look into studies tells which of them holds it.
        named[tags.SERIES_INSTANCE_UID] = selection.series_instance_uids
        named[tags.SOP_INSTANCE_UID] = selection.sop_instance_uids
        level = QueryLevel.IMAGE if selection.sop_instance_uids else QueryLevel.SERIES
    keys = {tag: "\\".join(values) for tag, values in named.items() if values}
    if level is QueryLevel.STUDY:
        yield from Finding(view, ArchiveQuery(level, keys)).studies()
        return
    answers = Finding(view, ArchiveQuery(level, keys)).answers()
    uids = dict.fromkeys(answer.attributes[tags.STUDY_INSTANCE_UID] for answer in answers)
    for row in map(view.table.study, uids):
        if row is not None:
            yield row


def _rows(legible: LegibleState) -> Iterator[StudyRow]:
    for uid, entry in legible.overview():
        if uid == _NO_STUDY:
            continue
        if entry is not None:
            yield StudyRow.of(uid, entry.about, entry.manifest, entry.instances)
        elif records := legible.records(uid):
            yield StudyRow.of(uid, legible.about(uid), b"", len(records))


def _tell_loss(study_instance_uid: str, error: DestinationError) -> None:
    _log.warning("not to be read of study %s: %s", study_instance_uid or "-", error.message)
