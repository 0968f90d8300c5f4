"""Relational and hierarchical queries, in the Study Root and in the Patient Root model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)
from scripts import peer_processes
from scripts.peer_launch import free_port
from tests.peer_files import send

from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.digest import data_set_digest
from dcmvault.dicom.query_model import granted_queries, open_for_queries
from dcmvault.model.instance import InstanceFile
from dcmvault.sources.query_retrieve import QueryRetrieveSource
from dcmvault.testing.capping_archive import ArchivedStudy, CappingArchive
from dcmvault.testing.dicom_files import make_study, make_uid

STUDY_FIND = str(StudyRootQueryRetrieveInformationModelFind)
MODALITIES = ("CT", "MR", "US")
PATIENT_FIND = str(PatientRootQueryRetrieveInformationModelFind)


def archived(count: int, series: int, instances: int = 3) -> list[ArchivedStudy]:
    return [
        ArchivedStudy(
            make_uid("of-a-model", number),
            study_date=f"202{number % 10}0102",
            patient_id=f"P{number % 7}",
            series=series,
            instances=instances,
        )
        for number in range(count)
    ]


def section_of(archive: CappingArchive) -> DimseSourceSection:
    return DimseSourceSection(
        host="127.0.0.1", port=archive.port, called_ae_title="CAPPING", dimse_timeout_s=20
    )


def source_at(archive: CappingArchive) -> QueryRetrieveSource:
    return QueryRetrieveSource(section_of(archive))


def locators(source: QueryRetrieveSource) -> set[str]:
    """List everything; say that nothing is there twice."""
    found = [entry.locator for study in source.studies() for entry in source.entries(study)]
    assert len(set(found)) == len(found)
    return set(found)


def expected(studies: list[ArchivedStudy]) -> set[str]:
    return {
        f"{one.study_instance_uid}/{one.study_instance_uid}.{series}"
        f"/{one.study_instance_uid}.{series}.{number}"
        for one in studies
        for series in range(1, one.series + 1)
        for number in range(1, one.instances + 1)
    }


@pytest.mark.parametrize("relational", [False, True])
def test_a_study_is_listed_in_few_questions_where_they_may_be_relational(relational: bool) -> None:
    studies = archived(3, series=9)
    with CappingArchive(studies, relational=relational) as archive:
        source = source_at(archive)
        assert locators(source) == expected(studies)
        # One for all studies, then series and instances of each.
        assert archive.asked == 1 + 3 * (2 if relational else 10)
        assert archive.asked_relationally == (3 if relational else 0)
    assert source.remarks().lists_all
    assert not source.remarks().warnings


def test_what_a_relational_answer_lacks_is_asked_for_by_series() -> None:
    studies = archived(2, series=6)
    with CappingArchive(studies, relational=True, lacks_at_once=4) as archive:
        source = source_at(archive)
        assert locators(source) == expected(studies)
        # The last two series are not what was told of them; the second study is not tried so.
        assert archive.asked == 1 + (2 + 2) + (1 + 6)
    assert source.remarks().lists_all


def test_relational_answers_are_not_believed_where_nothing_is_told_of_series() -> None:
    studies = archived(2, series=3)
    with CappingArchive(studies, relational=True, tells_counts=False) as archive:
        assert locators(source_at(archive)) == expected(studies)
        assert archive.asked_relationally == 0


def test_a_cap_cuts_relational_answers_first() -> None:
    studies = archived(4, series=10, instances=20)
    with CappingArchive(studies, relational=True, cap=64) as archive:
        source = source_at(archive)
        assert locators(source) == expected(studies)
        assert archive.asked_relationally == 1
    assert source.remarks().lists_all


def test_equipment_that_ends_the_connection_over_extended_negotiation() -> None:
    studies = archived(3, series=2)
    with CappingArchive(studies, relational=True, drops_extended=True) as archive:
        assert locators(source_at(archive)) == expected(studies)
        assert archive.asked_relationally == 0


@pytest.fixture
def extended() -> Iterator[tuple[int, list[dict[str, bytes]]]]:
    """Another toolkit's service, and what it understood of our extended negotiation."""
    seen: list[dict[str, bytes]] = []

    def negotiated(event: Any) -> dict[str, bytes]:
        seen.append({str(uid): bytes(value) for uid, value in event.app_info.items()})
        return {STUDY_FIND: b"\x01\x00\x00", PATIENT_FIND: b"\x00"}

    ae = AE("CAPPING")
    ae.add_supported_context(STUDY_FIND)
    ae.add_supported_context(PATIENT_FIND)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_SOP_EXTENDED, negotiated)]
    )
    assert server is not None
    try:
        yield server.server_address[1], seen
    finally:
        server.shutdown()
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and "AcceptorThread" in thread.name:
                thread.join(10)


