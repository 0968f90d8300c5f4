"""The conformance statement says what is negotiated: on the wire, not in a constant beside it."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Collection
from types import SimpleNamespace

from pydicom._uid_dict import UID_dictionary
from scripts import conformance

from dcmvault.dicom import pdu, pdu_accepting
from dcmvault.dicom.accepted_association import agree, is_storage
from dcmvault.dicom.acceptor import _LONGEST_PDU as LONGEST_ACCEPTED
from dcmvault.dicom.archive_association import ArchiveAssociation
from dcmvault.dicom.association import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    open_association,
)
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.commitment_coding import COMMITMENT_PROPOSAL
from dcmvault.dicom.contexts import plan_contexts
from dcmvault.dicom.get_and_move import GET_PROPOSALS, MOVE_PROPOSALS
from dcmvault.dicom.query_model import open_for_queries
from dcmvault.dicom.retrieval_contexts import retrieval_contexts
from dcmvault.errors import DestinationError
from dcmvault.model.instance import InstanceKind

PAGE = conformance.PAGE.read_text(encoding="utf-8")
CT = "1.2.840.10008.5.1.4.1.1.2"
#: Every SOP class and transfer syntax of PS3.6 Annex A, and private ones.
CLASSES = {uid for uid, (_n, kind, *_r) in UID_dictionary.items() if "SOP Class" in kind}
SYNTAXES = [uid for uid, (_n, kind, *_r) in UID_dictionary.items() if kind == "Transfer Syntax"]
PRIVATE = "1.3.12.2.1107.5.9.1"


def stated(entity: str, role: str) -> dict[str, set[str]]:
    """Read the table of the page: transfer syntaxes by abstract syntax."""
    found = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0] == entity and cells[2].startswith(role):
            found[cells[1]] = set(re.findall(r"1\.2[0-9.]+", cells[3]))
    return found


def test_the_tables_are_as_the_code_has_them() -> None:
    assert conformance.with_tables(PAGE) == PAGE, "run: python -m scripts.conformance"


def _request(
    abstract: str, syntaxes: Collection[str], *, receives: bool = False
) -> pdu_accepting.AssociationRequest:
    """Make a request as it comes over the wire, and read it as we do."""
    wanted = (pdu.ContextProposal(abstract, tuple(syntaxes), peer_sends=receives),)
    sent = pdu.associate_request(
        "DCMVAULT",
        "PEER",
        wanted,
        maximum_length=16_384,
        implementation_class_uid="1.2.3",
        implementation_version="PEER",
    )
    return pdu_accepting.read_request(sent[6:])


def _accepted_syntaxes(
    answer: Callable[[pdu_accepting.AssociationRequest], pdu.ContextAnswer], abstract: str
) -> set[str]:
    """Offer every transfer syntax alone: which are accepted?"""
    found = set()
    for syntax in SYNTAXES:
        answered = answer(_request(abstract, [syntax], receives=True))
        if answered.result == pdu_accepting.ACCEPTED:
            assert answered.transfer_syntax_uid == syntax
            found.add(syntax)
    return found


def test_the_listener_accepts_what_is_stated() -> None:
    table = stated("LISTENER", "SCP")
    services = {uid: syntaxes for uid, syntaxes in table.items() if uid != conformance.STORAGE}
    assert conformance.STORAGE in table
    for abstract in sorted(CLASSES | {PRIVATE}):
        accepted = _accepted_syntaxes(lambda request: agree(request)[0], abstract)
        expected = set(SYNTAXES) if is_storage(abstract) else services.get(abstract, set())
        assert accepted == expected, abstract
    first = agree(_request(CT, SYNTAXES[:3]))[0]
    assert first.transfer_syntax_uid == SYNTAXES[0], "the first that is proposed"


def test_the_archive_accepts_what_is_stated() -> None:
    services = {
        uid: syntaxes
        for uid, syntaxes in stated("ARCHIVE", "SCP").items()
        if uid != conformance.STORAGE
    }
    archive = SimpleNamespace(archive=SimpleNamespace(syntaxes=lambda _sop_class: ()))

    def answer(request: pdu_accepting.AssociationRequest) -> pdu.ContextAnswer:
        connected = SimpleNamespace(request=request, channel=SimpleNamespace())
        association = ArchiveAssociation.__new__(ArchiveAssociation)
        association._service = archive  # type: ignore[assignment]
        association._request = connected.request
        return association._answer_to(request.contexts[0])

    for abstract in sorted(CLASSES | {PRIVATE}):
        accepted = _accepted_syntaxes(answer, abstract)
        if is_storage(abstract):
            assert accepted == set(SYNTAXES), abstract
        else:
            assert accepted == services.get(abstract, set()), abstract
    unasked = answer(_request(CT, SYNTAXES, receives=False))
    assert unasked.result == pdu_accepting.ABSTRACT_SYNTAX_NOT_SUPPORTED


def _on_the_wire(
    connect: Callable[[Peer], object],
) -> tuple[pdu_accepting.AssociationRequest, bytes]:
    """Return the A-ASSOCIATE-RQ that is sent; whoever sends it is rejected."""
    taken: list[bytes] = []

    def listen(listening: socket.socket) -> None:
        connection, _address = listening.accept()
        with connection, connection.makefile("rb") as stream:
            head = stream.read(6)
            taken.append(stream.read(int.from_bytes(head[2:], "big")))
            connection.sendall(pdu_accepting.associate_reject(pdu_accepting.LOCAL_LIMIT_EXCEEDED))
            stream.read()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=listen, args=(listening,))
        thread.start()
        with contextlib.suppress(DestinationError):
            connect(Peer("127.0.0.1", listening.getsockname()[1], "PACS", "DCMVAULT"))
        thread.join(60)
    return pdu_accepting.read_request(taken[0]), taken[0]


def _offered(request: pdu_accepting.AssociationRequest) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for context in request.contexts:
        found.setdefault(context.abstract_syntax_uid, set()).update(context.transfer_syntax_uids)
    return found


def test_delivery_proposes_what_is_stated() -> None:
    table = stated("DELIVERY", "SCU")
    stored_as = "1.2.840.10008.1.2.4.90"
    planned = plan_contexts([InstanceKind(CT, stored_as)], transcodes=True)
    request, body = _on_the_wire(
        lambda peer: open_association(peer, (*planned, COMMITMENT_PROPOSAL))
    )
    offered = _offered(request)
    assert offered.pop(CT) == table.pop(conformance.STORAGE) | {stored_as}
    assert offered == table
    figures = conformance.render()
    assert f"| {request.maximum_length} bytes |" in figures
    for name in (IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME):
        assert name.encode() in body
        assert name in figures


def test_queries_propose_what_is_stated() -> None:
    table = stated("QUERY", "SCU")
    found, _body = _on_the_wire(lambda peer: open_for_queries(peer, relational=False))
    fetched, _body = _on_the_wire(lambda peer: open_association(peer, retrieval_contexts([CT])))
    moved, _body = _on_the_wire(lambda peer: open_association(peer, MOVE_PROPOSALS))
    offered = _offered(found) | _offered(fetched) | _offered(moved)
    assert offered.pop(CT) == stated("QUERY", "SCP")[conformance.STORAGE]
    assert CT in fetched.receives
    assert offered == table
    assert {one.abstract_syntax_uid for one in GET_PROPOSALS} <= set(table)


def test_the_longest_pdu_is_as_stated() -> None:
    assert LONGEST_ACCEPTED == 1 << 20
    assert "| longest PDU that is taken | 1 MiB | 1 MiB | 1 MiB |" in PAGE
