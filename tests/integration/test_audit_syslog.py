"""Audit messages reach a real collector, in order, also after it was away."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scripts.peer_launch import run_again
from scripts.peer_syslog import Syslog, rsyslog

from dcmvault.audit.dicom_message import AuditSource
from dcmvault.audit.forwarding import Forwarding, ForwardingThread
from dcmvault.audit.journal import Journal
from dcmvault.audit.syslog import Collector, Transport
from dcmvault.dicom.tls import TlsOptions
from dcmvault.errors import CollectorError
from dcmvault.model.audit import Actor, ActorKind, AuditEvent, AuditKind

pytestmark = pytest.mark.peers
AT = datetime(2026, 1, 31, 2, tzinfo=UTC)


@pytest.fixture
def collector_peer() -> Iterator[Syslog]:
    with rsyslog() as peer:
        yield peer


def over_tls(peer: Syslog) -> Collector:
    options = TlsOptions(ca_file=str(peer.certificate))
    return Collector(Transport.TLS, peer.host, peer.port, 5.0, options)


def forwarding(folder: Path, collector: Collector, most_waiting: int = 10_000) -> Forwarding:
    return Forwarding(folder, collector, AuditSource("backup.example"), most_waiting)


def write(folder: Path, count: int, kind: AuditKind = AuditKind.VERIFY) -> None:
    journal = Journal(folder)
    for number in range(count):
        actor = Actor(ActorKind.CLI, "ana")
        journal.append(AuditEvent(AT, kind, actor, details={"number": number}))


def lines_told(peer: Syslog) -> list[int]:
    """Return the numbers of the journal's lines that came, in order."""
    found = []
    for message in peer.messages():
        head, _bom, xml = message.partition("\ufeff")
        assert re.fullmatch(
            r"<85>1 2026-01-31T02:00:00\.000\+00:00 backup\.example dcmvault \d+ DICOM\+RFC3881 - ",
            head,
        )
        last = list(ElementTree.fromstring(xml).iter("ParticipantObjectIdentification"))[-1]
        found.append(int(last.get("ParticipantObjectID", "#0").partition("#")[2]))
    return found


def wait_for(told: Callable[[], object], wanted: object) -> None:
    deadline = time.monotonic() + 30
    while told() != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert told() == wanted


def test_over_tls_down_and_back_nothing_is_missing_and_all_is_in_order(
    tmp_path: Path, collector_peer: Syslog
) -> None:
    folder = tmp_path / "audit"
    send = forwarding(folder, over_tls(collector_peer))
    write(folder, 150)
    assert send.forward() == 150
    wait_for(lambda: lines_told(collector_peer), list(range(1, 151)))

    collector_peer.process.terminate()
    collector_peer.process.wait(30)
    write(folder, 30)
    with pytest.raises(CollectorError):
        send.forward()
    assert send.waiting() == 30

    write(folder, 20)
    with run_again(collector_peer) as again, ForwardingThread(send):
        wait_for(send.waiting, 0)
        kept = replace(collector_peer, process=again.process)
        wait_for(lambda: lines_told(kept), list(range(1, 201)))


def test_a_collector_that_is_not_trusted_gets_nothing(
    tmp_path: Path, collector_peer: Syslog
) -> None:
    folder = tmp_path / "audit"
    write(folder, 3)
    other = replace(over_tls(collector_peer), tls=TlsOptions(fingerprint="0" * 64))
    with pytest.raises(CollectorError, match="certificate"):
        forwarding(folder, other).forward()
    assert forwarding(folder, over_tls(collector_peer)).forward() == 3


def test_over_udp_and_after_it_was_away(tmp_path: Path, collector_peer: Syslog) -> None:
    folder = tmp_path / "audit"
    send = forwarding(
        folder, Collector(Transport.UDP, collector_peer.host, collector_peer.udp_port)
    )
    write(folder, 5)
    assert send.forward() == 5
    wait_for(lambda: lines_told(collector_peer), [1, 2, 3, 4, 5])
    collector_peer.process.terminate()
    collector_peer.process.wait(30)
    write(folder, 2)
    with pytest.raises(CollectorError):
        send.forward()
    with run_again(collector_peer):
        assert send.forward() == 2
        wait_for(lambda: lines_told(collector_peer), [1, 2, 3, 4, 5, 6, 7])


def test_over_tcp_octets_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    write(folder, 4)
    with rsyslog(tls=False) as peer:
        send = forwarding(folder, Collector(Transport.TCP, peer.host, peer.port))
        assert send.forward() == 4
        wait_for(lambda: lines_told(peer), [1, 2, 3, 4])


def test_what_waits_is_bounded_and_what_is_left_out_is_counted(
    tmp_path: Path, collector_peer: Syslog
) -> None:
    folder = tmp_path / "audit"
    write(folder, 120)
    send = forwarding(folder, over_tls(collector_peer), most_waiting=100)
    assert send.forward() == 100
    assert send.state().skipped == 20
    wait_for(lambda: lines_told(collector_peer), list(range(21, 121)))


def test_lines_of_a_torn_journal_and_of_several_files_are_sent_once(
    tmp_path: Path, collector_peer: Syslog
) -> None:
    folder = tmp_path / "audit"
    write(folder, 2)
    with (folder / "audit-000001.jsonl").open("ab") as file:
        file.write(b'{"seq":3,"torn')
    send = forwarding(folder, over_tls(collector_peer))
    assert send.forward() == 2
    journal = Journal(folder)
    journal.append(AuditEvent(AT, AuditKind.VERIFY, Actor(ActorKind.CLI, "ana")))
    journal.rotate(AT)
    assert send.forward() == 4, "the torn line, the one that says so, the event, the rotation"
    assert send.forward() == 0
    wait_for(lambda: lines_told(collector_peer), [1, 2, 3, 4, 5])
