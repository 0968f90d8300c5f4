"""Behind the studies page: real copies counted, looked at closely, pictured, and acted on."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault

from dcmvault.app.backup import follow
from dcmvault.app.study_actions import (
    back_up_studies,
    hold_studies,
    prioritise_studies,
    release_studies,
    restore_request,
    verify_studies,
)
from dcmvault.app.study_detail import status_words, study_detail, study_ledger, study_timeline
from dcmvault.app.study_matrix import counting_duty, matrix_choices, studies_csv, studies_page
from dcmvault.app.study_query import parameters_of, query_of
from dcmvault.app.thumbnails import Thumbnails
from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.config.load import load_settings
from dcmvault.errors import UsageError
from dcmvault.model.evidence import Level
from dcmvault.model.job import Priority
from dcmvault.model.study_detail import TimelineKind
from dcmvault.model.study_matrix import Coverage, StudyPage, StudyQuery
from dcmvault.testing.dicom_files import make_instance

JPEG = b"\xff\xd8"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    for study, name in ((1, "=HYPERLINK^Jane"), (2, "Müller^João")):
        for n in range(3):
            make_instance(
                folder / f"{study}-{n}.dcm",
                f"2.25.{study}",
                f"2.25.{study}.1",
                f"2.25.{study}.1.{n}",
                patient_name=name,
                rows=64,
                columns=48,
                elements={"SpecificCharacterSet": "ISO_IR 192"},
            )
    return folder


@pytest.fixture
def workplace(
    tmp_path: Path,
    home: Path,
    library: Path,
    run_dcmvault: RunDcmvault,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Workplace]:
    """One study is in a vault and in a folder, the other in the vault alone."""
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "pass")
    vault = tmp_path / "vault"
    (home / "config.toml").write_text(
        f'[destinations.safe]\naddress = "vault:{vault}"\n'
        f'[destinations.disk]\naddress = "{tmp_path / "disk"}"\nlevel = "complete"\n'
    )
    done = run_dcmvault("vault", "init", "safe")
    assert done.returncode == 0, done.stderr
    second = sorted(library.glob("2-*.dcm"))
    for path in second:
        path.rename(tmp_path / path.name)
    done = run_dcmvault("backup", library, "--to", "safe", "--to", "disk")
    assert done.returncode == 0, done.stderr
    for path in second:
        (tmp_path / path.name).rename(path)
    done = run_dcmvault("backup", library, "--to", "safe")
    assert done.returncode == 0, done.stderr
    with open_workplace(home, load_settings(home / "config.toml")) as opened:
        yield opened


def _counted(workplace: Workplace, query: StudyQuery | None = None) -> StudyPage:
    now = workplace.clock.now() + timedelta(days=1)
    duty = counting_duty(workplace)
    while workplace.catalogue.matrix.page(StudyQuery()).uncounted:
        now = duty(now) + timedelta(hours=1)
    duty(now)
    return studies_page(workplace, query or StudyQuery())


def test_studies_are_counted_looked_at_and_written_down(workplace: Workplace) -> None:
    """The page, a study's drawer and the CSV file agree with what was done."""
    by_uid = {line.study_instance_uid: line for line in _counted(workplace).lines}
    assert {uid: line.state for uid, line in by_uid.items()} == {
        "2.25.1": Coverage.PROTECTED,
        "2.25.2": Coverage.PARTLY,
    }
    choices = matrix_choices(workplace)
    assert {place.name for place in choices.destinations} == {"safe", "disk"}
    query = query_of(workplace.settings, {"destination": ["disk"], "state": ["not"]})
    assert [one.study_instance_uid for one in studies_page(workplace, query).lines] == ["2.25.2"]
    again = query_of(workplace.settings, {key: [value] for key, value in parameters_of(query)})
    assert again == query
    (joao,) = studies_page(workplace, StudyQuery(text="joao MULLER")).lines
    assert joao.patient_name == "Müller^João"

    detail = study_detail(workplace, "2.25.1")
    (series,) = detail.series
    assert (series.instances, len(detail.snapshots)) == (3, 1)
    first = study_ledger(workplace, "2.25.1", limit=2)
    assert first.next is not None
    rest = study_ledger(workplace, "2.25.1", after=first.next, limit=2)
    ledger = [*first.lines, *rest.lines]
    assert [line.sop_instance_uid for line in ledger] == [f"2.25.1.1.{n}" for n in range(3)]
    assert {copy.state for line in ledger for copy in line.copies} == {"held"}
    assert study_ledger(workplace, "2.25.1", problems_only=True).lines == ()
    kinds = [event.kind for event in study_timeline(workplace, "2.25.1")]
    assert kinds.count(TimelineKind.VERIFIED) == 2
    assert kinds[-1] is TimelineKind.SEEN
    assert status_words("A700").remedy
    with pytest.raises(UsageError):
        study_detail(workplace, "2.25.9")

    plain = "".join(studies_csv(workplace, StudyQuery()))
    assert "HYPERLINK" not in plain
    named = "".join(studies_csv(workplace, StudyQuery(), patients=True))
    assert "'=HYPERLINK^Jane" in named
    assert len(named.splitlines()) == 3


