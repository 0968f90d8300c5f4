"""What we say on the wire, byte for byte, derived by hand from PS3.7 and PS3.8.

Each fixture is hexadecimal and 'text'; what stands behind a # explains it. Wireshark's dissector
reads the same bytes: it knows nothing of us.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.golden.wire_capture import Said, dissected, reassembled, write_capture
from tests.integration.raw_peer import read_pdu

from dcmvault.dicom import pdu
from dcmvault.dicom.association import PeerAssociation, open_association
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.part10 import scan
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.dicom.store import check_sendable, send_file
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def wire(text: str) -> bytes:
    """Read a fixture."""
    out = b""
    for line in text.splitlines():
        for token in re.findall(r"'[^']*'|[^\s']+", line.split("#")[0]):
            out += token[1:-1].encode() if token.startswith("'") else bytes.fromhex(token)
    return out


# What we say.

ASSOCIATE_RQ = wire("""
    01 00 00000115                      # A-ASSOCIATE-RQ, 277 bytes (PS3.8 table 9-11)
    0001 0000                           # protocol version 1
    'STORESCP        '                  # called AE title
    'DCMVAULT        '                  # calling AE title
    0000000000000000 0000000000000000 0000000000000000 0000000000000000
    10 00 0015                          # application context item (table 9-12)
    '1.2.840.10008.3.1.1.1'
    20 00 002e 01 00 00 00              # presentation context 1 (table 9-13)
    30 00 0011 '1.2.840.10008.1.1'      #   abstract syntax: Verification (table 9-14)
    40 00 0011 '1.2.840.10008.1.2'      #   Implicit VR Little Endian (table 9-15)
    20 00 0038 03 00 00 00              # presentation context 3
    30 00 0019 '1.2.840.10008.5.1.4.1.1.2'
    40 00 0013 '1.2.840.10008.1.2.1'    #   Explicit VR Little Endian
    50 00 0046                          # user information (table 9-16)
    51 00 0004 00020000                 #   maximum length received: 131,072 (table D.1-1)
    52 00 002c                          #   implementation class UID (PS3.7 table D.3-1)
    '2.25.337977389885011527785760853468765732730'
    55 00 000a 'DCMVAULT_1'             #   implementation version name (PS3.7 table D.3-3)
""")
#: The same with a window of asynchronous operations.
ASSOCIATE_RQ_WINDOW = (
    ASSOCIATE_RQ.replace(wire("01 00 00000115"), wire("01 00 0000011d"))  # 8 bytes more
    .replace(wire("50 00 0046 51"), wire("50 00 004e 51"))
    .replace(
        wire("55 00 000a 'DCMVAULT_1'"),
        wire("""
            53 00 0004                  # asynchronous operations window (PS3.7 table D.3-7)
            0008 0001                   #   operations invoked: 8, performed: 1
            55 00 000a 'DCMVAULT_1'
        """),
    )
)
ECHO_RQ = wire("""
    04 00 0000004a                      # P-DATA-TF, 74 bytes (PS3.8 table 9-22)
    00000046 01 03                      # 70 bytes in context 1: command, last (table 9-23, E.2)
    0000 0000 04000000 38000000         # group length 56 (PS3.7 table 9.3-12)
    0000 0200 12000000                  # affected SOP class UID, padded with NUL
    '1.2.840.10008.1.1' 00
    0000 0001 02000000 3000             # command field: C-ECHO-RQ
    0000 1001 02000000 0100             # message id 1
    0000 0008 02000000 0101             # no data set
""")
STORE_RQ = wire("""
    04 00 0000006c                      # P-DATA-TF, 108 bytes
    00000068 03 03                      # 104 bytes in context 3: command, last
    0000 0000 04000000 5a000000         # group length 90 (PS3.7 table 9.3-1)
    0000 0200 1a000000                  # affected SOP class UID
    '1.2.840.10008.5.1.4.1.1.2' 00
    0000 0001 02000000 0100             # command field: C-STORE-RQ
    0000 1001 02000000 0200             # message id 2
    0000 0007 02000000 0000             # priority: medium
    0000 0008 02000000 0100             # a data set follows
    0000 0010 08000000 '1.2.3.4' 00     # affected SOP instance UID
