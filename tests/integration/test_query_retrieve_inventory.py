"""Archives that tell only so many studies: the inventory is complete, or says that it may not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import StartOrthanc
from tests.peer_files import send

from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.dicom import told_studies
from dcmvault.errors import SourceUnavailableError
from dcmvault.model.instance import InstanceEntry
from dcmvault.model.selection import Selection
from dcmvault.sources.query_retrieve import QueryRetrieveSource, listing, questions
from dcmvault.testing.capping_archive import ArchivedStudy, CappingArchive
from dcmvault.testing.dicom_files import make_instance, make_study, make_uid

MODALITIES = ("CT", "MR", "US", "DX", "XA", "SR")
IGNORED_DATES = [(0x0008, 0x0020)]
IGNORED_IDS = [(0x0010, 0x0020)]


def archived(count: int, **fixed: Any) -> list[ArchivedStudy]:
    """Make studies over some years, six a day, with IDs that begin alike."""
    return [
        replace(
            ArchivedStudy(
                study_instance_uid=make_uid("archived", str(fixed), number),
                study_date=f"{2000 + number // 2190}{1 + number // 180 % 12:02}"
                f"{1 + number // 6 % 28:02}",
                study_time=f"{number * 7 % 24:02}{number * 13 % 60:02}",
                modality=MODALITIES[number % len(MODALITIES)],
                patient_id=f"PAT{number * 7919 % 100_000:05}",
            ),
            **fixed,
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


def _of_patient(studies: Sequence[ArchivedStudy], patient_id: str) -> list[str]:
    return uids([study for study in studies if study.patient_id == patient_id])


@pytest.mark.parametrize("cap", [0, 100])
def test_a_selection_is_asked_for_and_nothing_else(cap: int) -> None:
    """A patient, or a range of dates, behind a cap or not: few questions find what is meant."""
    studies = archived(1000)
    one, other = studies[3].patient_id, studies[700].patient_id
    with CappingArchive(studies, cap=cap) as archive:
        source = source_at(archive)
        found = [one.study_instance_uid for one in source.matching(Selection(patients=(one,)))]
        assert found == _of_patient(studies, one)
        assert archive.asked == 1
        two = Selection(patients=(one, other))
        found = [study.study_instance_uid for study in source.matching(two)]
        assert found == sorted(_of_patient(studies, one) + _of_patient(studies, other))
        assert archive.asked == 3
        year = Selection(first_date="20000201", last_date="20000229")
        found = [study.study_instance_uid for study in source.matching(year)]
        assert found == uids([one for one in studies if one.study_date.startswith("200002")])
        assert archive.asked < 40
        both = Selection(patients=(one,), first_date="20000201", last_date="20000229")
        assert [study.study_instance_uid for study in source.matching(both)] in (found, [])


def test_what_no_question_can_say_is_not_asked() -> None:
    """A patient ID with a wild card means that ID: all are listed, and told apart by us."""
    studies = archived(30)
    with CappingArchive(studies) as archive:
        source = source_at(archive)
        wild = Selection(patients=("PAT*",))
        assert [one.study_instance_uid for one in source.matching(wild)] == uids(studies)
        by_uid = Selection(studies=(studies[4].study_instance_uid,))
        asked = archive.asked
        assert [one.study_instance_uid for one in source.matching(by_uid)] == list(by_uid.studies)
        assert archive.asked == asked


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


def test_what_is_told_of_studies_has_room_only_for_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_studies, "_MAX_BYTES", 1 << 20)
    with CappingArchive(archived(1999)) as archive:
        assert len(listed(source_at(archive))) == 1999
    with (
        CappingArchive(archived(1999, patient_id="P" * 1000)) as archive,
        pytest.raises(SourceUnavailableError, match="takes 1 MiB of memory"),
    ):
        listed(source_at(archive))


@pytest.mark.parametrize("undated", [0, 70])
def test_a_cap_below_the_one_that_is_configured(undated: int) -> None:
    dated = 100 if undated else 700
    studies = [*archived(dated), *archived(undated, study_date="")]
    with CappingArchive(studies, cap=100) as archive:
        assert listed(source_at(archive, max_answers=1000)) == uids(studies)


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


def listed_instances(source: QueryRetrieveSource) -> int:
    return sum(1 for study in source.studies() for _entry in source.entries(study))


def test_a_series_behind_a_silent_cap_where_no_number_of_instances_is_told() -> None:
    """Too few studies to find the cap by them: what lacks is asked for, and still doubted."""
    studies = [*archived(4), *archived(1, study_date="20190101")]
    long = [ArchivedStudy(make_uid("long"), series=1, instances=130)]
    with CappingArchive([*studies, *long], cap=50, tells_counts=False) as archive:
        source = source_at(archive)
        assert listed_instances(source) == 130
    assert not source.remarks().lists_all


def test_many_series_behind_a_silent_cap_are_doubted() -> None:
    study = ArchivedStudy(make_uid("wide"), series=30)
    for tells_counts in (True, False):
        with CappingArchive([study], cap=16, tells_counts=tells_counts) as archive:
            source = source_at(archive)
            assert listed_instances(source) == 16
        assert not source.remarks().lists_all


def test_round_numbers_are_believed_where_the_archive_tells_them() -> None:
    study = ArchivedStudy(make_uid("round"), series=16, instances=64)
    with CappingArchive([study]) as archive:
        source = source_at(archive)
        assert listed_instances(source) == 16 * 64
    assert source.remarks().lists_all


def test_a_round_number_is_believed_after_a_greater_one() -> None:
    studies = [
        ArchivedStudy("1.2.1", series=1, instances=77),
        ArchivedStudy("1.2.2", series=1, instances=64),
    ]
    with CappingArchive(studies, tells_counts=False) as archive:
        source = source_at(archive)
        assert listed_instances(source) == 77 + 64
    assert source.remarks().lists_all


@pytest.mark.parametrize(("series", "instances"), [(0, 0), (1, 0)])
def test_a_study_of_which_nothing_is_named_is_not_believed_empty(
    series: int, instances: int
) -> None:
    studies = [
        ArchivedStudy("1.2.1", series=1),
        ArchivedStudy("1.2.2", series=series, instances=instances),
    ]
    with CappingArchive(studies) as archive:
        source = source_at(archive)
        assert listed_instances(source) == 1
    assert not source.remarks().lists_all
    assert any("1.2.2" in warning for warning in source.remarks().warnings)


def test_a_study_has_only_so_many_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_MOST_INSTANCES", 20)
    studies = [ArchivedStudy("1.2.1", series=1, instances=30), ArchivedStudy("1.2.2", series=1)]
    with CappingArchive(studies) as archive:
        source = source_at(archive)
        assert listed_instances(source) == 2  # one stands for the study that cannot be listed
    assert any("more than 20 instances" in warning for warning in source.remarks().warnings)
    assert not source.remarks().lists_all


def test_a_study_over_which_the_archive_ends_the_association_does_not_stop_the_others() -> None:
    studies = [ArchivedStudy(f"1.2.{number}", series=1) for number in range(1, 6)]
    with CappingArchive(studies, breaks_at=["1.2.1", "1.2.2", "1.2.4", "1.2.5"]) as archive:
        source = source_at(archive)
        found = [e.locator for study in source.studies() for e in source.entries(study)]
    assert found == ["1.2.1", "1.2.2", "1.2.3/1.2.3.1/1.2.3.1.1", "1.2.4", "1.2.5"]
    assert not source.remarks().lists_all
    assert len(source.remarks().warnings) == 4


def test_an_archive_that_always_ends_the_association_is_given_up() -> None:
    studies = [ArchivedStudy(f"1.2.{number}", series=1) for number in range(1, 6)]
    with CappingArchive(studies, breaks_at=[study.study_instance_uid for study in studies]) as one:
        source = source_at(one)
        with pytest.raises(SourceUnavailableError):
            listed_instances(source)


def test_each_study_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the list takes, or whoever reads it, no study is given up for that."""
    hours = [0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + hours[0] * 3600)
    monkeypatch.setattr(questions, "time", clock)
    studies = [ArchivedStudy(f"1.2.{number}", series=1) for number in range(1, 4)]
    found: list[InstanceEntry] = []
    with CappingArchive(studies) as archive:
        source = source_at(archive)
        for study in source.studies():
            hours[0] += 13
            found += source.entries(study)
    assert [entry.locator.count("/") for entry in found] == [2, 2, 2]


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
