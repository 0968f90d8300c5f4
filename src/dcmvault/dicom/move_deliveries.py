"""Instances for a C-MOVE, delivered to the peer that it names over associations of our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from dcmvault.dicom.association import PeerAssociation, negotiate
from dcmvault.dicom.channel import Peer, connect, resolve, secure
from dcmvault.dicom.contexts import plan_contexts
from dcmvault.dicom.sub_operations import sendable
from dcmvault.model.instance import InstanceKind
from dcmvault.model.query import ArchivedInstance, InstanceBytes


class MoveDelivery:
    """A context that stores instances at a peer; another association where one was lost.

    `originator` is the AE title of who asked, and the message id of the request. `knocked` is
    called when a connection waits to be accepted.
    """

    def __init__(
        self,
        peer: Peer,
        instances: Sequence[ArchivedInstance],
        originator: tuple[str, int],
        knocked: Callable[[], None],
    ) -> None:
        self._peer = peer
        self._originator = originator
        self._knocked = knocked
        #: In the order in which they come.
        self._kinds = list(
            dict.fromkeys(
                InstanceKind(one.sop_class_uid, one.transfer_syntax_uid) for one in instances
            )
        )
        self._association: PeerAssociation | None = None
        self._proposed: frozenset[tuple[str, str]] = frozenset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close(is_good=error is None)

    def store(self, whole: InstanceBytes) -> tuple[int, int]:
        """Store one instance; return the peer's status and the bytes that went to it.

        Raises InstanceUnsendableError, and DestinationUnreachableError where there is no
        association, or it was lost.
        """
        instance = whole.instance
        association = self._for(InstanceKind(instance.sop_class_uid, instance.transfer_syntax_uid))
        contexts = association.contexts

        def takes(sop_class_uid: str, transfer_syntax_uid: str) -> bool:
            return contexts.id_of(sop_class_uid, transfer_syntax_uid) is not None

        with sendable(whole, takes, contexts.accepted_syntaxes) as data_set:
            context_id = contexts.id_of(data_set.sop_class_uid, data_set.transfer_syntax_uid)
            assert context_id is not None, "it is taken"
            association.begin_store(
                context_id,
                data_set.sop_class_uid,
                data_set.sop_instance_uid,
                data_set.chunks,
                data_set.length,
                move_originator=self._originator,
            )
            return association.stored().status, data_set.length

    def _for(self, kind: InstanceKind) -> PeerAssociation:
        """Return an association that was asked about this kind."""
        association = self._association
        pair = (kind.sop_class_uid, kind.transfer_syntax_uid)
        if association is not None and association.is_open and pair in self._proposed:
            return association
        self._close(is_good=True)
        at = self._kinds.index(kind) if kind in self._kinds else 0
        proposals = plan_contexts(self._kinds[at:], transcodes=True)
        self._proposed = frozenset(
            (one.abstract_syntax_uid, syntax)
            for one in proposals
            for syntax in one.transfer_syntax_uids
        ) | {pair}
        connection = connect(self._peer, resolve(self._peer))
        try:
            self._knocked()
        except BaseException:
            connection.close()
            raise
        self._association = negotiate(self._peer, secure(self._peer, connection), proposals)
        return self._association

    def _close(self, *, is_good: bool) -> None:
        association, self._association = self._association, None
        if association is None:
            return
        if is_good:
            association.release()
        else:
            association.abort()
