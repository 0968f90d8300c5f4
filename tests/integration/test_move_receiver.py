"""The port for what a C-MOVE brings: who may connect, as whom, and with what."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from scripts.peer_launch import free_port
from scripts.peer_processes import Orthanc
from tests.peer_files import send

from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.dicom.association import open_association
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.intake import Received, Room, Wanted
from dcmvault.dicom.move_receiver import MoveReceiver
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.errors import AssociationRejectedError, ConfigurationError, DestinationError
from dcmvault.model.instance import InstanceFile, UnreadableEntry
from dcmvault.sources.fetched_files import FetchedFiles
from dcmvault.sources.query_retrieve import QueryRetrieveSource
from dcmvault.testing.dicom_files import make_instance, make_study

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, BASELINE, LOSSLESS = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.70",
)
UID = "1.2.3.4.5"


@contextmanager
def receiver(senders: tuple[str, ...] = ("127.0.0.1",), host: str = "127.0.0.1") -> Iterator[Peer]:
    """Listen, and yield whom to call."""
    with MoveReceiver("BACKUP", host, free_port(), senders, 5) as listening:
        peer = Peer("127.0.0.1", listening.port, "BACKUP", "PACS", association_timeout_s=5)
        peers[peer] = listening
        yield peer


peers: dict[Peer, MoveReceiver] = {}


def stored(peer: Peer, uid: str, content: bytes) -> int:
    """Send an instance; return the status."""
    proposal = ContextProposal(CT, (EXPLICIT,))
    with open_association(peer, (proposal,)) as association:
        assert association.echo() == 0
        context_id = association.contexts.id_of(CT, EXPLICIT)
        assert context_id is not None
        association.begin_store(context_id, CT, uid, [content], len(content))
        return association.stored().status


def content_of(uid: str, folder: Path) -> bytes:
    made = make_instance(folder / "made", "1.2.3", "1.2.3.4", uid)
    whole = made.path.read_bytes()
    return whole[144 + int.from_bytes(whole[140:144], "little") :]


def test_it_goes_on_after_a_moment_without_file_descriptors() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with receiver() as peer, socket.socket() as early, ExitStack() as held:
        with socket.create_connection((peer.host, peer.port)):
            pass  # it accepts by now
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        try:
            with suppress(OSError):
                while True:
                    held.callback(os.close, os.dup(early.fileno()))
            early.connect((peer.host, peer.port))
            time.sleep(0.1)
            held.close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        with open_association(peer, ()) as association:
            assert association.echo() == 0


def test_it_goes_on_after_a_moment_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as peer:
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", none_is_left)
            with socket.create_connection((peer.host, peer.port), 5) as refused:
                assert refused.recv(1) == b""
        with open_association(peer, ()) as association:
            assert association.echo() == 0


def none_is_left(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_what_is_expected_is_taken_and_nothing_else(tmp_path: Path) -> None:
    taken: dict[str, Received] = {}
    with receiver() as peer, FetchedFiles(kept=1, longest_file=1 << 20) as files:
        wanted = Wanted({UID}, files.new, Room(1 << 20), taken.__setitem__)
        with peers[peer].expecting(wanted):
            assert stored(peer, "1.9", content_of("1.9", tmp_path)) == 0xC000
            assert stored(peer, UID, content_of("1.9", tmp_path)) == 0xA900
        again = Wanted({UID}, files.new, Room(1 << 20), taken.__setitem__)
        with peers[peer].expecting(again):
            assert stored(peer, UID, content_of(UID, tmp_path)) == 0
            assert stored(peer, UID, content_of(UID, tmp_path)) == 0xC000
        assert list(taken) == [UID]
        assert taken[UID].header.transfer_syntax_uid == EXPLICIT
        with pytest.raises(DestinationError):
            stored(peer, UID, content_of(UID, tmp_path))


def test_whoever_calls_somebody_else_is_rejected() -> None:
    with receiver() as peer:
        other = Peer("127.0.0.1", peer.port, "ANOTHER", "PACS", association_timeout_s=5)
        with pytest.raises(AssociationRejectedError, match=r"\(called\) AE title"):
            open_association(other)


def test_strangers_are_not_let_in() -> None:
    with receiver(senders=("192.0.2.1",)) as peer, pytest.raises(DestinationError):
        open_association(peer)


def test_idle_and_mad_connections_do_not_stand_in_the_way() -> None:
    with receiver(host="") as peer:
        idle = [socket.create_connection(("127.0.0.1", peer.port)) for _number in range(4)]
        with socket.create_connection(("127.0.0.1", peer.port)) as mad:
            mad.sendall(b"\x01\0\xff\xff\xff\xff" + bytes(1000))
            assert mad.recv(100)[:1] in (b"\x07", b"")
        with open_association(peer) as association:
            assert association.echo() == 0
        for one in idle:
            one.close()


def test_what_may_be_lossy_is_not_chosen() -> None:
    with receiver() as peer:
        proposals = (
            ContextProposal(CT, (BASELINE, LOSSLESS, EXPLICIT)),
            ContextProposal("1.2.840.10008.5.1.4.1.1.4", (BASELINE,)),
        )
        with open_association(peer, proposals) as association:
            assert association.contexts.accepted_syntaxes(CT) == (LOSSLESS,)
            mr = association.contexts.accepted_syntaxes("1.2.840.10008.5.1.4.1.1.4")
            assert mr == (BASELINE,)


def test_a_port_that_is_taken() -> None:
    with (
        receiver() as peer,
        pytest.raises(ConfigurationError, match=str(peer.port)),
        MoveReceiver("BACKUP", "127.0.0.1", peer.port, (), 5),
    ):
        pass


def answers(section: DimseSourceSection) -> list[InstanceFile | UnreadableEntry]:
    source = QueryRetrieveSource(section)
    entries = [entry for study in source.studies() for entry in source.entries(study)]
    return list(source.read(entries))


@pytest.mark.peers
def test_whom_the_archive_does_not_know(orthanc: Orthanc, tmp_path: Path) -> None:
    make_study(tmp_path, key="moved", instances=2)
    send(orthanc, tmp_path)
    section = DimseSourceSection(
        host=orthanc.host, port=orthanc.dicom_port, retrieve="move", move_port=free_port()
    )
    came = answers(section)
    assert len(came) == 2
    for one in came:
        assert isinstance(one, UnreadableEntry)
        assert one.code == "unreadable"
        assert "PACS" in one.message


@pytest.mark.peers
def test_a_port_that_cannot_be_had_is_told_of_each_instance(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    make_study(tmp_path, key="moved", instances=2)
    send(orthanc, tmp_path)
    with socket.create_server(("", 0)) as taken:
        section = DimseSourceSection(
            host=orthanc.host,
            port=orthanc.dicom_port,
            retrieve="move",
            move_port=taken.getsockname()[1],
        )
        came = answers(section)
    assert len(came) == 2
    assert all(isinstance(one, UnreadableEntry) and "the port" in one.message for one in came)