def test_another_toolkit_understands_what_is_negotiated(
    extended: tuple[int, list[dict[str, bytes]]],
) -> None:
    port, seen = extended
    peer = Peer("127.0.0.1", port, "CAPPING", "DCMVAULT")
    with open_for_queries(peer, relational=True) as association:
        assert seen == [{STUDY_FIND: b"\x01", PATIENT_FIND: b"\x01"}]
        assert association.contexts.relational == {STUDY_FIND}
        granted = granted_queries(association)
        assert granted is not None
        assert granted.is_relational
    with open_for_queries(peer, relational=False) as association:
        granted = granted_queries(association)
        assert granted is not None
        assert not granted.is_relational


@pytest.mark.parametrize("relational", [False, True])
def test_an_archive_that_serves_only_the_patient_root_model(relational: bool) -> None:
    """Without relational queries every question names a patient: they are listed first."""
    studies = archived(40, series=2)
    with CappingArchive(studies, models="P", relational=relational) as archive:
        source = source_at(archive)
        assert locators(source) == expected(studies)
        assert bool(archive.asked_relationally) == relational
    assert source.remarks().lists_all
    assert not source.remarks().warnings


@pytest.mark.parametrize("cap", [20, 64])
def test_patients_behind_a_silent_cap(cap: int) -> None:
    studies = [
        replace(one, patient_id=f"{'AB'[number % 2]}{number * 7919 % 1000:03}")
        for number, one in enumerate(archived(150, series=1))
    ]
    with CappingArchive(studies, models="P", cap=cap) as archive:
        source = source_at(archive)
        assert locators(source) == expected(studies)
    assert source.remarks().lists_all


def test_a_patient_with_more_studies_than_the_archive_tells_at_once() -> None:
    studies = [
        replace(one, patient_id="PÄT", study_date=f"20{number % 25:02}0{1 + number % 9}11")
        for number, one in enumerate(archived(90, series=1))
    ]
    with CappingArchive(studies, models="P", cap=32) as archive:
        assert locators(source_at(archive)) == expected(studies)


def test_an_archive_that_does_not_split_its_patients_is_doubted() -> None:
    studies = [
        replace(one, patient_id=f"A{number:03}") for number, one in enumerate(archived(30, 1))
    ]
    ignored = [(0x0010, 0x0020)]
    with CappingArchive(studies, models="P", cap=16, ignores=ignored) as archive:
        source = source_at(archive)
        list(source.studies())
    assert any("split its patients by ID" in one for one in source.remarks().warnings)


def test_without_patients_an_absence_is_not_believed_where_it_cannot_be_confirmed() -> None:
    """A question by UID alone is none that a hierarchical archive must answer."""
    studies = archived(5, series=1)
    known = [one.study_instance_uid for one in studies]
    with CappingArchive(studies, models="P") as archive:
        source = QueryRetrieveSource(section_of(archive), lambda: known)
        assert len(list(source.studies())) == 5
        assert source.remarks().lists_all
        archive.forget(known[2])
        assert len(list(source.studies())) == 4
        assert not source.remarks().lists_all


def test_by_the_modality_of_series_where_the_modalities_of_studies_are_not_matched() -> None:
    """More studies at one time than are told at once: relational queries tell them apart."""
    studies = [
        replace(
            one, modality=("CT", "MR", "US")[number % 3], patient_id="SAME", study_date="20200102"
        )
        for number, one in enumerate(archived(60, series=1))
    ]
    ignored = [(0x0008, 0x0061)]
    with CappingArchive(studies, relational=True, cap=25, ignores=ignored) as archive:
        source = source_at(archive)
        assert {one.study_instance_uid for one in source.studies()} == {
            one.study_instance_uid for one in studies
        }
    with CappingArchive(studies, cap=25, ignores=ignored) as archive:
        source = source_at(archive)
        assert len(list(source.studies())) < 60
        assert source.remarks().warnings


@pytest.mark.peers
@pytest.mark.parametrize("options", [(), ("--no-study-root",)])
@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_dcmtk_in_both_models(
    options: tuple[str, ...], retrieve: Literal["get", "move"], tmp_path: Path
) -> None:
    made = [
        one
        for key in ("one", "two")
        for one in make_study(tmp_path / "made" / key, key=key, series=2, instances=3)
    ]
    port = free_port()
    checks = ("--check-find", "--check-move", *options)
    with peer_processes.dcmqrscp(*checks, move_to={"BACKUP": port}) as peer:
        send(peer, tmp_path / "made")
        section = DimseSourceSection(
            host="127.0.0.1",
            port=peer.dicom_port,
            called_ae_title="DCMQRSCP",
            calling_ae_title="BACKUP",
            retrieve=retrieve,
            move_port=port,
            move_host="127.0.0.1",
        )
        source = QueryRetrieveSource(section)
        entries = [entry for study in source.studies() for entry in source.entries(study)]
        digests = {}
        for answer in source.read(entries):
            assert isinstance(answer, InstanceFile), answer
            digests[answer.entry.expected_sop_instance_uid] = data_set_digest(answer.path)
    assert digests == {one.sop_instance_uid: data_set_digest(one.path) for one in made}
    assert source.remarks().lists_all