""")
DATA_SET = (
    wire("""
    0800 1600 'UI' 1a00 '1.2.840.10008.5.1.4.1.1.2' 00
    0800 1800 'UI' 0800 '1.2.3.4' 00
    2000 0d00 'UI' 0600 '1.2.3' 00
    2000 0e00 'UI' 0800 '1.2.3.5' 00
    e07f 1000 'OW' 0000 02040000        # 1,026 bytes of pixels
""")
    + bytes(range(256)) * 4
    + wire("1234")
)
#: The peer takes at most 1,024 bytes: 1,018 of the data set in the first PDU, 100 in the second.
STORE_DATA = (
    wire("04 00 00000400 000003fc 03 00")  # data, more follows
    + DATA_SET[:1018]
    + wire("04 00 0000006a 00000066 03 02")  # data, last
    + DATA_SET[1018:]
)
RELEASE_RQ = wire("05 00 00000004 00000000")  # PS3.8 table 9-24
ABORT = wire("07 00 00000004 00 00 00 00")  # by the service user (PS3.8 table 9-26)

# What the peer says.

ASSOCIATE_AC = wire("""
    02 00 000000ae                      # A-ASSOCIATE-AC, 174 bytes (PS3.8 table 9-17)
    0001 0000
    'STORESCP        ' 'DCMVAULT        '
    0000000000000000 0000000000000000 0000000000000000 0000000000000000
    10 00 0015 '1.2.840.10008.3.1.1.1'
    21 00 0019 01 00 00 00 40 00 0011 '1.2.840.10008.1.2'
    21 00 001b 03 00 00 00 40 00 0013 '1.2.840.10008.1.2.1'
    50 00 0011 51 00 0004 00000400      # at most 1,024 bytes
    52 00 0005 '1.2.3'
""")
ECHO_RSP = wire("""
    04 00 00000054 00000050 01 03
    0000 0000 04000000 42000000
    0000 0200 12000000 '1.2.840.10008.1.1' 00
    0000 0001 02000000 3080
    0000 2001 02000000 0100
    0000 0008 02000000 0101
    0000 0009 02000000 0000
""")
STORE_RSP = wire("""
    04 00 0000006c 00000068 03 03
    0000 0000 04000000 5a000000
    0000 0200 1a000000 '1.2.840.10008.5.1.4.1.1.2' 00
    0000 0001 02000000 0180
    0000 2001 02000000 0200
    0000 0008 02000000 0101
    0000 0009 02000000 0000
    0000 0010 08000000 '1.2.3.4' 00
