"""A conversation as a capture file, and what Wireshark's dissector makes of it."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from scripts.peer_packages import PeerMissingError, find_program, require

#: The port that the dissector knows.
DICOM_PORT = 104
#: Bytes in one segment, as on an Ethernet.
_SEGMENT = 1448
#: LINKTYPE_RAW of the format of pcap files: packets begin with the IP header.
_LINKTYPE_RAW = 101


@dataclass(frozen=True)
class Said:
    """What one side sent in one go; `ours` is the side that requested the association."""

    ours: bool
    data: bytes


def write_capture(path: Path, conversations: Sequence[Sequence[Said]]) -> None:
    """Write conversations as TCP over IPv4, each from a client port of its own.

    Checksums are left 0; nobody looks at them.
    """
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, _LINKTYPE_RAW)]
    seconds = 0
    for client_port, conversation in enumerate(conversations, start=50_000):
        sent = {True: 1, False: 1}
        for said in conversation:
            for start in range(0, len(said.data), _SEGMENT):
                data = said.data[start : start + _SEGMENT]
                ports = (client_port, DICOM_PORT) if said.ours else (DICOM_PORT, client_port)
                tcp = struct.pack(
                    ">HHIIBBHHH",
                    *ports,
                    sent[said.ours],
                    sent[not said.ours],
                    0x50,
                    0x18,
                    65535,
                    0,
                    0,
                )
                packet = tcp + data
                ends = (
                    (b"\x0a\0\0\1", b"\x0a\0\0\2") if said.ours else (b"\x0a\0\0\2", b"\x0a\0\0\1")
                )
                address = struct.pack(
                    ">BBHHHBBH4s4s", 0x45, 0, 20 + len(packet), 0, 0, 64, 6, 0, *ends
                )
                packet = address + packet
                seconds += 1
                out.append(struct.pack("<IIII", seconds, 0, len(packet), len(packet)) + packet)
                sent[said.ours] += len(data)
    path.write_bytes(b"".join(out))


def dissected(path: Path) -> list[str]:
    """Return what the dissector says of every DICOM message, in lines with single spaces."""
    said = _tshark("-r", str(path), "-Y", "dicom", "-O", "dicom")
    return [" ".join(line.split()) for line in said.splitlines()]


def reassembled(path: Path) -> list[int]:
    """Return the lengths of the data sets that came in several fragments."""
    options = ("-Y", "dicom.pdv.reassembled.length", "-T", "fields")
    said = _tshark("-r", str(path), *options, "-e", "dicom.pdv.reassembled.length")
    return [int(number) for number in said.replace(",", "\n").split()]


def _tshark(*arguments: str) -> str:
    try:
        program = require(find_program("tshark"), "tshark")
    except PeerMissingError as error:
        pytest.fail(str(error), pytrace=False)
    done = subprocess.run(
        [str(program), "-n", *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    return done.stdout
