"""A simulated PACS that commits to what it was sent, in whichever way and as wrongly as told.

    with CommittingPacs(CommitmentBehaviour(fails={uid: 0x0110})) as pacs: ...

Requests are taken by pynetdicom; reports go out as pynetdicom sends them on the association of the
request, or on an association of the PACS's own to `report_to`.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import Literal, cast

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT

from dcmvault.dicom.channel import Peer
from dcmvault.dicom.commitment_coding import (
    COMMITMENT,
    COMMITMENT_INSTANCE,
    NO_SUCH_OBJECT_INSTANCE,
    Outcome,
    Reference,
    encode_report,
    read_references,
)
from dcmvault.dicom.commitment_report import send_encoded_report
from dcmvault.errors import DcmvaultError
from dcmvault.testing.peer_faults import QueryBehaviour
from dcmvault.testing.peers import SimulatedPacs


@dataclass(frozen=True, slots=True)
class CommitmentBehaviour:
    """How a simulated PACS answers requests for commitment."""

    #: Where reports go: on the `same` association, on a `new` one, or `nowhere`.
    reports: Literal["same", "new", "nowhere"] = "same"
    #: Status of the answer to the N-ACTION.
    action_status: int = 0x0000
    #: Failure Reasons of these SOP Instance UIDs, though they are there.
    fails: Mapping[str, int] = field(default_factory=dict)
    #: Not named in the report at all.
    leaves_out: Collection[str] = ()
    #: It commits to whatever it is asked for, also to what it lost.
    commits_to_all: bool = False
    #: Seconds before the report.
    delay_s: float = 0.0
    #: How often the same report is sent.
    times: int = 1
    #: The Transaction UID of the report, where it is another one than asked under.
    transaction_uid: str = ""
    #: Sent in place of the report's data set.
    garbage: bytes | None = None
    #: The association of the request is released before the report.
    releases: bool = False


class CommittingPacs(SimulatedPacs):
    """A SimulatedPacs with storage commitment; `report_to` is whom reports go to."""

    def __init__(
        self,
        behaviour: CommitmentBehaviour | None = None,
        *,
        report_to: Peer | None = None,
        queries: QueryBehaviour | None = None,
    ) -> None:
        super().__init__(queries=queries)
        self._behaviour = behaviour or CommitmentBehaviour()
        self._report_to = report_to
        #: Transaction UIDs and numbers of instances of all requests, in order of arrival.
        self.requests: list[tuple[str, int]] = []
        #: Statuses that answered reports; None where no answer came.
        self.answers: list[int | None] = []
        self._reporting: list[threading.Thread] = []
        self._more_services = (COMMITMENT,)
        self._more_handlers = [(evt.EVT_N_ACTION, self._act)]

    def stop(self) -> None:
        """Stop listening, and wait for reports on their way."""
        super().stop()
        for thread in self._reporting:
            thread.join(10)

    def _act(self, event: evt.Event) -> tuple[int, Dataset | None]:
        request = cast(N_ACTION, event.request)
        information = request.ActionInformation
        uid, references = read_references(information.getvalue() if information else b"")
        self.requests.append((uid, len(references)))
        status = self._behaviour.action_status
        if status == 0 and self._behaviour.reports != "nowhere":
            outcome = self._outcome(uid, references)
            thread = threading.Thread(target=self._report, args=(event.assoc, outcome), daemon=True)
            self._reporting.append(thread)
            thread.start()
        return status, None

    def _outcome(self, transaction_uid: str, references: Collection[Reference]) -> Outcome:
        behaviour, held = self._behaviour, self.held()
        failed = dict(behaviour.fails)
        if not behaviour.commits_to_all:
            failed |= {
                one.sop_instance_uid: NO_SUCH_OBJECT_INSTANCE
                for one in references
                if one.sop_instance_uid not in held
            }
        named = [one for one in references if one.sop_instance_uid not in behaviour.leaves_out]
        return Outcome(
            behaviour.transaction_uid or transaction_uid,
            tuple(one for one in named if one.sop_instance_uid not in failed),
            tuple(
                (one, failed[one.sop_instance_uid])
                for one in named
                if one.sop_instance_uid in failed
            ),
        )

    def _report(self, association: Association, outcome: Outcome) -> None:
        behaviour = self._behaviour
        self._stopping.wait(behaviour.delay_s)
        if behaviour.releases:
            association.release()
        for _time in range(behaviour.times):
            command, data = encode_report(1, outcome)
            if behaviour.garbage is not None:
                data = behaviour.garbage
            status: int | None = None
            with suppress(DcmvaultError, RuntimeError, ValueError):
                if behaviour.reports == "new":
                    assert self._report_to is not None
                    status = send_encoded_report(self._report_to, command, data)
                else:
                    status = _on_same(association, 2 if outcome.failed else 1, data)
            self.answers.append(status)


def _on_same(association: Association, event_type: int, data: bytes) -> int | None:
    """Send a report as pynetdicom does, with these bytes as its data set."""
    request = N_EVENT_REPORT()
    request.MessageID = 7
    request.AffectedSOPClassUID = COMMITMENT
    request.AffectedSOPInstanceUID = COMMITMENT_INSTANCE
    request.EventTypeID = event_type
    request.EventInformation = BytesIO(data)
    (context,) = (
        one
        for one in association.accepted_contexts
        if one.abstract_syntax == COMMITMENT and one.transfer_syntax == [ImplicitVRLittleEndian]
    )
    association._reactor_checkpoint.clear()  # noqa: SLF001 - as pynetdicom's own requests do
    while not association._is_paused:  # noqa: SLF001
        threading.Event().wait(0.001)
    try:
        association.dimse.send_msg(request, context.context_id or 0)
        _context_id, answer = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()  # noqa: SLF001
    return None if answer is None else int(getattr(answer, "Status", 0xFFFF))