""")
#: The peer grants 2 (PS3.7 table D.3-8).
ASSOCIATE_AC_WINDOW = ASSOCIATE_AC.replace(wire("02 00 000000ae"), wire("02 00 000000b6")).replace(
    wire("50 00 0011 51"), wire("50 00 0019 51")
) + wire("53 00 0004 0002 0001")
RELEASE_RP = wire("06 00 00000004 00000000")


@contextmanager
def recorded(*answers: bytes) -> Iterator[tuple[Peer, list[Said]]]:
    """Run a peer that gives these answers to our messages in order, and writes everything down."""
    conversation: list[Said] = []

    def serve() -> None:
        with listening.accept()[0] as connection:
            connection.settimeout(20)
            for answer in answers:
                said = b""
                while not _is_whole(said):
                    kind, body = read_pdu(connection)
                    said += pdu.HEADER.pack(kind, len(body)) + body
                conversation.append(Said(True, said))
                connection.sendall(answer)
                conversation.append(Said(False, answer))
            said = b""
            while part := connection.recv(65536):
                said += part
            if said:
                conversation.append(Said(True, said))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield Peer("127.0.0.1", listening.getsockname()[1], "STORESCP", "DCMVAULT"), conversation
        thread.join(30)


def _pdus(said: bytes) -> Iterator[tuple[int, bytes]]:
    while said:
        kind, length = pdu.HEADER.unpack_from(said)
        yield kind, said[6 : 6 + length]
        said = said[6 + length :]


def _is_whole(said: bytes) -> bool:
    """Say whether a whole message has come: a PDU of its own, or a command and its data set."""
    if not said:
        return False
    *_, (kind, body) = _pdus(said)
    if kind != pdu.P_DATA_TF:
        return True
    is_command, is_last = body[5] & pdu.IS_COMMAND, body[5] & pdu.IS_LAST
    no_data_set = wire("0000 0008 02000000 0101") in body
    return bool(is_last and (no_data_set or not is_command))


@pytest.fixture
def instance(tmp_path: Path) -> InstanceFile:
    return _file(tmp_path / "instance.dcm", DATA_SET)


def _file(path: Path, data_set: bytes) -> InstanceFile:
    meta = wire("""
        0200 0200 'UI' 1a00 '1.2.840.10008.5.1.4.1.1.2' 00
        0200 0300 'UI' 0800 '1.2.3.4' 00
        0200 1000 'UI' 1400 '1.2.840.10008.1.2.1' 00
    """)
    length = wire("0200 0000 'UL' 0400") + struct.pack("<I", len(meta))
    path.write_bytes(bytes(128) + b"DICM" + length + meta + data_set)
    stat = path.stat()
    fingerprint = Fingerprint(stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return InstanceFile(InstanceEntry(path.name, fingerprint), path, scan(path))


def _store(association: PeerAssociation, file: InstanceFile) -> None:
    assert send_file(association, file, check_sendable(file)).status == "0000"


@pytest.fixture
def delivery(instance: InstanceFile) -> list[Said]:
    """An association with C-ECHO and C-STORE that is released."""
    with (
        recorded(ASSOCIATE_AC, ECHO_RSP, STORE_RSP, RELEASE_RP) as (peer, conversation),
        open_association(peer, [ContextProposal(CT, (EXPLICIT,))]) as association,
    ):
        association.echo()
        _store(association, instance)
    return conversation


@pytest.fixture
def windowed() -> list[Said]:
    """An association with a window of asynchronous operations, that is released."""
    with recorded(ASSOCIATE_AC_WINDOW, RELEASE_RP) as (peer, conversation):
        peer = replace(peer, async_window=8)
        with open_association(peer, [ContextProposal(CT, (EXPLICIT,))]) as association:
            assert association.window == 2
    return conversation


@pytest.fixture
def aborted() -> list[Said]:
    """An association that we abort."""
    with recorded(ASSOCIATE_AC) as (peer, conversation):
        open_association(peer, [ContextProposal(CT, (EXPLICIT,))]).abort()
    return conversation


def _ours(conversation: Sequence[Said]) -> list[bytes]:
    return [said.data for said in conversation if said.ours]


def test_a_delivery_is_these_bytes(delivery: list[Said]) -> None:
    assert _ours(delivery) == [ASSOCIATE_RQ, ECHO_RQ, STORE_RQ + STORE_DATA, RELEASE_RQ]


def test_an_abort_is_these_bytes(aborted: list[Said]) -> None:
    assert _ours(aborted) == [ASSOCIATE_RQ, ABORT]


def test_a_window_is_asked_for_by_these_bytes(windowed: list[Said]) -> None:
    assert _ours(windowed) == [ASSOCIATE_RQ_WINDOW, RELEASE_RQ]


#: What must stand in the dissection of our messages, in this order.
DISSECTION = """
    PDU Type: ASSOC Request (0x01)
    Protocol Version: 1
    Called AE Title: STORESCP
    Calling AE Title: DCMVAULT
    Context ID: 0x01
    Abstract Syntax: Verification SOP Class
    Transfer Syntax: Implicit VR Little Endian
    Context ID: 0x03
    Abstract Syntax: CT Image Storage
    Transfer Syntax: Explicit VR Little Endian
    Max PDU Length: 131072
    Implementation UID: 2.25.337977389885011527785760853468765732730
    Implementation Version: DCMVAULT_1
    Flags: 0x03 (Command, Last Fragment)
    (0000,0000) 4 Command Group Length 56
    (0000,0002) 18 Affected SOP Class UID 1.2.840.10008.1.1
    (0000,0100) 2 Command Field C-ECHO-RQ
    (0000,0110) 2 Message ID 1
    (0000,0800) 2 Command Data Set Type 257
    Command Field C-ECHO-RSP
    Status Success
    Flags: 0x03 (Command, Last Fragment)
    (0000,0000) 4 Command Group Length 90
    (0000,0002) 26 Affected SOP Class UID 1.2.840.10008.5.1.4.1.1.2
    (0000,0100) 2 Command Field C-STORE-RQ
    (0000,0110) 2 Message ID 2
    (0000,0700) 2 Priority 0
    (0000,0800) 2 Command Data Set Type 1
    (0000,1000) 8 Affected SOP Instance UID 1.2.3.4
    PDU Length: 1024
    Flags: 0x00 (Data, More Fragments)
    PDU Length: 106
    Flags: 0x02 (Data, Last Fragment)
    (0008,0016) 26 SOP Class UID
    (0008,0018) 8 SOP Instance UID [UI] 1.2.3.4
    (0020,000d) 6 Study Instance UID [UI] 1.2.3
    (0020,000e) 8 Series Instance UID [UI] 1.2.3.5
    (7fe0,0010) 1026 Pixel Data
    Command Field C-STORE-RSP
    Status Success
    PDU Type: RELEASE Request (0x05)
    PDU Type: RELEASE Response (0x06)
    PDU Type: ABORT (0x07)
    Source: User
