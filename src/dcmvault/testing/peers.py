"""A PACS that lives in this process, or in one of its own, and misbehaves as it is told.

    with SimulatedPacs(fault=drop_every(3)) as pacs:
        ...  # send to 127.0.0.1:pacs.port
    assert pacs.received == [...]

    python -m dcmvault.testing.peers --fault refuse-every=7:A700:1 --log arrivals.txt

The process writes one line `{"port": ...}` to stdout and runs until SIGTERM or SIGINT. C-FIND
is answered from what was really kept. The storage protocol is pynetdicom's, not the product's.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_FIND, C_STORE
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation

from dcmvault.dicom.acceptor import GuardedAcceptor, serve
from dcmvault.dicom.command import decode_flat
from dcmvault.dicom.query_answers import InstanceIndex
from dcmvault.dicom.received import part10_head, read_received
from dcmvault.dicom.scp_setup import new_scp
from dcmvault.testing.peer_faults import (
    FAULTS,
    Action,
    Arrival,
    Ending,
    Fault,
    QueryBehaviour,
    fault_from_text,
    honest,
)

_QUERY_LEVEL = (0x0008, 0x0052)
_COUNTS = (0x00201206, 0x00201208)
#: Seconds that a closed connection has to be noticed by the library's own thread.
_NOTICE_S = 5.0


def grant_window(event: evt.Event, async_window: int) -> None:
    """Grant a window; a handler of EVT_REQUESTED with the window as its argument.

    The library says 1 and 1, whatever a handler for the purpose says.
    """
    item = AsynchronousOperationsWindowNegotiation()
    item.maximum_number_operations_invoked = async_window
    item.maximum_number_operations_performed = 1
    event.assoc.acse._check_async_ops = lambda: item  # type: ignore[method-assign]  # noqa: SLF001


class SimulatedPacs:
    """A storage and query SCP on a free port of the loopback, with a fault of choice."""

    def __init__(
        self,
        fault: Fault = honest,
        *,
        queries: QueryBehaviour | None = None,
        ae_title: str = "SIMULATED",
        port: int = 0,
        allowed_ae_titles: Collection[str] = (),
        serves: int = 0,
        log: Path | None = None,
        async_window: int = 1,
    ) -> None:
        """Describe it; with an `async_window` it grants so many operations to who asks for any."""
        self.ae_title = ae_title
        #: Associations at once; further ones are rejected for now. 0: as many as usual.
        self._serves = serves
        #: SOP Instance UIDs of all C-STORE requests in order of arrival, refused ones too.
        self.received: list[str] = []
        #: Associations that were accepted, and the most that stood at one time.
        self.associations = 0
        self.most_associations = 0
        self._standing = 0
        self._questions = 0
        self._fault = fault
        self._queries = queries or QueryBehaviour()
        self._address = ("127.0.0.1", port)
        self._allowed = list(allowed_ae_titles)
        self._log = log
        self._async_window = async_window
        self._index = InstanceIndex()
        self._first_seen: dict[str, int] = {}
        self._attempts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._running: GuardedAcceptor | None = None
        #: What a more specialised PACS offers and handles beside storage and queries.
        self._more_services: Collection[str] = ()
        self._more_handlers: Collection[EventHandlerType] = ()

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._running is not None, "not started"
        return self._running.port

    def held(self) -> frozenset[str]:
        """Return the SOP Instance UIDs that it really keeps."""
        return self._index.uids()

    def lose(self, sop_instance_uid: str) -> None:
        """Forget an instance without a word; KeyError when it is not there."""
        self._index.remove(sop_instance_uid)

    def start(self) -> None:
        """Begin to listen."""
        self._stopping.clear()
        entity = new_scp(self.ae_title)
        entity.require_calling_aet = self._allowed
        if self._serves:
            entity.maximum_associations = self._serves
        for uid in self._more_services:
            entity.add_supported_context(uid)
        self._running = serve(
            entity,
            self._address,
            [
                (evt.EVT_ESTABLISHED, self._count_in),
                (evt.EVT_CONN_CLOSE, self._count_out),
                (evt.EVT_C_ECHO, lambda _event: 0x0000),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_FIND, self._find),
                *self._more_handlers,
                *(
                    [(evt.EVT_REQUESTED, grant_window, [self._async_window])]
                    if self._async_window != 1
                    else []
                ),
            ],
        )

    def stop(self) -> None:
        """End what hangs and stop listening."""
        self._stopping.set()
        if self._running is not None:
            acceptor, self._running = self._running, None
            acceptor.shutdown()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _count_in(self, _event: evt.Event) -> None:
        with self._lock:
            self.associations += 1
            self._standing += 1
            self.most_associations = max(self.most_associations, self._standing)

    def _count_out(self, event: evt.Event) -> None:
        if event.assoc.accepted_contexts:
            with self._lock:
                self._standing -= 1

    def _arrived(self, uid: str) -> tuple[Arrival, Action]:
        with self._lock:
            self.received.append(uid)
            self._attempts[uid] += 1
            position = self._first_seen.setdefault(uid, len(self._first_seen) + 1)
            arrival = Arrival(uid, len(self.received), position, self._attempts[uid])
            action = self._fault(arrival)
            if self._log is not None:
                with self._log.open("a", encoding="ascii") as stream:
                    stream.write(f"{uid} {action.ending or f'{action.status:04X}'}\n")
        return arrival, action

    def _store(self, event: evt.Event) -> int:
        request = cast(C_STORE, event.request)
        _arrival, action = self._arrived(str(request.AffectedSOPInstanceUID))
        if action.delay_s:
            self._stopping.wait(action.delay_s)
        if action.keeps:
            self._keep(request, str(event.context.transfer_syntax))
        if action.ending is not None:
            self._end(event, action.ending)
        return action.status

    def _keep(self, request: C_STORE, transfer_syntax_uid: str) -> None:
        """Note who it is; nobody asks a simulated PACS for its bytes."""
        with tempfile.NamedTemporaryFile(suffix=".dcm") as stream:
            stream.write(
                part10_head(
                    str(request.AffectedSOPClassUID),
                    str(request.AffectedSOPInstanceUID),
                    transfer_syntax_uid,
                )
            )
            stream.write(request.DataSet.getvalue() if request.DataSet else b"")
            stream.flush()
            self._index.add(read_received(Path(stream.name)))

    def _end(self, event: evt.Event, ending: Ending) -> None:
        if ending is Ending.HANG:
            self._stopping.wait()
        elif ending is Ending.ABORT:
            event.assoc.abort(block=False)
        else:
            wrapped = event.assoc.dul.socket
            if wrapped is not None and wrapped.socket is not None:
                with suppress(OSError):  # the other side was faster
                    wrapped.socket.shutdown(socket.SHUT_RDWR)
            # The library must have noticed before an answer is handed to it.
            deadline = time.monotonic() + _NOTICE_S
            while event.assoc.dul.is_alive() and time.monotonic() < deadline:
                time.sleep(0.005)

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        behaviour = self._queries
        with self._lock:
            self._questions += 1
            is_silent = 0 < behaviour.silent_from <= self._questions
        if is_silent:
            self._stopping.wait()
            return
        identifier = cast(C_FIND, event.request).Identifier
        keys = dict(decode_flat(identifier.getvalue() if identifier else b""))
        level = keys.get(_QUERY_LEVEL, b"").decode("ascii").strip()
        if level in behaviour.refuses_levels:
            yield 0xA900, None
            return
        sent = 0
        for status, row in self._index.answer(event):
            if row is not None and not behaviour.gives_counts:
                for tag in _COUNTS:
                    if tag in row:
                        row[tag].value = None
            for _repeat in range(behaviour.repeats if level == "IMAGE" else 1):
                if behaviour.cap and sent == behaviour.cap:
                    if behaviour.cap_status:
                        yield behaviour.cap_status, None
                    return
                sent += 1
                yield status, row


def main(arguments: list[str] | None = None) -> None:
    """Run a simulated PACS as this process until it is asked to end."""
    parser = argparse.ArgumentParser(
        prog="python -m dcmvault.testing.peers", description=main.__doc__
    )
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--ae-title", default="SIMULATED")
    parser.add_argument(
        "--fault",
        type=fault_from_text,
        default=honest,
        metavar="NAME[=ARGUMENT:...]",
        help=", ".join(FAULTS),
    )
    parser.add_argument("--log", type=Path, help="append one line per arrival: UID and status")
    options = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with SimulatedPacs(
        options.fault, ae_title=options.ae_title, port=options.port, log=options.log
    ) as pacs:
        sys.stdout.write(json.dumps({"port": pacs.port}) + "\n")
        sys.stdout.flush()
        ended.wait()


if __name__ == "__main__":
    main()
