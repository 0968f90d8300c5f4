"""Taking files apart: what is cut and as what, for each way in which a data set is written."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from itertools import pairwise
from pathlib import Path

import pytest

from dcmvault.dicom.byte_source import FileBytes, MemoryBytes
from dcmvault.dicom.part10 import scan
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import InstanceHeader
from dcmvault.testing.corpus import real_files, real_study_folders
from dcmvault.vault.cutting import MAX_PIECE_BYTES, MAX_RUN_BYTES, Piece, cut, pieces
from dcmvault.vault.shape import Cut, CutFile, CutKind, PixelAttributes

BYTES, FRAMES, STREAM = CutKind.BYTES, CutKind.FRAMES, CutKind.STREAM
IMPLICIT, LITTLE, DEFLATED, BIG, JPEG, GE = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.113619.5.2",
)
LONG_VRS = ("OB", "OW", "OF", "OD", "SQ", "UN", "UT")
UNDEFINED = 0xFFFFFFFF


def element(
    tag: int, vr: str, value: bytes, syntax: str = LITTLE, length: int | None = None
) -> bytes:
    order = ">" if syntax == BIG else "<"
    length = len(value) if length is None else length
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if syntax in (IMPLICIT, GE):
        return head + struct.pack("<L", length) + value
    if vr in LONG_VRS:
        return head + vr.encode() + struct.pack(order + "HL", 0, length) + value
    return head + vr.encode() + struct.pack(order + "H", length) + value


def item(value: bytes, syntax: str = LITTLE) -> bytes:
    order = ">" if syntax == BIG else "<"
    return struct.pack(order + "HHL", 0xFFFE, 0xE000, len(value)) + value


def uid(tag: int, value: str, syntax: str = LITTLE) -> bytes:
    raw = value.encode()
    return element(tag, "UI", raw + b"\0" * (len(raw) % 2), syntax)


def part10(data_set: bytes, syntax: str = LITTLE) -> bytes:
    return bytes(128) + b"DICM" + uid(0x00020010, syntax) + data_set


def identity(syntax: str = LITTLE) -> bytes:
    return (
        uid(0x00080016, "1.2.840.10008.5.1.4.1.1.7", syntax)
        + uid(0x00080018, "1.2.3.4", syntax)
        + uid(0x0020000D, "1.2.3", syntax)
        + uid(0x0020000E, "1.2.3.1", syntax)
    )


def image_module(
    syntax: str = LITTLE,
    *,
    columns: int = 32,
    rows: int = 32,
    bits: int = 16,
    samples: int = 1,
    frames: int | None = None,
    photometric: bytes = b"MONOCHROME2 ",
    planar: int = 0,
) -> bytes:
    order = ">" if syntax == BIG else "<"

    def number(tag: int, value: int) -> bytes:
        return element(tag, "US", struct.pack(order + "H", value), syntax)

    count = b""
    if frames is not None:
        text = str(frames).encode()
        count = element(0x00280008, "IS", text + b" " * (len(text) % 2), syntax)
    return (
        number(0x00280002, samples)
        + element(0x00280004, "CS", photometric, syntax)
        + number(0x00280006, planar)
        + count
        + number(0x00280010, rows)
        + number(0x00280011, columns)
        + number(0x00280100, bits)
        + number(0x00280101, bits)
        + number(0x00280103, 1)
    )


def scanned(content: bytes, folder: Path) -> InstanceHeader | None:
    path = folder / "scanned"
    path.write_bytes(content)
    try:
        return scan(path)
    except MalformedDicomError:
        return None


def cut_bytes(content: bytes, folder: Path) -> CutFile:
    found = cut(MemoryBytes(content), scanned(content, folder))
    check(found, content)
    return found


def check(found: CutFile, content: bytes) -> None:
    """What holds for every file: ascending, inside, no long run; and it can be put together."""
    ends = [0, *(one.end for one in found.cuts)]
    starts = [*(one.start for one in found.cuts), len(content)]
    assert all(0 <= start - end <= MAX_RUN_BYTES for start, end in zip(starts, ends, strict=True))
    assert all(one.start < one.end for one in found.cuts)
    back = bytearray()
    for end, one in zip(ends, found.cuts, strict=False):
        back += content[end : one.start]
        for piece in pieces(one, found.pixels):
            assert piece.start == len(back)
            assert piece.start < piece.end
            if one.kind is FRAMES:
                assert (piece.end - piece.start) % one.swap == 0
                assert piece.end - piece.start == (
                    piece.columns * piece.rows * piece.samples * piece.sample_bytes
                )
            else:
                assert piece.end - piece.start <= MAX_PIECE_BYTES
                assert not piece.columns
            back += content[piece.start : piece.end]
        assert len(back) == one.end
        if one.kind is FRAMES:
            assert (one.end - one.start) % one.frame_bytes == 0
    back += content[ends[-1] :]
    assert bytes(back) == content


def test_every_real_file(tmp_path: Path) -> None:
    files = real_files()
    files += [
        path for folder in real_study_folders() for path in folder.rglob("*") if path.is_file()
    ]
    kinds = set()
    for path in files:
        content = path.read_bytes()
        found = cut_bytes(content, tmp_path)
        with FileBytes(path) as source:
            assert cut(source, scanned(content, tmp_path)) == found
        kinds |= {one.kind for one in found.cuts}
    assert kinds == set(CutKind)


@pytest.mark.parametrize("syntax", [IMPLICIT, LITTLE, BIG, GE])
def test_native_frames(syntax: str, tmp_path: Path) -> None:
    frame = bytes(range(256)) * 8
    content = part10(
        identity(syntax)
        + image_module(syntax, frames=3)
        + element(0x7FE00010, "OW", frame * 3 + b"\0\0", syntax)
        + element(0xFFFCFFFC, "OB", bytes(6000), syntax),
        syntax,
    )
    start = content.index(frame)
    found = cut_bytes(content, tmp_path)
    swap = 2 if syntax in (BIG, GE) else 1
    assert found.cuts == (Cut(start, start + 6144, FRAMES, 2048, swap),)
    assert found.transfer_syntax_uid == syntax
    assert found.pixels == PixelAttributes(32, 32, 1, 16, 16, 1, 0, 3)


@pytest.mark.parametrize(
    ("vr", "bits", "columns", "expected"),
    [
        ("OW", 8, 64, (FRAMES, 2)),
        ("OB", 8, 64, (FRAMES, 1)),
        ("OW", 8, 63, (BYTES, 1)),
        ("OB", 8, 63, (FRAMES, 1)),
        ("OW", 32, 63, (FRAMES, 4)),
    ],
)
def test_words_of_big_endian(
    vr: str, bits: int, columns: int, expected: tuple[CutKind, int], tmp_path: Path
) -> None:
    value = bytes(columns * 65 * bits // 8 * 2)
    content = part10(
        identity(BIG)
        + image_module(BIG, columns=columns, rows=65, bits=bits, frames=2)
        + element(0x7FE00010, vr, value, BIG),
        BIG,
    )
    (one,) = cut_bytes(content, tmp_path).cuts
    assert (one.kind, one.swap) == expected


@pytest.mark.parametrize(
    ("attributes", "length", "expected"),
    [
        ({"rows": 96}, 6144 * 2 + 5000, [(FRAMES, 12288), (BYTES, 5000)]),
        ({"frames": 7}, 2048 * 2 + 6, [(FRAMES, 4096)]),
        ({"columns": 0}, 8192, [(BYTES, 8192)]),
        ({"columns": 0}, 4000, []),
        ({"bits": 1}, 8192, [(BYTES, 8192)]),
        ({"bits": 12}, 8192, [(BYTES, 8192)]),
        ({"rows": 65535, "columns": 65535}, 8192, [(BYTES, 8192)]),
        ({"samples": 3, "bits": 8, "photometric": b"YBR_FULL_422"}, 8192, [(BYTES, 8192)]),
        ({"samples": 3, "bits": 8, "photometric": b"YBR_FULL"}, 6144, [(FRAMES, 6144)]),
        ({"rows": 10, "columns": 10}, 8000, [(BYTES, 8000)]),
        ({"rows": 10, "columns": 10}, 200, []),
    ],
)
def test_native_pixels_of_many_kinds(
    attributes: dict[str, int], length: int, expected: list[tuple[CutKind, int]], tmp_path: Path
) -> None:
    content = part10(
        identity() + image_module(**attributes) + element(0x7FE00010, "OW", bytes(length))  # type: ignore[arg-type]
    )
    found = cut_bytes(content, tmp_path)
    assert [(one.kind, one.end - one.start) for one in found.cuts] == expected


@pytest.mark.parametrize(("tag", "vr", "bits"), [(0x7FE00008, "OF", 32), (0x7FE00009, "OD", 64)])
def test_float_pixels(tag: int, vr: str, bits: int, tmp_path: Path) -> None:
    value = bytes(32 * 32 * bits // 8)
    content = part10(identity() + image_module(bits=bits) + element(tag, vr, value))
    (one,) = cut_bytes(content, tmp_path).cuts
    assert (one.kind, one.frame_bytes) == (FRAMES, len(value))
    content = part10(identity() + image_module(bits=16) + element(tag, vr, value))
    assert cut_bytes(content, tmp_path).cuts[0].kind is BYTES


def encapsulated(fragments: list[bytes], frames: int, *, ended: bool = True) -> bytes:
    items = b"".join(map(item, fragments))
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) if ended else b""
    return part10(
        identity()
        + image_module(frames=frames)
        + element(0x7FE00010, "OB", items + end, length=UNDEFINED),
        JPEG,
    )


def test_a_fragment_for_each_frame_is_a_stream(tmp_path: Path) -> None:
    fragments = [b"", b"a" * 300, b"b" * 5000, b"c" * 40, b"d" * 10000]
    found = cut_bytes(encapsulated(fragments, 4), tmp_path)
    assert [(one.kind, one.end - one.start) for one in found.cuts] == [
        (STREAM, 300),
        (STREAM, 5000),
        (STREAM, 10000),
    ]


def test_other_fragments_are_bytes(tmp_path: Path) -> None:
    fragments = [bytes(8000), b"a" * 300, b"b" * 5000, b"d" * 10000]
    found = cut_bytes(encapsulated(fragments, 2), tmp_path)
    assert [(one.kind, one.end - one.start) for one in found.cuts] == [
        (BYTES, 5000),
        (BYTES, 10000),
    ]


def test_fragments_of_one_frame_belong_together(tmp_path: Path) -> None:
    fragments = [b"", b"", b"a" * 5000, b"b" * 100, b"", b"c" * 6000]
    found = cut_bytes(encapsulated(fragments, 1), tmp_path)
    assert [(one.kind, one.end - one.start) for one in found.cuts] == [
        (STREAM, 5000),
        (CutKind.MORE, 100),
        (CutKind.MORE, 6000),
    ]
    for many in ([b"", *[b"a" * 5000] * 1025], [b"", *[bytes(9 << 20)] * 4]):
        kinds = {one.kind for one in cut_bytes(encapsulated(many, 1), tmp_path).cuts}
        assert kinds == {BYTES}


def test_pixel_data_without_end_are_bytes(tmp_path: Path) -> None:
    content = encapsulated([b"", b"b" * 5000, b"d" * 10000], 2, ended=False)
    for length in (len(content), len(content) - 3000, len(content) - 9000):
        found = cut_bytes(content[:length], tmp_path)
        assert {one.kind for one in found.cuts} == {BYTES}


@pytest.mark.parametrize("syntax", [IMPLICIT, LITTLE, BIG])
def test_large_values_are_bytes_and_sequences_are_not(syntax: str, tmp_path: Path) -> None:
    inside = element(0x00081199, "UT", b"x" * 19992, syntax)
    private = element(
        0x00091001, "UN", item(element(0x00091002, "UN", bytes(19000), IMPLICIT)), syntax
    )
    content = part10(
        identity(syntax)
        + element(0x00081140, "SQ", item(inside, syntax), syntax)
        + private
        + element(0x00091002, "OB", bytes(16383) + b"\1", syntax)
        + element(0x00091003, "OB", bytes(16382), syntax)
        + element(0x00420011, "OB", bytes(70000), syntax),
        syntax,
    )
    found = cut_bytes(content, tmp_path)
    sizes = [one.end - one.start for one in found.cuts]
    assert sizes == [16384, 70000]


def test_no_run_of_the_skeleton_is_long(tmp_path: Path) -> None:
    large = element(0x00081140, "SQ", item(bytes(8) * 100_000))
    small = element(0x00081115, "SQ", item(bytes(8) * 9_000))
    found = cut_bytes(part10(small + large + identity() + bytes(3000)), tmp_path)
    assert not found.cuts
    found = cut_bytes(part10(small + large + large + identity()), tmp_path)
    assert [one.end - one.start for one in found.cuts] == [72_008, 800_008, 800_008]
    many = element(0x00091001, "LO", bytes(1000)) * 2000
    content = part10(identity() + many + image_module() + element(0x7FE00010, "OW", bytes(2048)))
    found = cut_bytes(content, tmp_path)
    assert [one.kind for one in found.cuts] == [BYTES, FRAMES]


def test_sequences_of_undefined_length_are_stepped_over(tmp_path: Path) -> None:
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    icon = item(element(0x7FE00010, "OW", bytes(50_000)))
    content = part10(
        element(0x00081140, "SQ", icon + end, length=UNDEFINED)
        + identity()
        + image_module()
        + element(0x7FE00010, "OW", bytes(2048))
    )
    (one,) = cut_bytes(content, tmp_path).cuts
    assert (one.start, one.end) == (len(content) - 2048, len(content))


@pytest.mark.parametrize(("size", "count"), [(0, 0), (4095, 0), (4096, 1), (9 << 20, 1)])
def test_opaque_files(size: int, count: int, tmp_path: Path) -> None:
    found = cut_bytes(bytes(size), tmp_path)
    assert len(found.cuts) == count
    assert found.pixels is None


def test_a_deflated_data_set_is_bytes(tmp_path: Path) -> None:
    numbers = b"".join(struct.pack("<L", n * n * 2654435761 % (1 << 32)) for n in range(4000))
    data_set = identity() + element(0x7FE00010, "OW", numbers)
    deflater = zlib.compressobj(wbits=-15)
    content = part10(deflater.compress(data_set) + deflater.flush(), DEFLATED)
    (one,) = cut_bytes(content, tmp_path).cuts
    assert (one.kind, one.end) == (BYTES, len(content))
    assert content[one.start - 2 : one.start] == b"99"


def test_what_follows_the_data_set_is_bytes(tmp_path: Path) -> None:
    sound = part10(identity() + image_module() + element(0x7FE00010, "OW", bytes(2048)))
    found = cut_bytes(sound + b"\xff" * 5000, tmp_path)
    assert [(one.kind, one.end - one.start) for one in found.cuts] == [
        (FRAMES, 2048),
        (BYTES, 5000),
    ]
    assert len(cut_bytes(sound + b"\xff" * 4000, tmp_path).cuts) == 1


def test_a_value_that_runs_past_the_end(tmp_path: Path) -> None:
    content = part10(
        identity() + image_module() + element(0x7FE00010, "OW", bytes(7000), length=1 << 30)
    )
    found = cut_bytes(content, tmp_path)
    assert [(one.kind, one.end - one.start) for one in found.cuts] == [(FRAMES, 6144)]
    content = part10(identity() + element(0x00420011, "OB", bytes(30000), length=1 << 30))
    assert [one.end - one.start for one in cut_bytes(content, tmp_path).cuts] == [30000]


def test_a_header_of_another_file_does_no_harm(tmp_path: Path) -> None:
    one, other = (
        part10(identity() + image_module(frames=n) + element(0x7FE00010, "OW", bytes(n * 2048)))
        for n in (1, 9)
    )
    for content, header in ((one, scanned(other, tmp_path)), (other, scanned(one, tmp_path))):
        check(cut(MemoryBytes(content), header), content)
        for length in (0, 10, 131, 150, 400):
            check(cut(MemoryBytes(content[:length]), header), content[:length])


def test_truncated_anywhere(tmp_path: Path) -> None:
    """Every real file that is small, cut off at many places: the rest is bytes, never an error."""
    for path in real_files():
        content = path.read_bytes()
        if len(content) > 12_000:
            continue
        for length in range(0, len(content), max(len(content) // 23, 1)):
            cut_bytes(content[:length], tmp_path)


def test_a_file_of_two_gigabytes_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    frames, frame = 1024, 2 << 20
    head = part10(
        identity()
        + image_module(columns=1024, rows=1024, frames=frames)
        + element(0x7FE00010, "OW", b"", length=frames * frame)
    )
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(len(head) + frames * frame)
    tracemalloc.start()
    try:
        header = scan(path)
        with FileBytes(path) as source:
            found = cut(source, header)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert found.cuts == (Cut(len(head), len(head) + frames * frame, FRAMES, frame, 1),)
    assert sum(1 for _ in pieces(found.cuts[0], found.pixels)) == frames


def attributes(columns: int, rows: int, bits: int, samples: int, planar: int) -> PixelAttributes:
    return PixelAttributes(columns, rows, samples, bits, bits, 0, planar, 1)


@pytest.mark.parametrize(
    ("shape", "swap"),
    [
        ((4000, 5000, 16, 1, 0), 1),
        ((4000, 5000, 8, 3, 0), 1),
        ((4000, 5000, 8, 3, 1), 1),
        ((4001, 5000, 8, 1, 0), 2),
        ((65535, 200, 32, 4, 0), 4),
    ],
)
def test_large_frames_are_divided_into_strips(
    shape: tuple[int, int, int, int, int], swap: int
) -> None:
    columns, rows, bits, samples, planar = shape
    frame = columns * rows * bits // 8 * samples
    strips = list(pieces(Cut(100, 100 + 2 * frame, FRAMES, frame, swap), attributes(*shape)))
    assert strips[0].start == 100
    assert strips[-1].end == 100 + 2 * frame
    assert all(a.end == b.start for a, b in pairwise(strips))
    for strip in strips:
        size = strip.end - strip.start
        assert size == columns * strip.rows * strip.samples * strip.sample_bytes
        assert size <= 8 << 20
        assert size % swap == 0
        assert strip.columns == columns
        assert strip.samples == (1 if planar else samples)
        assert not strip.planar


def test_small_frames_stay_whole() -> None:
    shape = attributes(100, 50, 8, 3, 1)
    assert list(pieces(Cut(7, 30007, FRAMES, 15000, 1), shape)) == [
        Piece(7, 15007, 100, 50, 3, 1, planar=True),
        Piece(15007, 30007, 100, 50, 3, 1, planar=True),
    ]
