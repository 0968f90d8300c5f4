"""`dcmvault support-bundle`: it helps, and no patient, secret, user or path is in it."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests.conftest import RunDcmvault

from dcmvault.testing.dicom_files import make_study

#: What must not leave: patients in data sets, secrets, and what stands in paths.
MARKERS = (
    *("Quintessential", "Zebedee", "ZQX-4711", "hunter2-secret", "s3cr3t-token", "ana.souza"),
    *("of-somebody", "kept-by-hand"),
)
CONFIGURATION = """
[sources.studies]
address = "{source}"

[destinations.copies]
address = "{copies}"

[destinations.pacs]
address = "dicom://PACS@127.0.0.1:1?calling=US"

[destinations.web]
address = "dicomweb+http://127.0.0.1:1/dicom-web"
user = "ana.souza"
password = "env:PASSWORD_OF_WEB"

[[rules]]
name = "of Quintessential"
priority = "urgent"
words = ["Quintessential"]

[plans.nightly]
sources = ["studies"]
destinations = ["copies"]

[schedules.night]
plan = "nightly"
cron = "0 2 * * *"

[notifications.hook]
channel = "webhook"
url = "https://hooks.example/s3cr3t-token"

[notifications.mail]
channel = "mail"
host = "127.0.0.1"
sender = "ana.souza@hospital.example"
security = "none"
to = ["ana.souza@hospital.example"]

[hooks.post_run]
command = ["/usr/bin/true", "s3cr3t-token"]
"""


@pytest.fixture
def bundle(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A bundle of an installation in which everything has a marker."""
    monkeypatch.setenv("PASSWORD_OF_WEB", "hunter2-secret")
    source = tmp_path / "Zebedee of-somebody"
    make_study(
        source / "Quintessential",
        key="secret",
        instances=3,
        patient_name="Quintessential^Zebedee",
        patient_id="ZQX-4711",
    )
    (home / "config.toml").write_text(
        CONFIGURATION.format(source=source, copies=tmp_path / "kept-by-hand")
    )
    (home / "config.toml").chmod(0o600)
    done = run_dcmvault("backup", "studies", "--to", "copies")
    assert done.returncode == 0, done.stderr
    with (home / "logs" / "dcmvault.log").open("a", encoding="utf-8") as log:
        # What a defect of ours could write there.
        log.write(f"2026-10-31 10:00:00,000 ERROR dcmvault.app: {source}/Quintessential/1.dcm\n")
        log.write("2026-10-31 10:00:00,000 ERROR dcmvault.app: QUINTESSENTIAL^Z has no UID\n")
        log.write("2026-10-31 10:00:00,000 ERROR dcmvault.app: refused with hunter2-secret\n")
    path = tmp_path / "support.zip"
    made = run_dcmvault("support-bundle", "--output", path, "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["path"] == str(path)
    return path


def _files(bundle: Path) -> dict[str, str]:
    with ZipFile(bundle) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_nothing_of_anybody_is_in_it(bundle: Path, run_dcmvault: RunDcmvault) -> None:
    shown = run_dcmvault("support-bundle", "--dry-run").stdout
    for name, text in {**_files(bundle), "shown": shown}.items():
        assert [marker for marker in MARKERS if marker.lower() in text.lower()] == [], name
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600


def test_what_helps_is_in_it(bundle: Path) -> None:
    files = _files(bundle)
    assert set(files) == {
        *("README.txt", "about.json", "configuration.json", "catalogue.json", "schedules.json"),
        *("doctor.json", "logs/dcmvault.log"),
    }
    about, configuration = json.loads(files["about.json"]), json.loads(files["configuration.json"])
    assert about["libraries"]["pydicom"]
    destinations = configuration["destinations"]
    assert destinations["pacs"]["address"] == "dicom://PACS@127.0.0.1:1?calling=US"
    assert destinations["web"]["address"] == "dicomweb+http://127.0.0.1:1/..."
    assert destinations["web"]["password"] == "env:***"
    assert configuration["schedules"]["night"]["cron"] == "0 2 * * *"
    assert configuration["retry"]["attempts"] == 3
    catalogue = json.loads(files["catalogue.json"])
    assert catalogue["counts"]["instances"] == 3
    assert catalogue["runs"][0]["state"] == "finished"
    assert "night" in json.loads(files["schedules.json"])
    names = [check["name"] for check in json.loads(files["doctor.json"])]
    assert "destination pacs" in names
    assert "ERROR dcmvault.app: <path>" in files["logs/dcmvault.log"]


def test_it_never_replaces_a_file(run_dcmvault: RunDcmvault, home: Path, tmp_path: Path) -> None:
    kept = tmp_path / "support.zip"
    kept.write_text("mine")
    done = run_dcmvault("support-bundle", "--output", kept)
    assert done.returncode == 2
    assert kept.read_text() == "mine"
    assert "--output" in done.stderr


def test_a_wrong_configuration_is_told_without_what_it_says(
    run_dcmvault: RunDcmvault, home: Path
) -> None:
    """A secret in the wrong place is what may be wrong with it."""
    (home / "config.toml").write_text(
        'passwort = "hunter2-secret"\n[retry]\nattempts = "Zebedee"\n'
    )
    done = run_dcmvault("support-bundle", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert '"error": "configuration"' in done.stdout
    assert "hunter2" not in done.stdout
    assert "Zebedee" not in done.stdout
