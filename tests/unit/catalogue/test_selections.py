"""What a selection means: to whoever asks it, in a request that is written down, and in SQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcmvault.catalogue import open_catalogue, requests
from dcmvault.model.evidence import Level
from dcmvault.model.instance import InstanceHeader
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest, Strategy
from dcmvault.model.selection import EVERYTHING, Selection
from dcmvault.testing.catalogue_world import World, header, scanned

#: Study, series, Patient ID, Accession Number, Study Date.
ROWS = (
    ("1.1", "1.1.1", "P1", "A1", "20200102"),
    ("1.2", "1.2.1", "P1", "A2", "2021.03.04"),
    ("1.2", "1.2.2", "P1", "A2", "2021.03.04"),
    ("1.3", "1.3.1", "P2", "", ""),
)


def _header(study: str, series: str, patient: str, accession: str, date: str) -> InstanceHeader:
    made = header(1, 1, 1, patient_id=patient, accession_number=accession)
    return made._replace(
        study_instance_uid=study,
        series_instance_uid=series,
        sop_instance_uid=f"{series}.1",
        study=made.study._replace(study_date=date),
    )


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (EVERYTHING, [0, 1, 2, 3]),
        (Selection(studies=("1.1", "1.3")), [0, 3]),
        (Selection(series=("1.2.2",)), [2]),
        (Selection(studies=("1.1",), series=("1.2.2",)), [0, 2]),
        (Selection(patients=("P1",)), [0, 1, 2]),
        (Selection(patients=("P2", "P3")), [3]),
        (Selection(accessions=("A1",)), [0]),
        (Selection(first_date="20210000"), [1, 2]),
        (Selection(last_date="20209999"), [0]),
        (Selection(studies=("1.2",), patients=("P1",), first_date="20210304"), [1, 2]),
        (Selection(studies=("1.2",), patients=("P2",)), []),
    ],
)
def test_python_and_sql_agree(tmp_path: Path, selection: Selection, found: list[int]) -> None:
    for number, (study, series, patient, accession, date) in enumerate(ROWS):
        about = {"patient_id": patient, "accession_number": accession, "study_date": date}
        meant = selection.names(study, series) and selection.describes(about)
        assert meant == (number in found)
        # What is known already must not rule out what is meant.
        assert not (meant and selection.contradicts(about))
        assert not (meant and selection.contradicts({}))
        assert not meant or selection.may_name(study)
    catalogue = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    world = World(catalogue)
    world.scan(
        world.run(),
        [scanned(f"file-{number}", "x", _header(*row)) for number, row in enumerate(ROWS)],
    )
    due = catalogue.plans.due(
        world.source,
        world.destination,
        strategy=Strategy.FULL,
        level=Level.COMPLETE,
        run_id=None,
        selection=selection,
    )
    assert sorted(item.entry.locator for item in due) == [f"file-{number}" for number in found]
    held = catalogue.plans.held_versions(world.source, world.destination, Level.SENT, selection)
    assert held == 0
    catalogue.close()


def test_a_request_keeps_its_selection() -> None:
    chosen = Selection(("1.2",), ("1.3",), ("P",), ("A",), "20200101", "20201231")
    request = RunRequest(
        RunKind.RESTORE, "vault:/x#1234", (DestinationRequest("dicom://x", None),), selection=chosen
    )
    assert requests.from_text(requests.to_text(request)) == request
    whole = RunRequest(RunKind.BACKUP, "/x", (DestinationRequest("/y"),))
    # As earlier releases wrote it: what they left unfinished is continued.
    assert "selection" not in requests.to_text(whole)
    assert requests.from_text(requests.to_text(whole)) == whole
