"""One association for retrieval: a batch of instances is asked for until each has an answer."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from dcmvault.dicom.association import PeerAssociation, open_association
from dcmvault.dicom.attribute_query import (
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    AttributeQuery,
    Row,
)
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.get_and_move import (
    MOVE_PROPOSALS,
    InstancesOfSeries,
    get_instances,
    move_instances,
)
from dcmvault.dicom.intake import IncomingFile, Received, Room, Wanted
from dcmvault.dicom.move_receiver import MoveReceiver
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.dicom.query_model import find_proposals
from dcmvault.dicom.retrieval_contexts import CLASSES_AT_ONCE, retrieval_contexts
from dcmvault.dicom.sentences import sentence
from dcmvault.errors import (
    AssociationLostError,
    DestinationError,
    DestinationUnreachableError,
    EntryUnreadableError,
    EntryVanishedError,
)
from dcmvault.model.instance import InstanceEntry, InstanceIdentity, UnreadableEntry

#: How often what is lacking is asked for, unless something came the time before.
_ATTEMPTS = 2
#: Instances that do not come when they are asked for alone, one after the other, before the rest
#: of their batch is given up.
_IN_VAIN = 3
#: Seconds until a further association must be answered.
_BESIDE_OTHERS_S = 3.0
#: Seconds that the questions about one batch may take.
_LONGEST_QUESTION_S = 600.0

Outcome = Received | UnreadableEntry


class Batch:
    """Entries of one series that are fetched together, each once, and what came of them."""

    def __init__(self, identity: InstanceIdentity) -> None:
        #: Study and series of all of them; empty for what is no entry of a PACS.
        self.identity = identity
        self.entries: list[InstanceEntry] = []
        #: An entry stands for a study that could not be listed.
        self.names_study = False
        #: Found no room, by UID.
        self.without_room: set[str] = set()
        self._outcomes: dict[str, Future[Outcome]] = {}
        self._of_uid: dict[str, InstanceEntry] = {}
        self._lock = threading.Lock()

    def can_take(self, identity: InstanceIdentity | None) -> bool:
        """Say whether an instance may be asked for together with these."""
        return (
            identity is not None
            and identity.study_instance_uid == self.identity.study_instance_uid
            and identity.series_instance_uid == self.identity.series_instance_uid
            and identity.sop_instance_uid not in self._of_uid
        )

    def add(self, entry: InstanceEntry, identity: InstanceIdentity | None) -> None:
        """Add an entry; one that has no identity stays alone."""
        self.entries.append(entry)
        self._outcomes[entry.locator] = Future()
        if identity is None:
            self.names_study = bool(entry.locator) and set(entry.locator) <= {*"0123456789."}
        else:
            self._of_uid[identity.sop_instance_uid] = entry

    def outcome(self, entry: InstanceEntry) -> Future[Outcome]:
        """Return what will come of an entry."""
        return self._outcomes[entry.locator]

    def lacking(self) -> list[str]:
        """Return the UIDs that have no answer yet."""
        return [uid for uid in self._of_uid if self.lacks(uid)]

    def lacks(self, uid: str) -> bool:
        """Say whether an instance has no answer yet."""
        return not self.outcome(self._of_uid[uid]).done()

    def short_of_room(self) -> list[str]:
        """Return the UIDs that have no answer because there was no room for them."""
        return [uid for uid in self.lacking() if uid in self.without_room]

    def entry_of(self, uid: str) -> InstanceEntry:
        """Return the entry with a SOP Instance UID."""
        return self._of_uid[uid]

    def known_classes(self) -> frozenset[str]:
        """Return the SOP classes that an index named; empty where it did not name all."""
        told = [entry.indexed.sop_class_uid if entry.indexed else "" for entry in self.entries]
        return frozenset(told) if all(told) else frozenset()

    @property
    def patient_id(self) -> str:
        """Whose study it is, as an index says; empty where none does."""
        told = (entry.indexed.study.patient_id for entry in self.entries if entry.indexed)
        return next(told, "")

    def take(self, uid: str, received: Received) -> None:
        """Answer an entry with what came."""
        outcome = self.outcome(self._of_uid[uid])
        with self._lock:
            if not outcome.done():
                outcome.set_result(received)
                return
        # By an association that had been given up.
        size = received.path.stat().st_size
        received.path.unlink()
        received.room.give_back(size)

    def refuse(self, uid: str, code: str, message: str) -> None:
        """Answer an entry with why it did not come."""
        self._refuse(self._of_uid[uid], code, message)

    def refuse_rest(self, code: str, message: str) -> None:
        """Answer all entries that have no answer yet."""
        for entry in self.entries:
            self._refuse(entry, code, message)

    def _refuse(self, entry: InstanceEntry, code: str, message: str) -> None:
        outcome = self.outcome(entry)
        with self._lock:
            if not outcome.done():
                outcome.set_result(UnreadableEntry(entry, code, message))


@dataclass(slots=True)
class Lane:
    """Fetches one batch after the other, each in whichever thread; `stop` is for another thread."""

    peer: Peer
    new_file: Callable[[], IncomingFile]
    room: Room
    #: For C-MOVE: where it comes, and the AE title by which the PACS knows that.
    receiver: MoveReceiver | None
    move_to: str
    _association: PeerAssociation | None = None
    _patient_peer: Peer = field(init=False)
    _stopped: threading.Event = field(default_factory=threading.Event)
    #: The SOP classes that the association was made for.
    _classes: frozenset[str] = field(default_factory=frozenset)

    @property
    def stands(self) -> bool:
        """Whether it has an association."""
        return self._association is not None and self._association.is_open

    def fetch(self, batch: Batch, *, beside_others: bool = False) -> None:
        """Fetch what a batch lacks; each entry has an answer afterwards, or found no room.

        Beside associations that stand another one is not waited for long: many a PACS serves a
        few at once, and lets others wait.

        Raises DestinationUnreachableError where no association can be had: the rest of the batch
        has no answer then.
        """
        limit_s = self.peer.association_timeout_s
        if beside_others:
            limit_s = min(limit_s, _BESIDE_OTHERS_S)
        self._patient_peer = replace(self.peer, association_timeout_s=limit_s)
        with _answering(batch.refuse_rest):
            reasons = self._fetch_together(batch)
            if batch.lacking():
                self._fetch_singly(batch, reasons)

    def fetch_alone(self, batch: Batch, uid: str) -> None:
        """Fetch one instance, which has an answer afterwards, into room of its own.

        That room is beside what all share: to be used for the one that is handed out next only.
        Raises as `fetch` does.
        """
        self._patient_peer = self.peer
        with _answering(partial(batch.refuse, uid)):
            self._fetch_one(batch, uid, Room(self.room.most), {})

    def _fetch_together(self, batch: Batch) -> dict[str, str]:
        """Ask for all that is lacking, again while something comes; say why something did not."""
        reasons: dict[str, str] = {}
        attempts = 0
        while attempts < _ATTEMPTS and (lacking := batch.lacking()):
            for classes in self._classes_of(batch, lacking):
                reasons |= self._retrieve(batch, classes, batch.lacking(), self.room)
            attempts = attempts + 1 if len(batch.lacking()) == len(lacking) else 0
        return reasons

    def _fetch_singly(self, batch: Batch, reasons: dict[str, str]) -> None:
        """Ask once more for each that is lacking, unless it only found no room."""
        in_vain = 0
        for uid in batch.lacking():
            if in_vain >= _IN_VAIN:
                return
            if uid in batch.without_room:
                continue
            came = self._fetch_one(batch, uid, self.room, reasons)
            in_vain = 0 if came else in_vain + 1

    def _fetch_one(self, batch: Batch, uid: str, room: Room, reasons: dict[str, str]) -> bool:
        """Ask for one instance; say whether there is an answer that is not the PACS's silence.

        Shared room that does not suffice is no answer yet.
        """
        # By a UID alone: not every PACS matches lists of them, and a long list may be cut.
        rows = [row for row in self._rows(batch, [uid]) if row.get(SOP_INSTANCE_UID) == uid]
        if not rows:
            batch.refuse(
                uid, EntryVanishedError.code, "The PACS does not have the instance any more."
            )
            return True
        classes = frozenset(filter(None, [rows[0].get(SOP_CLASS_UID, "")]))
        batch.without_room.discard(uid)
        reasons |= self._retrieve(batch, classes, [uid], room)
        if not batch.lacks(uid) or (uid in batch.without_room and room is self.room):
            return True
        reason = reasons.get(uid) or reasons.get("") or "it sends nothing, and does not say why"
        batch.refuse(
            uid, EntryUnreadableError.code, sentence(f"The PACS did not send it: {reason}")
        )
        return False

    def _classes_of(self, batch: Batch, lacking: Sequence[str]) -> Iterator[frozenset[str]]:
        """Yield the SOP classes of instances, as many at once as an association can carry."""
        known = sorted(batch.known_classes() or self._asked_classes(batch, lacking))
        if not known:
            yield frozenset()
        for start in range(0, len(known), CLASSES_AT_ONCE):
            yield frozenset(known[start : start + CLASSES_AT_ONCE])

    def _asked_classes(self, batch: Batch, lacking: Sequence[str]) -> Collection[str]:
        if self.receiver is not None:
            return ()  # the PACS proposes what it sends
        return {row.get(SOP_CLASS_UID, "") for row in self._rows(batch, lacking)} - {""}

    def _rows(self, batch: Batch, uids: Sequence[str]) -> Sequence[Row]:
        """Ask by UID for instances that are there, with their SOP classes."""
        keys = {
            STUDY_INSTANCE_UID: batch.identity.study_instance_uid,
            SERIES_INSTANCE_UID: batch.identity.series_instance_uid,
            SOP_INSTANCE_UID: "\\".join(uids),
        }
        association = self._standing(None)
        query = AttributeQuery(association, time.monotonic() + _LONGEST_QUESTION_S)
        if query.granted.needs_patient:
            keys[PATIENT_ID] = batch.patient_id
        return query.ask("IMAGE", keys, (SOP_INSTANCE_UID, SOP_CLASS_UID)).rows

    def _retrieve(
        self, batch: Batch, classes: frozenset[str], uids: Sequence[str], room: Room
    ) -> dict[str, str]:
        """Ask for instances; return why some did not come: by UID, or "" for all of them."""
        if not uids:
            return {}
        wanted = Wanted(frozenset(uids), self.new_file, room, batch.take)
        asked = InstancesOfSeries(
            batch.identity.study_instance_uid,
            batch.identity.series_instance_uid,
            uids,
            batch.patient_id,
        )
        association = self._standing(classes)
        try:
            with self.receiver.expecting(wanted) if self.receiver else nullcontext():
                if self.receiver is None:
                    refusal = get_instances(association, asked, wanted)
                else:
                    moved = move_instances(association, asked, self.move_to, wanted)
                    refusal = moved.refusal
        except AssociationLostError as error:
            refusal = error.message
        finally:
            batch.without_room |= wanted.without_room
        return {"": refusal, **wanted.refused}

    def _standing(self, classes: frozenset[str] | None) -> PeerAssociation:
        """Return an association that can carry these SOP classes; None: whichever there is."""
        association = self._association
        if association is not None and association.still_stands():
            if classes is None or self._carries(classes):
                return association
            association.release()
        if self._stopped.is_set():
            raise AssociationLostError("nobody waits for it any more")
        wanted = classes or frozenset()
        together = self._classes | wanted
        self._classes = together if wanted and len(together) <= CLASSES_AT_ONCE else wanted
        self._association = open_association(self._patient_peer, self._proposals())
        if self._stopped.is_set():
            self._association.abort()
        return self._association

    def _carries(self, classes: frozenset[str]) -> bool:
        """Say whether the association was made for these; without any it is for all usual ones."""
        return classes <= self._classes and bool(classes) == bool(self._classes)

    def _proposals(self) -> tuple[ContextProposal, ...]:
        if self.receiver is not None:
            (study_find, *find), (study_move, *move) = (
                find_proposals(relational=False),
                MOVE_PROPOSALS,
            )
            return (study_find, study_move, *find, *move)
        return retrieval_contexts(self._classes)

    def stop(self) -> None:
        """End what is on its way; called by another thread than works here."""
        self._stopped.set()
        if self._association is not None and not self._association.is_at_rest:
            self._association.abort()

    def close(self) -> None:
        """Release the association."""
        if self._association is not None:
            self._association.release()


@contextmanager
def _answering(refuse: Callable[[str, str], None]) -> Iterator[None]:
    """Refuse what has no answer when something fails, unless no association can be had."""
    try:
        yield
    except DestinationUnreachableError:
        raise
    except DestinationError as error:
        refuse(EntryUnreadableError.code, sentence(error.message))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        refuse(
            EntryUnreadableError.code,
            f"What the PACS sends cannot be kept on this machine (TMPDIR): {reason}.",
        )
