"""Collectors that accept and hang, and journals with more than may wait."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dcmvault.app import auditing
from dcmvault.app.auditing import Auditing
from dcmvault.audit import forwarding
from dcmvault.audit.dicom_message import AuditSource
from dcmvault.audit.forwarding import Forwarding
from dcmvault.audit.journal import Journal
from dcmvault.audit.syslog import Collector, Transport
from dcmvault.config.audit_section import AuditSection
from dcmvault.errors import CollectorError
from dcmvault.model.audit import Actor, ActorKind, AuditEvent, AuditKind

ACTOR = Actor(ActorKind.CLI, "ana")
EVENT = AuditEvent(datetime(2026, 1, 31, 2, tzinfo=UTC), AuditKind.ACCESS, ACTOR)


@contextmanager
def dripping() -> Iterator[int]:
    """Run a collector that answers with a byte now and then, and never ends; yield its port."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _address = server.accept()
            with peer:
                while not done.wait(0.05):
                    peer.sendall(b".")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            done.set()
            thread.join(5)


def test_a_collector_that_never_ends_is_given_up() -> None:
    with dripping() as port:
        collector = Collector(Transport.TCP, "127.0.0.1", port, timeout_s=0.3)
        with pytest.raises(CollectorError, match="took nothing"):
            collector.send([b"message"])


def test_a_command_leaves_a_collector_alone_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it hangs in: here, where a name is looked up, which has no limit of its own."""
    asked, answered = threading.Event(), threading.Event()

    def look_up(*_asked: object, **_named: object) -> list[object]:
        asked.set()
        answered.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(auditing, "_PATIENCE_S", 0.1)
    audit = Auditing(tmp_path, ACTOR, AuditSection(collector="tcp://collector.example:601"))
    audit.note(AuditKind.VERIFY)
    audit.forward()
    assert asked.wait(30)
    assert not answered.is_set()
    answered.set()


def test_what_is_left_out_is_left_out_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command with little patience leaves out a piece, and the next one goes on from there."""
    journal = Journal(tmp_path)
    for _ in range(40):
        journal.append(EVENT)
    journal.append(AuditEvent(EVENT.at, AuditKind.VERIFY, ACTOR))
    monkeypatch.setattr(forwarding, "_MOST_SKIPPED", 15)
    moments = itertools.chain([0.0, 0.5], itertools.repeat(2.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    nowhere = Collector(Transport.UDP, "127.0.0.1", 9)
    sending = Forwarding(tmp_path, nowhere, AuditSource("host"), most_waiting=1)
    assert sending.forward(1.0) == 0
    state = sending.state()
    assert (state.skipped, state.position.seq) == (15, 15)
