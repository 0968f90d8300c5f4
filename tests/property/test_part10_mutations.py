"""Damaged files never surprise: whatever is cut or changed, only MalformedDicomError comes out."""

from __future__ import annotations

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


@pytest.mark.parametrize("name", SEEDS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(mutations=MUTATIONS, keep=st.floats(0, 1))
def test_damage_is_refused_or_read(
    name: str, tmp_path: Path, mutations: list[tuple[float, str, bytes]], keep: float
) -> None:
    content = mutate((TEST_FILES / name).read_bytes(), mutations, 4000)
    content = content[: int(len(content) * max(keep, 0.02))] if keep < 0.7 else content
    path = tmp_path / "damaged"
    path.write_bytes(content)
    header = scan_or_refuse(path)
    if header is not None:
        assert 0 <= header.data_set_start <= header.data_set_end <= len(content)
        assert header.pixel_data_start <= header.pixel_data_end <= len(content)


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


@given(st.binary(max_size=600), st.booleans())
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, preamble: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "arbitrary"
    path.write_bytes((bytes(128) + b"DICM" if preamble else b"") + content)
    scan_or_refuse(path)
    part10.claims_to_be_dicom("name", content)
