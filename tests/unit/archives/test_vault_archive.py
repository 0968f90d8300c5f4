"""A vault as an archive: what counts, what is bounded, and headers without pixels."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    RLELossless,
)
from tests.integration.archive_world import ArchiveWorld, found

from dcmvault.dicom.header_values import WantedValues
from dcmvault.errors import QueryTooBroadError
from dcmvault.model.query import ArchiveQuery, InstanceBytes, QueryLevel, Selection
from dcmvault.testing.dicom_files import make_instance, make_study, make_uid

STUDY_UID, SERIES_UID, SOP_UID = 0x0020000D, 0x0020000E, 0x00080018


def test_of_two_contents_under_one_uid_the_later_one_is_given(tmp_path: Path) -> None:
    world = ArchiveWorld(tmp_path / "vault")
    uids = [make_uid(one) for one in ("study", "series", "instance")]
    first = make_instance(tmp_path / "a" / "1.dcm", *uids, series_number=1)
    second = make_instance(tmp_path / "b" / "1.dcm", *uids, study_description="Corrected")
    world.back_up([first.path], source="/a", run="r1")
    world.back_up([second.path], source="/b", run="r2")
    archive = world.archive()
    keys = {"StudyInstanceUID": "", "NumberOfStudyRelatedInstances": ""}
    (study,) = found(archive, QueryLevel.STUDY, **keys)
    assert study[0x00201208] == "1"
    (read,) = archive.read(archive.instances(Selection([uids[0]])))
    assert isinstance(read, InstanceBytes)
    assert bytes(read.data) == second.path.read_bytes()


def test_files_that_are_no_instances_are_not_shown(tmp_path: Path) -> None:
    world = ArchiveWorld(tmp_path / "vault")
    (made,) = make_study(tmp_path / "study", instances=1)
    opaque = tmp_path / "opaque.dcm"
    opaque.write_bytes(b"no DICOM at all")
    world.back_up([made.path, opaque])
    archive = world.archive()
    assert archive.studies == 1
    assert len(archive.instances(Selection([made.study_instance_uid]))) == 1


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        RLELossless,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_a_header_is_read_without_the_pixels(tmp_path: Path, syntax: str) -> None:
    """Also behind values that are long enough to have a place of their own."""
    world = ArchiveWorld(tmp_path / "vault")
    made = make_instance(
        tmp_path / "one.dcm",
        *map(make_uid, "abc"),
        rows=64,
        columns=64,
        elements={"ImageComments": "x" * 9000, "ImagePositionPatient": [1, 2, 3.5]},
        transfer_syntax=syntax,
    )
    world.back_up([made.path])
    archive = world.archive()
    instances = archive.instances(Selection([made.study_instance_uid]))
    ((instance, header),) = archive.headers(instances)
    assert header is not None
    content = made.path.read_bytes()
    assert (header.size, instance.size) == (len(content), len(content))
    assert header.read(0, 700) == content[:700]
    wanted = WantedValues([0x00280010, 0x00200032, 0x00204000, 0x7FE00010])
    values = wanted.read(header)
    assert values[0x00280010] == "64"
    assert values[0x00200032] == "1.0\\2.0\\3.5"
    assert values[0x00204000] == "x" * 9000


def test_what_would_look_into_too_many_studies_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcmvault.archives.finding._STUDIES_READ", 2)
    world = ArchiveWorld(tmp_path / "vault")
    made = [make_study(tmp_path / str(n), key=str(n), instances=1)[0] for n in range(4)]
    world.back_up([one.path for one in made])
    archive = world.archive()
    with pytest.raises(QueryTooBroadError):
        archive.instances(Selection((), sop_instance_uids=[made[0].sop_instance_uid]))
    with pytest.raises(QueryTooBroadError):
        list(archive.find(ArchiveQuery(QueryLevel.STUDY, {0x00200010: "9"})))
    # What is only asked for is left out beyond that, and it is said.
    query = ArchiveQuery(QueryLevel.STUDY, {0x00201208: ""})
    answers = list(world.archive().find(query))
    assert [answer.is_partial for answer in answers] == [False, False, True, True]
    assert [answer.attributes.get(0x00201208) for answer in answers] == ["1", "1", None, None]


def test_an_instance_is_found_by_its_uid_alone(tmp_path: Path) -> None:
    world = ArchiveWorld(tmp_path / "vault")
    made = make_study(tmp_path / "s", series=2, instances=2)
    world.back_up([one.path for one in made])
    archive = world.archive()
    (by_instance,) = archive.instances(Selection((), (), [made[3].sop_instance_uid]))
    assert by_instance.series_instance_uid == made[3].series_instance_uid
    by_series = archive.instances(Selection((), [made[0].series_instance_uid]))
    assert [one.sop_instance_uid for one in by_series] == [one.sop_instance_uid for one in made[:2]]


def test_studies_are_looked_into_before_somebody_asks(tmp_path: Path) -> None:
    """Cards are made in the background, and kept."""
    world = ArchiveWorld(tmp_path / "vault")
    (made,) = make_study(tmp_path / "s", instances=1)
    world.back_up([made.path])
    with world.archive() as archive:
        for _look in range(1000):
            if archive.syntaxes("1.2.840.10008.5.1.4.1.1.2"):
                break
            time.sleep(0.01)
        assert archive.syntaxes("1.2.840.10008.5.1.4.1.1.2") == ["1.2.840.10008.1.2.1"]
