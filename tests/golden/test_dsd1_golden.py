"""`dsd1` is frozen: the same logical data set has one digest however it is written, and which.

A changed value in this file is a broken promise to every digest ever written down.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dcmvault.dicom.digest import data_set_digest, file_sha256, merkle_root
from dcmvault.errors import MalformedDicomError

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.50"
UNDEFINED = 0xFFFFFFFF
LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UC", "UN", "UR", "UT"}
WIDTHS = {"US": 2, "SS": 2, "OW": 2, "UL": 4, "FL": 4, "OF": 4, "FD": 8}

#: (tag, VR, value): bytes in little endian, or for SQ the items, each a data set of its own.
DataSet = list[tuple[int, str, "bytes | list[DataSet]"]]


@dataclass(frozen=True)
class Writing:
    """How to write a data set."""

    syntax: str = EXPLICIT
    undefined: bool = False
    group_lengths: bool = False
    padding: bytes = b" "
    #: Write sequences as UN with implicit VR inside (PS3.5 6.2.2).
    sequences_as_un: bool = False
    known_as_un: bool = False
    reverse: bool = False

    def element(self, tag: int, vr: str, value: bytes | list[DataSet]) -> bytes:
        if isinstance(value, list):
            return self.sequence(tag, value)
        if self.syntax == BIG and vr in WIDTHS:
            width = WIDTHS[vr]
            value = b"".join(value[i : i + width][::-1] for i in range(0, len(value), width))
        if len(value) % 2:
            value += b"\0" if vr == "UI" else b"\0" if vr in ("OB", "UN") else self.padding
        if self.known_as_un and self.syntax != BIG:
            vr = "UN"
        return self.head(tag, vr, len(value)) + value

    def head(self, tag: int, vr: str, length: int) -> bytes:
        order = ">" if self.syntax == BIG else "<"
        front = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
        if self.syntax == IMPLICIT or tag >> 16 == 0xFFFE:
            return front + struct.pack(order + "L", length)
        if vr in LONG:
            return front + vr.encode() + struct.pack(order + "HL", 0, length)
        return front + vr.encode() + struct.pack(order + "H", length)

    def sequence(self, tag: int, items: list[DataSet]) -> bytes:
        inside = replace(self, syntax=IMPLICIT) if self.sequences_as_un else self
        content = b""
        for item in items:
            body = inside.data_set(item)
            if self.undefined:
                content += inside.head(0xFFFEE000, "", UNDEFINED) + body
                content += inside.head(0xFFFEE00D, "", 0)
            else:
                content += inside.head(0xFFFEE000, "", len(body)) + body
        vr = "UN" if self.sequences_as_un else "SQ"
        if self.undefined:
            return self.head(tag, vr, UNDEFINED) + content + inside.head(0xFFFEE0DD, "", 0)
        return self.head(tag, vr, len(content)) + content

    def data_set(self, data_set: DataSet) -> bytes:
        out, groups = b"", sorted({tag >> 16 for tag, _, _ in data_set})
        elements = list(reversed(data_set)) if self.reverse else data_set
        if not self.group_lengths:
            return b"".join(self.element(*entry) for entry in elements)
        for group in groups:
            body = b"".join(self.element(*e) for e in elements if e[0] >> 16 == group)
            out += self.element(group << 16, "UL", struct.pack("<L", len(body))) + body
        return out

    def file(self, data_set: DataSet, tail: bytes = b"", syntax: str = "") -> bytes:
        stated = syntax or self.syntax
        uid = stated.encode() + b"\0" * (len(stated) % 2)
        meta = bytes(128) + b"DICM" + Writing().element(0x00020010, "UI", uid)
        body = self.data_set(data_set) + tail
        if stated == DEFLATED:
            deflater = zlib.compressobj(wbits=-15)
            body = deflater.compress(body) + deflater.flush()
        return meta + body


PRIVATE_ITEM: DataSet = [
    (0x00091001, "LO", b"inside"),
    (0x00091002, "US", struct.pack("<H", 513)),
]
LOGICAL: DataSet = [
    (0x00080005, "CS", b"ISO_IR 100"),
    (0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2"),
    (0x00080018, "UI", b"1.2.3"),
    (0x00081140, "SQ", [[(0x00081150, "UI", b"1.2.9"), (0x00081155, "UI", b"1.2.4.5")], []]),
    (0x00081199, "SQ", []),
    (0x00090010, "LO", b"ACME 1.1"),
    (0x00091003, "LO", b"text  "),
    (0x00091004, "SS", struct.pack("<h", -300)),
    (0x00091005, "OB", b"\1\2\3\0"),
    (0x00091010, "SQ", [PRIVATE_ITEM]),
    (0x00100010, "PN", b"Doe^J"),
    (0x00180050, "DS", b"1.5"),
    (0x00189087, "FD", struct.pack("<d", 1000.25)),
    (0x0020000D, "UI", b"1.2.1"),
    (0x00280010, "US", struct.pack("<H", 2)),
    (0x00280100, "US", struct.pack("<H", 16)),
    (
        0x00409096,
        "SQ",
        [[(0x00409210, "SH", b"A"), (0x004008EA, "SQ", [[(0x00080100, "SH", b"x")]])]],
    ),
    (0x7FE00010, "OW", bytes(range(16))),
]

Digest = Callable[[bytes], str]

LOGICAL_DIGEST = "dsd1:f89f250310460830811f00554a5e584bb1214b9ad3f9ef3c1b7601ec58ff9e3e"


@pytest.fixture
def digest(tmp_path: Path) -> Digest:
    def of_bytes(content: bytes) -> str:
        path = tmp_path / "file"
        path.write_bytes(content)
        return data_set_digest(path)

    return of_bytes


WRITINGS = {
    "explicit little endian": Writing(),
    "implicit little endian": Writing(IMPLICIT),
    "explicit big endian": Writing(BIG),
    "undefined lengths": Writing(undefined=True),
    "undefined lengths, implicit": Writing(IMPLICIT, undefined=True),
    "undefined lengths, big endian": Writing(BIG, undefined=True),
    "group lengths": Writing(group_lengths=True),
    "group lengths, implicit": Writing(IMPLICIT, group_lengths=True),
    "NUL padding": Writing(padding=b"\0"),
    "sequences as UN, undefined": Writing(sequences_as_un=True, undefined=True),
    "sequences as UN, defined": Writing(sequences_as_un=True),
    "sequences as UN in big endian": Writing(BIG, sequences_as_un=True, undefined=True),
    "everything as UN": Writing(known_as_un=True),
    "unsorted": Writing(reverse=True),
}


@pytest.mark.parametrize("name", WRITINGS)
def test_one_digest_for_every_writing(name: str, digest: Digest) -> None:
    assert digest(WRITINGS[name].file(LOGICAL)) == LOGICAL_DIGEST


def test_deflated(digest: Digest) -> None:
    assert digest(Writing().file(LOGICAL, syntax=DEFLATED)) == LOGICAL_DIGEST


@pytest.mark.parametrize(
    "tail",
    [
        Writing().element(0xFFFCFFFC, "OB", bytes(64)),
        bytes(512),
        b"\xff" * 99,
        b"rubbish after the end",
    ],
    ids=["FFFC,FFFC", "NULs", "FFs", "text"],
)
def test_what_follows_is_left_out(tail: bytes, digest: Digest) -> None:
    assert digest(Writing().file(LOGICAL, tail)) == LOGICAL_DIGEST


def test_file_meta_information_and_preamble_are_left_out(digest: Digest) -> None:
    content = Writing().file(LOGICAL)
    extra = Writing().element(0x00020013, "SH", b"OTHER 1.0 ")
    at = content.index(b"DICM") + 4
    other = b"\1" * 128 + content[128:at] + content[at : at + 28] + extra + content[at + 28 :]
    assert digest(other) == LOGICAL_DIGEST
    assert digest(Writing().data_set(LOGICAL)) == LOGICAL_DIGEST


def with_value(tag: int, value: bytes | list[DataSet]) -> DataSet:
    return [(t, vr, value if t == tag else old) for t, vr, old in LOGICAL]


CHANGES: dict[str, DataSet] = {
    "pixel": with_value(0x7FE00010, bytes(range(1, 17))),
    "last pixel zero": with_value(0x7FE00010, bytes(range(15)) + b"\0"),
    "text": with_value(0x00100010, b"Doe^K"),
    "leading space": with_value(0x00100010, b" Doe^J"),
    "number": with_value(0x00280010, struct.pack("<H", 3)),
    "private number": with_value(0x00091004, struct.pack("<h", -301)),
    "private bytes": with_value(0x00091005, b"\1\2\3\4"),
    "item left out": with_value(
        0x00081140, [[(0x00081150, "UI", b"1.2.9"), (0x00081155, "UI", b"1.2.4.5")]]
    ),
    "items in other order": with_value(
        0x00081140, [[], [(0x00081150, "UI", b"1.2.9"), (0x00081155, "UI", b"1.2.4.5")]]
    ),
    "empty item in empty sequence": with_value(0x00081199, [[]]),
    "element left out": [entry for entry in LOGICAL if entry[0] != 0x00180050],
    "element moved out of its item": [
        *(e for e in LOGICAL if e[0] != 0x00409096),
        (0x00409096, "SQ", [[(0x004008EA, "SQ", [[(0x00080100, "SH", b"x")]])]]),
        (0x00409210, "SH", b"A"),
    ],
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
def test_a_change_changes_it(name: str, syntax: str, digest: Digest) -> None:
    assert digest(Writing(syntax).file(CHANGES[name])) != LOGICAL_DIGEST


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
def test_bit_flips_in_private_numbers_that_look_like_padding(syntax: str, digest: Digest) -> None:
    """US 65 and 8257 are `A NUL` and `A space`: cutting both would make them equal."""
    digests = {
        digest(Writing(syntax).file(with_value(0x00091004, struct.pack("<h", number))))
        for number in (0, 32, 65, 8192, 8224, 8257)
    }
    assert len(digests) == 6


def encapsulated(fragments: list[bytes], table: bytes = b"", extended: bool = False) -> bytes:
    plain = Writing()
    content = plain.file([e for e in LOGICAL if e[0] != 0x7FE00010], syntax=JPEG)
    if extended:
        content += plain.element(0x7FE00001, "OB", bytes(8))
        content += plain.element(0x7FE00002, "OB", struct.pack("<Q", 12))
    content += plain.head(0x7FE00010, "OB", UNDEFINED)
    for fragment in [table, *fragments]:
        content += plain.head(0xFFFEE000, "", len(fragment)) + fragment
    return content + plain.head(0xFFFEE0DD, "", 0)


ENCAPSULATED_DIGEST = "dsd1:86d52ff4ad89ca05e321b914a9c6da19cac18dbe9a1c1d8dd573bd24e526ac7a"


def test_offset_tables_and_fragments_are_left_out(digest: Digest) -> None:
    stream = b"\xff\xd8\xff\xe0one frame!\xff\xd9"
    ways = [
        encapsulated([stream]),
        encapsulated([stream], table=bytes(4)),
        encapsulated([stream[:6], stream[6:8], stream[8:]]),
        encapsulated([stream[:6], b"", stream[6:]], table=bytes(4)),
        encapsulated([stream], extended=True),
    ]
    assert {digest(way) for way in ways} == {ENCAPSULATED_DIGEST}
    assert digest(encapsulated([stream[:-1] + b"\xd8"])) != ENCAPSULATED_DIGEST
    assert digest(encapsulated([], table=stream)) != ENCAPSULATED_DIGEST


@pytest.mark.parametrize(
    "content",
    [
        Writing().file(LOGICAL)[:-3],
        Writing(undefined=True).file(LOGICAL[:4])[:-12],
        encapsulated([b"1234"])[:-10],
        Writing().file(LOGICAL, syntax=DEFLATED)[:-9],
        b"",
    ],
    ids=["pixels", "sequence", "fragments", "deflated", "empty"],
)
def test_what_is_not_whole_has_no_digest(content: bytes, digest: Digest) -> None:
    with pytest.raises(MalformedDicomError):
        digest(content)


def test_definition_on_paper(digest: Digest) -> None:
    """The definition in the module's words, written out for two elements."""

    def record(group: int, element: int, kind: bytes, content: bytes) -> bytes:
        return struct.pack(">HH", group, element) + kind + hashlib.sha256(content).digest()

    item = hashlib.sha256(b"dsd1-item" + record(0x0008, 0x1150, b"V", b"1.2.9")).digest()
    records = record(0x0008, 0x1140, b"S", item) + record(0x0010, 0x0010, b"V", b"Doe^J")
    expected = "dsd1:" + hashlib.sha256(b"dsd1" + records).hexdigest()
    data_set: DataSet = [
        (0x00081140, "SQ", [[(0x00081150, "UI", b"1.2.9")]]),
        (0x00100010, "PN", b"Doe^J"),
    ]
    assert digest(Writing().file(data_set)) == expected


def test_file_sha256(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = bytes(range(256)) * 9000
    path.write_bytes(content)
    assert file_sha256(path) == hashlib.sha256(content).digest()


def test_merkle_root() -> None:
    def leaf(digest: bytes) -> bytes:
        return hashlib.sha256(b"\0" + digest).digest()

    def node(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\1" + left + right).digest()

    a, b, c = (hashlib.sha256(letter).digest() for letter in (b"a", b"b", b"c"))
    low, middle, high = sorted((a, b, c))
    assert merkle_root([]) == hashlib.sha256().digest()
    assert merkle_root([a]) == leaf(a)
    expected = node(node(leaf(low), leaf(middle)), leaf(high))
    assert merkle_root([c, a, b]) == merkle_root([b, c, a]) == expected
    assert merkle_root([a, a, b]) != merkle_root([a, b])
    # An inner node is never taken for a leaf.
    assert merkle_root([node(leaf(low), leaf(middle)), high]) != expected
