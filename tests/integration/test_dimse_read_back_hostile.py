"""Peers that answer a C-GET with what nobody asked for: waits end, and the disk stays empty."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import BinaryIO

import pytest
from tests.integration.raw_peer import Asked, data_pdu, raw_peer, read_pdu, response

from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu
from dcmvault.dicom import returning as module
from dcmvault.dicom.association import open_association
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.retrieve import Retrieved, retrieval_proposals, retrieve
from dcmvault.dicom.returning import Returning, WantedInstance
from dcmvault.errors import AssociationLostError
from dcmvault.model.instance import InstanceKind

C_GET_RSP = commands.C_GET_RQ | commands.RESPONSE
CT = "1.2.840.10008.5.1.4.1.1.2"
KIND = InstanceKind(CT, "1.2.840.10008.1.2.1")
#: The contexts in order: Verification, C-GET, then the kind as it was sent.
STORAGE_CONTEXT = 5
WANTED = "1.2.3.1"
LIMIT_S = 1.0


def _store(uid: str, context_id: int = STORAGE_CONTEXT) -> bytes:
    request = commands.encode_request(
        commands.C_STORE_RQ, 7, CT, sop_instance_uid=uid, has_data_set=True
    )
    return data_pdu(context_id, request, is_command=True)


def _data(context_id: int = STORAGE_CONTEXT, *, is_last: bool = True, size: int = 8) -> bytes:
    return data_pdu(context_id, bytes(size), is_command=False, is_last=is_last)


def _final(asked: Asked, status: int = 0) -> bytes:
    return data_pdu(
        asked.context_id, response(C_GET_RSP, asked.message_id, status), is_command=True
    )


def _get(
    answer: Callable[[Asked], None], too_large: set[str] | None = None
) -> tuple[Retrieved, dict[str, int]]:
    """Ask for one instance; return the last word and the sizes of what was taken."""
    taken: dict[str, int] = {}

    def take(uid: str, file: BinaryIO) -> None:
        with closing(file):
            taken[uid] = file.tell()

    with raw_peer(answer) as port:
        peer = Peer(
            "127.0.0.1",
            port,
            "HOSTILE",
            "DCMVAULT",
            association_timeout_s=LIMIT_S,
            dimse_timeout_s=LIMIT_S,
        )
        with open_association(peer, retrieval_proposals({KIND})) as association:
            returning = Returning([WantedInstance(WANTED, 1000)], take)
            got = retrieve(association, "1.2.3", "1.2.3.4", returning)
            if too_large is not None:
                too_large |= returning.too_large
            return got, taken


def _status_of_next(asked: Asked) -> int:
    """Read our answer to a C-STORE; EOFError when the association is over."""
    kind, body = read_pdu(asked.connection)
    if kind != pdu.P_DATA_TF:
        raise EOFError
    (value,) = pdu.read_data_values(body)
    return commands.number(commands.decode_command(value.fragment), commands.STATUS)


def test_what_was_not_asked_for_is_refused() -> None:
    statuses = []

    def answer(asked: Asked) -> None:
        for uid in ("1.2.3.2", WANTED, "../../etc/passwd", ""):
            asked.connection.sendall(_store(uid) + _data())
            statuses.append(_status_of_next(asked))
        asked.connection.sendall(_final(asked, 0xB000))

    got, taken = _get(answer)
    assert statuses == [0xC000, 0x0000, 0xC000, 0xC000]
    assert list(taken) == [WANTED]
    assert (got.status, got.refusal) == ("B000", "")


def test_the_same_instance_without_end() -> None:
    def answer(asked: Asked) -> None:
        for _time in range(100_000):
            asked.connection.sendall(_store(WANTED) + _data())
            _status_of_next(asked)

    with pytest.raises(AssociationLostError, match="without end"):
        _get(answer)


def test_an_instance_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROOM_BYTES", 100_000)
    statuses = []

    def answer(asked: Asked) -> None:
        asked.connection.sendall(_store(WANTED))
        for _time in range(100):
            asked.connection.sendall(_data(is_last=False, size=4000))
        asked.connection.sendall(_data())
        statuses.append(_status_of_next(asked))
        asked.connection.sendall(_final(asked))

    too_large: set[str] = set()
    _got, taken = _get(answer, too_large)
    assert (statuses, taken) == ([0xA700], {})
    assert too_large == {WANTED}


@pytest.mark.parametrize("status", [0xA701, 0xA900, 0xC000, 0xFE00])
def test_a_refusal_is_explained(status: int) -> None:
    got, taken = _get(lambda asked: asked.connection.sendall(_final(asked, status)))
    assert got.refusal
    assert (got.status, taken) == (f"{status:04X}", {})


@pytest.mark.parametrize(
    "nonsense",
    [
        _store(WANTED, 201) + _data(201),
        _store(WANTED) + _data(7),
        _store(WANTED) + _store(WANTED),
        _data(),
        _store(WANTED) + data_pdu(STORAGE_CONTEXT, b"", is_command=False, is_last=False),
        b"",
    ],
    ids=["no context", "other context", "no data", "no command", "no end", "silence"],
)
def test_nonsense_and_silence_end_the_association(nonsense: bytes) -> None:
    with pytest.raises(AssociationLostError):
        _get(lambda asked: asked.connection.sendall(nonsense))
