"""Patient data stays in the catalogue: not in logs, reports, file names or the queue."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault
from tests.integration.story import QUICK_RETRIES, summary_of

from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peers import SimulatedPacs

#: What the corpus says of its patients, in values and in its files' names.
NAMES = ("Quintessential", "Zebedee", "ZQX-4711", "Hidden diagnosis", "19700131")


def _secret_study(folder: Path) -> None:
    make_study(
        folder / "Zebedee^Quintessential",
        key="secret",
        instances=4,
        patient_name="Quintessential^Zebedee",
        patient_id="ZQX-4711",
    )
    (bad,) = make_study(
        folder / "Zebedee cut",
        key="cut",
        instances=1,
        patient_name="Quintessential^Zebedee",
        patient_id="ZQX-4711",
    )
    bad.path.write_bytes(bad.path.read_bytes()[:-40])
    (folder / "Quintessential ZQX-4711.dcm").write_bytes(b"not DICOM, but of Zebedee" * 30)


@pytest.fixture
def ran(run_dcmvault: RunDcmvault, home: Path, tmp_path: Path) -> Path:
    """A backup with failures to a PACS and a folder, a verification, and reports in all formats."""
    (home / "config.toml").write_text(QUICK_RETRIES)
    source, copies = tmp_path / "source", tmp_path / "copies"
    _secret_study(source)
    reports = tmp_path / "reports"
    reports.mkdir()
    with SimulatedPacs() as pacs:
        address = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
        summary_of(
            run_dcmvault("backup", source, "--to", address, "--to", copies, "--json"),
            exit_status=3,
        )
        pacs.lose(sorted(pacs.held())[0])
        run_dcmvault("verify", source, "--at", address, "--level", "complete")
    for run in ("latest",):
        for form in ("html", "json", "csv", "text"):
            done = run_dcmvault(
                "report", run, "--format", form, "--output", reports / f"report.{form}"
            )
            assert done.returncode == 0, done.stderr
    return tmp_path


def _texts(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                yield path, path.read_bytes()


def test_nothing_outside_the_catalogue_names_a_patient(ran: Path, home: Path) -> None:
    catalogue = {path for path in home.iterdir() if path.name.startswith("catalogue.sqlite3")}
    looked_at = 0
    for path, content in _texts(home, ran / "reports"):
        if path in catalogue:
            continue
        looked_at += 1
        assert [name for name in NAMES if name.encode() in content] == [], path
    assert looked_at >= 6, "logs, engine and reports were looked at"
    for path in (*home.rglob("*"), *(ran / "copies").rglob("*"), *(ran / "reports").iterdir()):
        assert not any(name in path.name for name in NAMES)
    for path in home.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        allowed = 0o700 if path.is_dir() else 0o600
        if path.name != "config.toml":  # made by this test
            assert mode & ~allowed == 0, (path, oct(mode))
    assert stat.S_IMODE((home / "catalogue.sqlite3").stat().st_mode) == 0o600
    for path in (ran / "reports").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.usefixtures("ran")
def test_who_asks_for_names_gets_them(run_dcmvault: RunDcmvault) -> None:
    done = run_dcmvault("report", "latest", "--format", "text", "--privacy", "full")
    assert "Quintessential" in done.stdout
