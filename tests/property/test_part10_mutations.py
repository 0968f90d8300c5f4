"""Damaged files never surprise: whatever is cut or changed, only MalformedDicomError comes out.

And no more memory is taken than a scan of a sound file may: beyond that an allocation fails. At
night half a million files: 25,000 of each seed, 100,000 of arbitrary bytes, 100,000 of elements.
"""

from __future__ import annotations

import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pydicom.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcmvault.dicom import digest, part10
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import InstanceHeader

TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
#: Small, and different: syntaxes, sequences, UN, RLE, DICOMDIR, no preamble, deflated.
SEEDS = [
    "CT_small.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_RLE.dcm",
    "UN_sequence.dcm",
    "nested_priv_SQ.dcm",
    "rtplan.dcm",
    "test-SR.dcm",
    "image_dfl.dcm",
    "rtstruct.dcm",
    "JPEG2000.dcm",
    "dicomdirtests/DICOMDIR-nooffset",
]

#: Cases of each seed, and of bytes that nobody made from anything: usually, and at night.
OF_A_SEED, ARBITRARY = 500, 2_000
OF_A_SEED_AT_NIGHT, ARBITRARY_AT_NIGHT = 25_000, 100_000
#: What the scanner may take beyond what the process has: a deflated data set is inflated to 64 MiB.
_ROOM = 256 << 20

MUTATIONS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "zero", "ones", "delete", "insert", "repeat"]),
        st.binary(min_size=1, max_size=12),
    ),
    max_size=6,
)


def mutate(content: bytes, mutations: list[tuple[float, str, bytes]], head: int) -> bytes:
    data = bytearray(content)
    for where, how, piece in mutations:
        # Headers are where damage is interesting: half of it goes there.
        span = min(len(data), head) if len(piece) % 2 else len(data)
        at = int(where * max(span, 1))
        if how == "flip":
            data[at : at + 1] = bytes(byte ^ piece[0] for byte in data[at : at + 1])
        elif how == "zero":
            data[at : at + len(piece)] = bytes(len(data[at : at + len(piece)]))
        elif how == "ones":
            data[at : at + len(piece)] = b"\xff" * len(data[at : at + len(piece)])
        elif how == "delete":
            del data[at : at + len(piece)]
        elif how == "insert":
            data[at:at] = piece
        else:
            data[at:at] = data[at : at + 40 * len(piece)]
    return bytes(data)


def scan_or_refuse(path: Path) -> InstanceHeader | None:
    try:
        header = part10.scan(path)
    except MalformedDicomError:
        header = None
    with suppress(MalformedDicomError):
        digest.data_set_digest(path)
    return header


@pytest.fixture(autouse=True)
def _bounded_memory() -> Iterator[None]:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def many(cases: int) -> settings:
    return settings(
        max_examples=cases,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def campaign(
    cases: int, check: Callable[..., None], **strategies: st.SearchStrategy[object]
) -> None:
    """Check this many cases made of the strategies."""
    many(cases)(given(**strategies)(check))()


def damage(name: str, tmp_path: Path, cases: int) -> None:
    sound = (TEST_FILES / name).read_bytes()
    path = tmp_path / "damaged"

    def check(mutations: list[tuple[float, str, bytes]], keep: float) -> None:
        content = mutate(sound, mutations, 4000)
        content = content[: int(len(content) * max(keep, 0.02))] if keep < 0.7 else content
        path.write_bytes(content)
        header = scan_or_refuse(path)
        if header is not None:
            assert 0 <= header.data_set_start <= header.data_set_end <= len(content)
            assert header.pixel_data_start <= header.pixel_data_end <= len(content)

    campaign(cases, check, mutations=MUTATIONS, keep=st.floats(0, 1))


@pytest.mark.parametrize("name", SEEDS)
def test_damage_is_refused_or_read(name: str, tmp_path: Path) -> None:
    damage(name, tmp_path, OF_A_SEED)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", SEEDS)
def test_much_damage_is_refused_or_read(name: str, tmp_path: Path) -> None:
    damage(name, tmp_path, OF_A_SEED_AT_NIGHT)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"])
def test_every_cut_into_the_last_element_is_noticed(name: str, tmp_path: Path) -> None:
    content = (TEST_FILES / name).read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(content)
    sound = part10.scan(path)
    assert sound.flaws == ()
    for cut in range(1, 60):
        path.write_bytes(content[: sound.data_set_end - cut])
        assert part10.scan(path).flaws


def arbitrary(tmp_path: Path, cases: int) -> None:
    path = tmp_path / "arbitrary"

    def check(content: bytes, preamble: bool) -> None:
        path.write_bytes((bytes(128) + b"DICM" if preamble else b"") + content)
        scan_or_refuse(path)
        part10.claims_to_be_dicom("name", content)

    campaign(cases, check, content=st.binary(max_size=600), preamble=st.booleans())


def test_arbitrary_bytes(tmp_path: Path) -> None:
    arbitrary(tmp_path, ARBITRARY)


@pytest.mark.nightly
@pytest.mark.timeout(0)
def test_many_arbitrary_bytes(tmp_path: Path) -> None:
    arbitrary(tmp_path, ARBITRARY_AT_NIGHT)


# What elements are made of, put together at random: nearer to a data set than bytes are.
_TAGS = st.sampled_from(
    [
        *(0x00020000, 0x00020010, 0x00080005, 0x00080016, 0x00080018, 0x0020000D, 0x0020000E),
        *(0x00090010, 0x00091001, 0x00081140, 0x7FE00010, 0x7FE00001),
        *(0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD),
    ]
)
_LENGTHS = st.sampled_from([0, 1, 2, 8, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])


@st.composite
def element(draw: st.DrawFn) -> bytes:
    tag, length, value = draw(_TAGS), draw(_LENGTHS), draw(st.binary(max_size=24))
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    vr = draw(st.sampled_from([b"", b"UI", b"SQ", b"OB", b"OW", b"UN", b"PN", b"\xff\xff"]))
    size = len(value) if draw(st.booleans()) else length
    if not vr:
        return head + struct.pack("<I", size) + value
    if vr in (b"UI", b"PN"):
        return head + vr + struct.pack("<H", size & 0xFFFF) + value
    return head + vr + b"\0\0" + struct.pack("<I", size) + value


def elements(tmp_path: Path, cases: int) -> None:
    path = tmp_path / "elements"
    sound = TEST_FILES / "CT_small.dcm"
    meta = sound.read_bytes()[: part10.scan(sound).data_set_start]

    def check(parts: list[bytes], known: bool) -> None:
        path.write_bytes((meta if known else b"") + b"".join(parts))
        scan_or_refuse(path)

    campaign(cases, check, parts=st.lists(element(), max_size=12), known=st.booleans())


def test_elements_put_together_at_random(tmp_path: Path) -> None:
    elements(tmp_path, ARBITRARY)


@pytest.mark.nightly
@pytest.mark.timeout(0)
def test_many_elements_put_together_at_random(tmp_path: Path) -> None:
    elements(tmp_path, ARBITRARY_AT_NIGHT)