"""


@pytest.mark.peers
def test_the_dissector_reads_the_same(
    delivery: list[Said], aborted: list[Said], tmp_path: Path
) -> None:
    capture = tmp_path / "delivery.pcap"
    write_capture(capture, [delivery, aborted])
    lines = dissected(capture)
    position = 0
    for expected in DISSECTION.split("\n")[1:-1]:
        found = [n for n, line in enumerate(lines[position:]) if expected.strip() in line]
        assert found, f"{expected.strip()} after {lines[position - 10 : position]}"
        position += found[0] + 1
    _assert_nothing_is_wrong(lines)


@pytest.mark.peers
def test_the_dissector_reads_the_window(windowed: list[Said], tmp_path: Path) -> None:
    capture = tmp_path / "window.pcap"
    write_capture(capture, [windowed])
    lines = dissected(capture)
    numbers = [
        line.split(": ")[1] for line in lines if line.startswith("Maximum-number-operations")
    ]
    assert numbers == ["8", "1", "2", "1"]
    _assert_nothing_is_wrong(lines)


def _assert_nothing_is_wrong(lines: Sequence[str]) -> None:
    wrong = [line for line in lines if re.search(r"Malformed|Expert Info|[Ii]nvalid|unknown", line)]
    assert [line for line in wrong if "Association aborted" not in line] == []


@pytest.mark.peers
def test_the_dissector_puts_fragments_together(tmp_path: Path) -> None:
    """Whatever the peer takes at most (0 is no limit), with many contexts and several messages."""
    proposals = [ContextProposal(CT, (EXPLICIT,))]
    proposals += [ContextProposal(f"1.2.3.{number}", (EXPLICIT,)) for number in range(126)]
    first = STORE_RSP.replace(wire("2001 02000000 0200"), wire("2001 02000000 0100"))
    recordings, lengths = [], []
    for maximum in (0, 1024, 1027, 4096, 16384, 131_072):
        pixels = bytes(range(250)) * (maximum // 50 or 1200)
        data_set = DATA_SET[:88] + struct.pack("<I", len(pixels)) + pixels
        file = _file(tmp_path / "large.dcm", data_set)
        limit = wire("51 00 0004")
        answer = ASSOCIATE_AC.replace(limit + wire("00000400"), limit + struct.pack(">I", maximum))
        with (
            recorded(answer, first, RELEASE_RP) as (peer, conversation),
            open_association(peer, proposals) as association,
        ):
            _store(association, file)
        bodies = [body for _kind, body in _pdus(conversation[2].data)]
        assert maximum == 0 or max(map(len, bodies)) <= maximum
        assert all(len(body) % 2 == 0 for body in bodies)  # PS3.8 annex E.1
        recordings.append(conversation)
        lengths.append(len(data_set))
    capture = tmp_path / "fragments.pcap"
    write_capture(capture, recordings)
    # What came in a single fragment is not reassembled.
    assert reassembled(capture) == lengths[1:]
    _assert_nothing_is_wrong(dissected(capture))
