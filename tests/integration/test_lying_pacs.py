"""A PACS that answers success and lies: each lie is found at the first look that can see it.

Beside each instance lied about stands an honest one, some with attributes that a PACS may write
itself: none of these is ever reported.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_GET, N_EVENT_REPORT
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StorageCommitmentPushModel,
)
from tests.integration.dimse_story import destination_at, expected, file_of, put_each
from tests.integration.flow_world import Flow
from tests.integration.test_dimse_read_back import MadeOriginals

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.model.evidence import Finding, Level
from dcmvault.model.plan import RunKind
from dcmvault.model.report import RunReport
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_instance, make_study, make_uid
from dcmvault.testing.lies import Lie
from dcmvault.testing.lying_pacs import LyingPacs

#: The lowest level that can see a lie; one that is not here needs the bytes.
SEEN_AT = {Lie.DROPS: Level.PRESENT, Lie.COUNTS: Level.COMPLETE, Lie.COMMITS: Level.COMPLETE}
COERCIONS = {"InstitutionName": "The PACS's own", "StationName": "STORE-7"}
COERCED = "(0008,0080) (0008,1010)"
#: 9 kinds of 12 lies, and as many honest instances.
LIES = 12
MANY_LIES = 112


def _studies(folder: Path, count: int) -> Path:
    """Make studies of two series with `count` instances in all, decimals in each."""
    for number in range(count):
        study, series = number // 24, number // 12
        make_instance(
            folder / f"{study:03d}" / f"{number:05d}.dcm",
            make_uid(folder, study),
            make_uid(folder, study, series),
            make_uid(folder, study, series, number),
            rows=32,
            columns=32,
            instance_number=number,
            elements={"SliceLocation": f"{number + 0.8473625:.7f}", "KVP": "119.75"},
        )
    return folder


def _campaign(folder: Path, lie: Lie, lies: int) -> tuple[RunReport, LyingPacs]:
    """Back up, asking for the level that can see the lie; return the report and the liar."""
    source = _studies(folder / "source", 2 * lies)
    level = SEEN_AT.get(lie, Level.PROVEN)
    with LyingPacs(lie, every=2, coerces=3, coercions=COERCIONS) as pacs:
        section = DimseDestinationSection(
            host="127.0.0.1", port=pacs.port, called_ae_title=pacs.ae_title, coerced=COERCED
        )
        destination = DimseDestination(section, FakeClock())
        flow = Flow(folder, FakeClock())
        flow.destinations[destination.name] = destination
        report = flow.backup(source, destination.name, level=level)
        if lie is Lie.CACHE:
            # What comes from its memory is honest: nobody could know.
            assert report.failures == ()
            report = flow.backup(source, destination.name, level=level, kind=RunKind.VERIFY)
        destination.close_idle()
    assert len(pacs.lied_about) == lies
    assert pacs.coerced
    return report, pacs


def _judge(report: RunReport, pacs: LyingPacs) -> None:
    assert {failure.sop_instance_uid for failure in report.failures} == pacs.lied_about
    assert {failure.code for failure in report.failures} <= {"missing", "damaged"}
    assert report.exit_status == 3
    assert report.counts.stored == 2 * len(pacs.lied_about) - len(pacs.lied_about)


@pytest.mark.parametrize("lie", Lie)
def test_each_lie_is_found_and_nothing_else(tmp_path: Path, lie: Lie) -> None:
    _judge(*_campaign(tmp_path, lie, LIES))


@pytest.mark.nightly
@pytest.mark.parametrize("lie", Lie)
def test_a_thousand_lies(tmp_path: Path, lie: Lie) -> None:
    _judge(*_campaign(tmp_path, lie, MANY_LIES))


def test_it_commits_what_it_lost() -> None:
    """The commitment is a whole one: the request is accepted, and the report says yes to all."""
    reported: list[tuple[int, list[str]]] = []
    heard = threading.Event()

    def report(event: evt.Event) -> tuple[int, None]:
        committed = event.event_information.ReferencedSOPSequence
        uids = [one.ReferencedSOPInstanceUID for one in committed]
        reported.append((cast(int, cast(N_EVENT_REPORT, event.request).EventTypeID), uids))
        heard.set()
        return 0x0000, None

    request = Dataset()
    request.TransactionUID = "1.2.3"
    one = Dataset()
    one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3.4"
    request.ReferencedSOPSequence = [one]
    entity = AE()
    entity.add_requested_context(StorageCommitmentPushModel)
    with LyingPacs(Lie.COMMITS) as pacs:
        association = entity.associate(
            "127.0.0.1", pacs.port, evt_handlers=[(evt.EVT_N_EVENT_REPORT, report)]
        )
        status, _answer = association.send_n_action(
            request, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1"
        )
        assert status.Status == 0x0000
        assert heard.wait(10)
        association.release()
    assert reported == [(1, ["1.2.3.4"])]


class _AbortingPacs(LyingPacs):
    """Aborts the association whenever one instance is among those asked for."""

    poison = ""

    def _get(self, event: evt.Event) -> Iterator[Any]:
        identifier = cast(C_GET, event.request).Identifier
        if identifier is not None and self.poison.encode() in identifier.getvalue():
            event.assoc.abort()
            yield 0
            return
        yield from super()._get(event)


def test_an_instance_over_which_the_peer_aborts(tmp_path: Path) -> None:
    """The others of its study are proven, and it is named."""
    made = make_study(tmp_path, instances=6)
    files = [file_of(one.path) for one in made]
    study = replace(expected(files), originals=MadeOriginals(made))
    with _AbortingPacs(Lie.DROPS, every=0) as pacs:
        destination = destination_at(pacs.port, pacs.ae_title, max_associations=1)
        put_each(destination, files)
        pacs.poison = made[4].sop_instance_uid
        found = destination.verify(study, Level.PROVEN)
        destination.close_idle()
    damaged = [version for version, what in found.findings.items() if what is Finding.DAMAGED]
    assert damaged == [5], found.reasons
    assert list(found.findings.values()).count(Finding.HELD) == 5
