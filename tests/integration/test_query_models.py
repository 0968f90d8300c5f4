"""Relational and hierarchical queries, in the Study Root and in the Patient Root model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.query_model import granted_queries, open_for_queries
from dcmvault.sources.query_retrieve import QueryRetrieveSource
from dcmvault.testing.capping_archive import ArchivedStudy, CappingArchive
from dcmvault.testing.dicom_files import make_uid

STUDY_FIND = str(StudyRootQueryRetrieveInformationModelFind)
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


def source_at(archive: CappingArchive, max_answers: int = 0) -> QueryRetrieveSource:
    section = DimseSourceSection(
        host="127.0.0.1",
        port=archive.port,
        called_ae_title="CAPPING",
        max_answers=max_answers,
        dimse_timeout_s=20,
    )
    return QueryRetrieveSource(section)


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