def test_a_bulk_action_is_counted_first_and_then_done(workplace: Workplace) -> None:
    """What is missing is backed up, what is held is verified, and the counts follow."""
    _counted(workplace)
    partly = StudyQuery(states=(Coverage.PARTLY,))
    assert back_up_studies(workplace, partly, ["disk"], dry_run=True).started == ()
    bulk = back_up_studies(workplace, partly, ["disk"], dry_run=False)
    (request,), (started,) = bulk.requests, bulk.started
    assert request.selection.studies == ("2.25.2",)
    assert prioritise_studies(workplace, partly, Priority.LOW, dry_run=True).matched.studies == 1
    stop = threading.Event()
    report = follow(workplace, started.run_id, lambda _seen: None, stop)
    assert (report.exit_status, report.counts.stored) == (0, 3)
    assert _counted(workplace).by_state == {Coverage.PROTECTED: 2}

    joao = StudyQuery(text="joao")
    bulk = verify_studies(workplace, joao, ["safe"], Level.PROVEN, dry_run=False)
    (started,) = bulk.started
    report = follow(workplace, started.run_id, lambda _seen: None, stop)
    assert (report.exit_status, report.counts.selected) == (0, 3)
    levels = {
        line.study_instance_uid: line.copies[bulk.requests[0].destinations[0].address].level
        for line in _counted(workplace).lines
    }
    assert levels == {"2.25.1": Level.COMPLETE, "2.25.2": Level.PROVEN}

    refused = verify_studies(workplace, joao, ["disk"], Level.COMMITTED, dry_run=True)
    assert not refused.requests
    assert refused.left_out[0].studies == 1
    matched, asked = restore_request(workplace, joao, "safe", "/somewhere")
    assert (matched.studies, asked.selection.studies) == (1, ("2.25.2",))


def test_studies_are_held_and_released_by_a_query(workplace: Workplace) -> None:
    """One snapshot for all of them; the matrix knows it at once, and a reason is asked for."""
    _counted(workplace)
    everything = StudyQuery()
    with pytest.raises(UsageError):
        hold_studies(workplace, everything, "safe", " ", dry_run=True)
    assert hold_studies(workplace, everything, "safe", "case 1", dry_run=True).changed == 2
    assert studies_page(workplace, StudyQuery(held=True)).total == 0
    assert hold_studies(workplace, everything, "safe", "case 1", dry_run=False).changed == 2
    assert studies_page(workplace, StudyQuery(held=True)).total == 2
    one = StudyQuery(text="joao")
    assert release_studies(workplace, one, "safe", dry_run=False).changed == 1
    (held,) = studies_page(workplace, StudyQuery(held=True)).lines
    assert held.study_instance_uid == "2.25.1"


def test_a_series_has_a_picture_from_its_source_or_from_a_vault(
    workplace: Workplace, library: Path
) -> None:
    """It is kept for its owner alone, and made again from the vault when the original is gone."""
    pictures = Thumbnails(workplace)
    made = pictures.of_series("2.25.1", "2.25.1.1")
    assert made is not None
    assert made.startswith(JPEG)
    (kept,) = (workplace.home / "thumbnails").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "2.25" not in kept.name
    for path in library.glob("*.dcm"):
        path.unlink()
    assert pictures.of_series("2.25.1", "2.25.1.1") == made, "it was kept"
    kept.unlink()
    assert pictures.of_series("2.25.1", "2.25.1.1") == made, "the vault has the same"
    assert pictures.of_series("2.25.1", "2.25.7") is None
