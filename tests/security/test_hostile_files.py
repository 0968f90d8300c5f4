"""Hostile files cost little: each scan runs in a process with CPU time and memory limits.

The process's own limits are the judge (RLIMIT_CPU ends it), so nothing here depends on how busy
the machine is.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
UNDEFINED = 0xFFFFFFFF
#: Most resident memory a scan may need, interpreter included.
MAX_RSS_BYTES = 256 << 20
MAX_CPU_S = 2

_CHILD = """
import json, resource, sys
from pathlib import Path
from dcmvault.dicom import digest, part10
from dcmvault.errors import MalformedDicomError

cpu = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
try:
    if sys.argv[2] == "scan":
        answer = list(part10.scan(Path(sys.argv[1])).flaws)
    else:
        digest.data_set_digest(Path(sys.argv[1]))
        answer = []
except MalformedDicomError as error:
    answer = [error.message]
if sys.platform == "darwin":
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
else:
    # Not ru_maxrss: it keeps the peak of the process that started this one.
    status = Path("/proc/self/status").read_text().split()
    peak = int(status[status.index("VmHWM:") + 1]) * 1024
print(json.dumps({"answer": answer, "rss": peak}))
"""


def run(path: Path, what: str, cpu_s: int = MAX_CPU_S) -> list[str]:
    """Scan (or digest) in a process of its own; return what it found wrong."""
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), what, str(cpu_s)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    outcome = json.loads(child.stdout)
    assert outcome["rss"] < MAX_RSS_BYTES
    answer: list[str] = outcome["answer"]
    return answer


def element(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not vr:
        return head + struct.pack("<L", size) + value
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return head + vr.encode() + struct.pack("<HL", 0, size) + value
    return head + vr.encode() + struct.pack("<H", size) + value


def front(syntax: str, *, vr: bool = True) -> bytes:
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    identity = b"".join(
        element(tag, "UI" if vr else "", b"1.2.3\0")
        for tag in (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)
    )
    return bytes(128) + b"DICM" + element(0x00020010, "UI", uid) + identity


def nested(size: int, *, defined: bool, vr: str) -> bytes:
    """Build about `size` bytes of sequences in each other: item in sequence in item ..."""
    tag = 0x00400275
    per_level = 20 if vr else 16
    levels = size // per_level
    if not defined:
        level = element(tag, vr, b"", UNDEFINED) + element(0xFFFEE000, "", b"", UNDEFINED)
        return level * levels
    parts = []
    for left in range(levels, 0, -1):
        inside = left * per_level - (12 if vr else 8)
        parts.append(element(tag, vr, b"", inside) + element(0xFFFEE000, "", b"", inside - 8))
    return b"".join(parts)


Hostile = dict[str, Callable[[], bytes]]


def deflate_bomb(*, before_identity: bool) -> bytes:
    """A gigabyte of NULs in about a megabyte, as one value."""
    deflater = zlib.compressobj(9, wbits=-15)
    size = 1 << 30
    head = element(0x00080001 if before_identity else 0x7FE00010, "UN", b"", size)
    identity = front(EXPLICIT)[132 + 8 + 20 :]
    parts = [deflater.compress(head if before_identity else identity + head)]
    block = bytes(1 << 20)
    parts.extend(deflater.compress(block) for _ in range(size // len(block)))
    parts.append(deflater.flush())
    meta = front(DEFLATED)
    return meta[: meta.index(struct.pack("<HH", 8, 0x16))] + b"".join(parts)


HOSTILE: Hostile = {
    "nested, undefined lengths": lambda: (
        front(EXPLICIT) + nested(3_000_000, defined=False, vr="SQ")
    ),
    "nested, defined lengths": lambda: front(EXPLICIT) + nested(3_000_000, defined=True, vr="SQ"),
    "nested in UN": lambda: (
        front(EXPLICIT)
        + element(0x00400275, "UN", b"", UNDEFINED)
        + element(0xFFFEE000, "", b"", UNDEFINED)
        + nested(3_000_000, defined=False, vr="")
    ),
    "nested, implicit VR, undefined lengths": lambda: (
        front(IMPLICIT, vr=False) + nested(3_000_000, defined=False, vr="")
    ),
    "nested, implicit VR, defined lengths": lambda: (
        front(IMPLICIT, vr=False) + nested(3_000_000, defined=True, vr="")
    ),
    "length of 4 GB": lambda: front(EXPLICIT) + element(0x00204000, "UT", b"x", 0xFFFFFFFE),
    "length of 4 GB, implicit VR": lambda: (
        front(IMPLICIT, vr=False) + element(0x00204000, "", b"x", 0xFFFFFFFE)
    ),
    "length of 4 GB before any UID": lambda: (
        bytes(128)
        + b"DICM"
        + element(0x00020010, "UI", b"", 0)
        + b"\x08\0\x05\0UT\0\0\xfe\xff\xff\xff"
    ),
    "fragment of 4 GB": lambda: (
        front(EXPLICIT)
        + element(0x7FE00010, "OB", b"", UNDEFINED)
        + element(0xFFFEE000, "", b"x", 0xFFFFFFFE)
    ),
    "3 million elements": lambda: front(EXPLICIT) + element(0x00204000, "LT", b"") * 3_000_000,
    "3 million elements, implicit VR": lambda: (
        front(IMPLICIT, vr=False) + element(0x00204000, "", b"") * 3_000_000
    ),
    "3 million elements in a sequence": lambda: (
        front(EXPLICIT)
        + element(0x00400275, "SQ", b"", UNDEFINED)
        + element(0xFFFEE000, "", b"", UNDEFINED)
        + element(0x00204000, "LT", b"") * 3_000_000
    ),
    "3 million items": lambda: (
        front(EXPLICIT)
        + element(0x00400275, "SQ", b"", UNDEFINED)
        + element(0xFFFEE000, "", b"") * 3_000_000
    ),
    "1 million empty sequences": lambda: (
        front(EXPLICIT)
        + (element(0x00400275, "SQ", b"", UNDEFINED) + element(0xFFFEE0DD, "", b"")) * 1_000_000
    ),
    "1 million sequences with an item": lambda: (
        front(EXPLICIT)
        + (
            element(0x00400275, "SQ", b"", UNDEFINED)
            + element(0xFFFEE000, "", b"")
            + element(0xFFFEE0DD, "", b"")
        )
        * 1_000_000
    ),
    "3 million fragments": lambda: (
        front(EXPLICIT)
        + element(0x7FE00010, "OB", b"", UNDEFINED)
        + element(0xFFFEE000, "", b"") * 3_000_000
    ),
    "file meta information without end": lambda: (
        bytes(128) + b"DICM" + element(0x00020102, "OB", b"") * 300_000
    ),
    "deflate bomb before the UIDs": lambda: deflate_bomb(before_identity=True),
    "deflated rubbish": lambda: front(DEFLATED) + b"\xff" * 1_000_000,
}


#: Much of what the scanner's hot loops leave to slower code.
SLOW_TO_SCAN: Hostile = {
    "1 million sequences of unknown VR": lambda: (
        front(EXPLICIT)
        + (element(0x00400275, "UN", b"", UNDEFINED) + element(0xFFFEE0DD, "", b"")) * 1_000_000
    ),
    "1 million sequences of unknown VR in a sequence": lambda: (
        front(EXPLICIT)
        + element(0x00400275, "SQ", b"", UNDEFINED)
        + element(0xFFFEE000, "", b"", UNDEFINED)
        + (element(0x00400275, "UN", b"", UNDEFINED) + element(0xFFFEE0DD, "", b"")) * 1_000_000
    ),
    "1 million pixel data": lambda: (
        front(EXPLICIT)
        + (element(0x7FE00010, "OB", b"", UNDEFINED) + element(0xFFFEE0DD, "", b"")) * 1_000_000
    ),
    "2 million elements after pixel data": lambda: (
        front(EXPLICIT)
        + element(0x7FE00010, "OB", b"ab")
        + element(0xFFFCFFFC, "LT", b"") * 2_000_000
    ),
    "2 million delimiters": lambda: front(EXPLICIT) + element(0xFFFEE00D, "", b"") * 2_000_000,
    "1 million elements without VR": lambda: (
        front(EXPLICIT) + b"".join(element(0x00210000 + n, "", b"") for n in range(1, 1_000_000))
    ),
}

#: Stepped over by the scanner, whose concern is the top level: nothing is wrong there.
WRONG_INSIDE_ONLY = {"nested, defined lengths", "nested, implicit VR, defined lengths"}


@pytest.mark.parametrize("name", [*HOSTILE, *SLOW_TO_SCAN])
def test_scan_costs_little_and_says_what_is_wrong(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.dcm"
    path.write_bytes({**HOSTILE, **SLOW_TO_SCAN}[name]())
    assert bool(run(path, "scan")) is (name not in WRONG_INSIDE_ONLY)


@pytest.mark.parametrize("name", HOSTILE)
def test_digest_refuses_in_bounded_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.dcm"
    path.write_bytes(HOSTILE[name]())
    assert run(path, "digest", cpu_s=30)


def test_deflate_bomb_in_the_pixels_is_never_inflated(tmp_path: Path) -> None:
    path = tmp_path / "bomb.dcm"
    path.write_bytes(deflate_bomb(before_identity=False))
    assert path.stat().st_size < 2 << 20
    assert run(path, "scan") == []
    assert run(path, "digest", cpu_s=30) != []
