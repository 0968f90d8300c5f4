"""Archives that tell only so many studies: the inventory is complete, or says that it may not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import StartOrthanc
from tests.peer_files import send

from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.errors import SourceUnavailableError
from dcmvault.sources.query_retrieve import QueryRetrieveSource
from dcmvault.testing.capping_archive import ArchivedStudy, CappingArchive
from dcmvault.testing.dicom_files import make_instance, make_study, make_uid

MODALITIES = ("CT", "MR", "US", "DX", "XA", "SR")
IGNORED_DATES = [(0x0008, 0x0020)]
IGNORED_IDS = [(0x0010, 0x0020)]


def archived(count: int, **fixed: str) -> list[ArchivedStudy]:
    """Make studies over some years, six a day, with IDs that begin alike."""
    return [
        ArchivedStudy(
            **{
                "study_instance_uid": make_uid("archived", str(fixed), number),
                "study_date": f"{2000 + number // 2190}{1 + number // 180 % 12:02}"
                f"{1 + number // 6 % 28:02}",
                "study_time": f"{number * 7 % 24:02}{number * 13 % 60:02}",
                "modality": MODALITIES[number % len(MODALITIES)],
                "patient_id": f"PAT{number * 7919 % 100_000:05}",
                **fixed,
            }
        )
        for number in range(count)
    ]


def source_at(
    archive: CappingArchive,
    known: Callable[[], Iterable[str]] = tuple,
    max_answers: int = 0,
) -> QueryRetrieveSource:
    section = DimseSourceSection(
        host="127.0.0.1",
        port=archive.port,
        called_ae_title="CAPPING",
        max_answers=max_answers,
        dimse_timeout_s=20,
    )
    return QueryRetrieveSource(section, known)


def listed(source: QueryRetrieveSource) -> list[str]:
    return [study.study_instance_uid for study in source.studies()]


def uids(studies: Sequence[ArchivedStudy]) -> list[str]:
    return sorted(study.study_instance_uid for study in studies)


@pytest.mark.parametrize("cap_status", [0x0000, 0xA700])
def test_five_thousand_studies_behind_a_cap_of_five_hundred(
    cap_status: int, caplog: pytest.LogCaptureFixture
) -> None:
    studies = [
        *archived(3200),
        *archived(150, study_date=""),
        *archived(50, study_date="", study_time=""),
        *archived(40, study_date="2019.11.31"),
        *archived(60, study_time=""),
        *archived(900, study_date="20110304"),
        *archived(600, study_date="20120304", study_time="120000"),
    ]
    assert len(studies) == 5000
    with CappingArchive(studies, cap=500, cap_status=cap_status) as archive:
        assert listed(source_at(archive)) == uids(studies)
        assert archive.asked < 2500
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_archive_that_tells_everything_is_asked_three_times() -> None:
    studies = archived(1999)
    with CappingArchive(studies) as archive:
        assert listed(source_at(archive)) == uids(studies)
        assert archive.asked == 3


def test_a_round_number_of_dated_studies_may_hide_others() -> None:
    studies = [*archived(500), *archived(70, study_date="")]
    with CappingArchive(studies, cap=500) as archive:
        assert listed(source_at(archive)) == uids(studies)


@pytest.mark.parametrize("cap", [11, 100, 437])
def test_a_cap_that_nobody_would_guess(cap: int) -> None:
    studies = archived(1000)
    with CappingArchive(studies, cap=cap) as archive:
        assert listed(source_at(archive)) == uids(studies)


def test_a_cap_that_is_configured() -> None:
    studies = archived(700)
    with CappingArchive(studies, cap=100) as archive:
        assert listed(source_at(archive, max_answers=100)) == uids(studies)


def test_an_archive_that_wants_a_key() -> None:
    studies = archived(300)
    with CappingArchive(studies, cap=50, needs_keys=True) as archive:
        assert listed(source_at(archive)) == uids(studies)


def test_an_archive_that_ignores_dates_is_asked_by_patient() -> None:
    studies = archived(800)
    with CappingArchive(studies, cap=100, ignores=IGNORED_DATES) as archive:
        assert listed(source_at(archive)) == uids(studies)


def test_what_cannot_be_shown_to_be_complete_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Without dates and patient IDs nothing tells studies apart."""
    studies = archived(800)
    ignores = [*IGNORED_DATES, *IGNORED_IDS]
    with CappingArchive(studies, cap=100, ignores=ignores) as archive:
        source = source_at(archive)
        assert len(listed(source)) < 800
    assert any("studies that it did not name" in doubt for doubt in source.remarks().warnings)
    assert "PAT" not in caplog.text


def test_an_empty_archive() -> None:
    with CappingArchive([]) as archive:
        assert listed(source_at(archive)) == []


def test_an_archive_that_refuses_everything() -> None:
    with CappingArchive(archived(5), refuses=0xC001) as archive:
        source = source_at(archive)
        with pytest.raises(SourceUnavailableError, match="C001") as caught:
            listed(source)
    assert caught.value.hint


def test_a_study_that_no_list_names_is_asked_for_by_uid(caplog: pytest.LogCaptureFixture) -> None:
    studies = archived(60)
    known = uids(studies)
    hidden, gone = known[5], known[6]
    with CappingArchive(studies, hidden=[hidden]) as archive:
        archive.forget(gone)
        assert hidden not in listed(source_at(archive))
        assert listed(source_at(archive, lambda: known)) == [u for u in known if u != gone]
    assert "1 studies are there that its lists left out" in caplog.text


@pytest.mark.peers
def test_an_orthanc_that_limits_its_answers(
    start_orthanc: StartOrthanc, tmp_path_factory: pytest.TempPathFactory
) -> None:
    orthanc = start_orthanc(LimitFindResults=10, LimitFindInstances=10)
    wanted = fill(orthanc, tmp_path_factory)
    section = DimseSourceSection(host=orthanc.host, port=orthanc.dicom_port)
    source = QueryRetrieveSource(section)
    found = [
        entry.expected_sop_instance_uid
        for study in source.studies()
        for entry in source.entries(study)
    ]
    assert sorted(found) == wanted
    assert source.remarks().lists_all
    assert not source.remarks().warnings


def fill(orthanc: Orthanc, folders: pytest.TempPathFactory) -> list[str]:
    """Store forty studies of an instance each, and one with a series of twenty-five."""
    folder = folders.mktemp("studies")
    for number in range(40):
        uid = make_uid("limited", number)
        make_instance(
            folder / f"{number}.dcm",
            uid,
            f"{uid}.1",
            f"{uid}.1.1",
            patient_id=f"P{number % 7}-{number}",
            study_date=f"2020{1 + number % 12:02}{1 + number % 28:02}" if number % 5 else "",
        )
    make_study(folder / "long", key="long", instances=25)
    send(orthanc, folder)
    return orthanc.instances()
