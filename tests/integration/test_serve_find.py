"""DCMTK's findscu asks a vault and Orthanc for the same studies: the answers are equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from scripts import peer_processes
from scripts.peer_processes import Orthanc
from tests.integration.archive_world import ArchiveWorld
from tests.integration.serving_studies import instance_uid, make_studies, series_uid, study_uid
from tests.integration.serving_world import (
    Answering,
    EndlessArchive,
    answering,
    find,
    findscu,
)

pytestmark = pytest.mark.peers

UNIQUE = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "ReferringPhysicianName",
    "InstitutionName",
    "ModalitiesInStudy",
    "SOPClassesInStudy",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)
SERIES = (
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "SeriesDate",
    "BodyPartExamined",
    "NumberOfSeriesRelatedInstances",
)
IMAGE = (
    "SOPInstanceUID",
    "SOPClassUID",
    "InstanceNumber",
    "Rows",
    "Columns",
    "BitsAllocated",
    "ImagePositionPatient",
)
RETURNED = {
    "PATIENT": PATIENT,
    "STUDY": PATIENT + STUDY,
    "SERIES": SERIES,
    "IMAGE": IMAGE,
}


@dataclass
class Peers:
    """Both of them, with the same studies."""

    ours: Answering
    orthanc: Orthanc


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    folder = tmp_path_factory.mktemp("serve-find")
    made = make_studies(folder / "studies")
    world = ArchiveWorld(folder / "vault")
    world.back_up([one.path for one in made])
    with (
        peer_processes.orthanc(DefaultEncoding="Utf8") as orthanc,
        world.archive() as archive,
        answering(archive) as ours,
    ):
        for one in made:
            orthanc.store(one.path.read_bytes())
        yield Peers(ours, orthanc)


def _texts(answers: list[pydicom.Dataset], level: str) -> dict[str, dict[str, object]]:
    """Return the values of each answer by its unique key."""
    found = {}
    for answer in answers:
        values = {}
        for keyword in RETURNED[level]:
            element = answer.get(keyword)
            values[keyword] = _plain(element)
        found[str(answer[UNIQUE[level]].value)] = values
    assert len(found) == len(answers)
    return found


def _plain(value: object) -> object:
    if isinstance(value, pydicom.multival.MultiValue):
        return sorted(map(str, value))
    return "" if value is None else str(value).rstrip("^ ")


CASES = [
    # Universal, and all that can be returned.
    ("-P", "PATIENT", ()),
    ("-S", "STUDY", ()),
    ("-P", "PATIENT", ("PatientID=P1",)),
    ("-P", "STUDY", ("PatientID=P1",)),
    ("-P", "SERIES", ("PatientID=P1", f"StudyInstanceUID={study_uid(0, 0)}")),
    (
        "-P",
        "IMAGE",
        (
            "PatientID=P1",
            f"StudyInstanceUID={study_uid(0, 0)}",
            f"SeriesInstanceUID={series_uid(0, 0, 1)}",
        ),
    ),
    ("-S", "SERIES", (f"StudyInstanceUID={study_uid(3, 1)}",)),
    *(
        (
            "-S",
            "IMAGE",
            (
                f"StudyInstanceUID={study_uid(patient, study)}",
                f"SeriesInstanceUID={series_uid(patient, study, series)}",
            ),
        )
        # RLE, implicit, big endian, deflated.
        for patient, study, series in ((0, 1, 1), (1, 0, 1), (2, 0, 1), (3, 1, 2))
    ),
    # Names: wildcards, whatever their case.
    ("-P", "PATIENT", ("PatientName=doe*",)),
    ("-S", "STUDY", ("PatientName=DOE^J?HN*",)),
    ("-S", "STUDY", ("PatientName=*",)),
    ("-S", "STUDY", ("PatientName=Doe^Jane",)),
    ("-S", "STUDY", ("PatientName=*silva*",)),
    # Single values and wildcards of texts.
    ("-S", "STUDY", ("PatientID=P-3",)),
    ("-S", "STUDY", ("PatientID=P?",)),
    ("-S", "STUDY", ("StudyDescription=CT*",)),
    ("-S", "STUDY", ("StudyDescription=*A*",)),
    ("-S", "STUDY", ("AccessionNumber=A4",)),
    ("-S", "STUDY", ("StudyID=S1",)),
    ("-S", "STUDY", ("ReferringPhysicianName=ref*",)),
    # Ranges of dates and times.
    ("-S", "STUDY", ("StudyDate=20200102",)),
    ("-S", "STUDY", ("StudyDate=20200101-20210101",)),
    ("-S", "STUDY", ("StudyDate=20200102-",)),
    ("-S", "STUDY", ("StudyTime=100000-130000",)),
    ("-S", "STUDY", ("StudyDate=20190101-20220101", "PatientName=d*")),
    # Lists of UIDs, and what matches nothing.
    ("-S", "STUDY", (f"StudyInstanceUID={study_uid(0, 0)}\\{study_uid(2, 0)}\\1.2.3",)),
    ("-S", "STUDY", ("StudyInstanceUID=1.2.3",)),
    ("-S", "STUDY", ("PatientID=p1",)),
    # Modalities.
    ("-S", "STUDY", ("ModalitiesInStudy=SR",)),
    ("-S", "STUDY", ("ModalitiesInStudy=CT\\MR",)),
    ("-S", "SERIES", (f"StudyInstanceUID={study_uid(0, 0)}", "Modality=CT")),
    ("-S", "SERIES", (f"StudyInstanceUID={study_uid(3, 0)}", "SeriesNumber=2")),
    (
        "-S",
        "IMAGE",
        (
            f"StudyInstanceUID={study_uid(0, 0)}",
            f"SeriesInstanceUID={series_uid(0, 0, 1)}",
            "InstanceNumber=2",
        ),
    ),
    (
        "-S",
        "IMAGE",
        (
            f"StudyInstanceUID={study_uid(0, 0)}",
            f"SeriesInstanceUID={series_uid(0, 0, 1)}",
            f"SOPInstanceUID={instance_uid(0, 0, 1, 1)}\\{instance_uid(0, 0, 1, 3)}",
        ),
    ),
]


@pytest.mark.parametrize(("model", "level", "keys"), CASES)
def test_a_vault_answers_as_orthanc_does(
    peers: Peers, tmp_path: Path, model: str, level: str, keys: tuple[str, ...]
) -> None:
    named = {key.partition("=")[0] for key in keys}
    asked = [*keys, *(keyword for keyword in RETURNED[level] if keyword not in named)]
    ours = findscu(peers.ours.port, tmp_path / "ours", level, asked, model)
    theirs = findscu(
        peers.orthanc.dicom_port, tmp_path / "theirs", level, asked, model, called="ORTHANC"
    )
    assert _texts(ours, level) == _texts(theirs, level)


def test_a_study_without_a_date_is_in_no_range(peers: Peers, tmp_path: Path) -> None:
    """PS3.4 section C.2.2.2.5: a range matches occurrences; Orthanc takes none for an early one."""
    asked = ("StudyDate=-20200102", "StudyInstanceUID")
    ours = findscu(peers.ours.port, tmp_path / "ours", "STUDY", asked, "-S")
    theirs = findscu(
        peers.orthanc.dicom_port, tmp_path / "theirs", "STUDY", asked, "-S", called="ORTHANC"
    )
    found, more = ({one.StudyInstanceUID for one in answers} for answers in (ours, theirs))
    assert found == more - {study_uid(3, 1)}
    assert len(found) == 4


def _tags(answer: pydicom.Dataset) -> set[int]:
    return {int(element.tag) for element in answer}


def test_every_key_that_was_asked_for_is_answered(peers: Peers, tmp_path: Path) -> None:
    asked = ("PatientName=Doe^Jane", "StudyInstanceUID", "PatientWeight", "Rows", "0029,1010")
    for answer in findscu(peers.ours.port, tmp_path, "STUDY", asked, "-S"):
        keywords = ("PatientName", "StudyInstanceUID", "PatientWeight", "Rows")
        assert _tags(answer) >= {tag_for_keyword(one) for one in keywords} | {0x00291010}
        assert answer.RetrieveAETitle == "DCMVAULT"


@pytest.mark.parametrize(
    ("model", "level", "keys"),
    [
        ("-S", "PATIENT", ("PatientID",)),
        ("-S", "IMAGES", ("SOPInstanceUID",)),
        ("-S", "SERIES", ("SeriesInstanceUID",)),
        ("-P", "STUDY", ("PatientID=P*", "StudyInstanceUID")),
        ("-S", "IMAGE", (f"StudyInstanceUID={study_uid(0, 0)}", "SOPInstanceUID")),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    peers: Peers, tmp_path: Path, model: str, level: str, keys: tuple[str, ...]
) -> None:
    """Status A900: no such level in the model, or no single unique key of a level above."""
    assert findscu(peers.ours.port, tmp_path, level, keys, model) == []
    assert peers.ours.journal.accesses[-1].outcome == "A900"


@pytest.mark.parametrize(
    ("character_set", "name", "answered"),
    [
        ("ISO_IR 100", "Müller*", "ISO_IR 100"),
        ("ISO_IR 192", "MÜLLER*", "ISO_IR 192"),
        ("", "muller*", "ISO_IR 192"),
        # A repertoire that has no such letter.
        ("ISO_IR 144", "muller*", "ISO_IR 192"),
    ],
)
def test_text_is_taken_and_given_in_the_character_set_that_is_said(
    peers: Peers, character_set: str, name: str, answered: str
) -> None:
    (answer,) = find(peers.ours.port, "STUDY", SpecificCharacterSet=character_set, PatientName=name)
    assert answer.SpecificCharacterSet == answered
    assert str(answer.PatientName) == "Müller^Jörg"


def test_relational_queries_are_answered_where_they_were_agreed_on(peers: Peers) -> None:
    port = peers.ours.port
    assert find(port, "SERIES", Modality="US", SeriesInstanceUID="", PatientName="") == []
    answers = find(
        port, "SERIES", relational=True, Modality="US", SeriesInstanceUID="", PatientName=""
    )
    assert {one.SeriesInstanceUID for one in answers} == {series_uid(3, 0, 1), series_uid(3, 0, 2)}
    assert {str(one.PatientName) for one in answers} == {"Silva^José"}


def test_attributes_of_levels_below_are_not_looked_at(peers: Peers) -> None:
    """Status FF01: matches, but an optional key was not supported."""
    statuses: list[int] = []
    answers = find(peers.ours.port, "STUDY", statuses, ImageType="7", PatientID="P1")
    assert [answer.ImageType for answer in answers] == ["", ""]
    assert statuses == [0xFF01, 0xFF01, 0x0000]
    statuses.clear()
    assert len(find(peers.ours.port, "STUDY", statuses, StudyID="", PatientID="P1")) == 2
    assert statuses == [0xFF00, 0xFF00, 0x0000]


def test_a_query_can_be_cancelled() -> None:
    with answering(EndlessArchive()) as ours:
        statuses: list[int] = []
        assert len(find(ours.port, "STUDY", statuses, cancel_after=3)) >= 3
        assert statuses[-1] == 0xFE00
    (access,) = ours.journal.accesses
    assert access.outcome == "FE00"


def test_queries_are_noted_without_values(peers: Peers, tmp_path: Path) -> None:
    asked = ("PatientName=Doe*", f"StudyInstanceUID={study_uid(0, 0)}")
    findscu(peers.ours.port, tmp_path, "STUDY", asked, "-S", "-aet", "READER")
    access = peers.ours.journal.accesses[-1]
    assert (access.service, access.who, access.outcome) == ("C-FIND", "READER", "0000")
    assert (access.keys, access.answers) == (("PatientName", "StudyInstanceUID"), 1)
    assert access.study_instance_uids == (study_uid(0, 0),)
    assert "Doe" not in repr(access)
