"""A real Orthanc by DICOMweb to a vault and others, as a user runs it; Orthanc is the witness."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault, StartOrthanc
from tests.integration.story import QUICK_RETRIES, instances, summary_of
from tests.integration.web_peer import WebPeer, web_peer
from tests.integration.web_source_story import forwarded, retrieved, upload

from dcmvault.testing.dicom_files import make_study

pytestmark = pytest.mark.peers


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "correct horse")


@pytest.fixture
def watched(orthanc: Orthanc, home: Path) -> Iterator[WebPeer]:
    """Orthanc behind a way that writes down what is asked."""
    (home / "config.toml").write_text(QUICK_RETRIES)
    with web_peer(lambda seen: forwarded(orthanc, seen)) as peer:
        yield peer


def _fill(orthanc: Orthanc, folder: Path) -> list[bytes]:
    made = [
        instance
        for key in ("one", "two")
        for instance in make_study(folder / key, key=key, series=2, instances=5)
    ]
    for instance in made:
        upload(orthanc, instance.path)
    return [instance.path.read_bytes() for instance in made]


def _hashes(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("kind", ["vault", "folder"])
def test_second_run_fetches_nothing_and_deletions_are_kept(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, watched: WebPeer, tmp_path: Path, kind: str
) -> None:
    stored = _fill(orthanc, tmp_path / "made")
    there = {hashlib.sha256(content).hexdigest() for content in stored}
    to = f"{tmp_path / 'copies'}"
    if kind == "vault":
        to = f"vault:{to}"
        assert run_dcmvault("vault", "init", to).returncode == 0
    command = ("backup", f"dicomweb+{watched.url}", "--to", to, "--json")

    first = summary_of(run_dcmvault(*command))
    assert instances(first) == {"selected": 20, "stored": 20}
    assert len(set(retrieved(watched))) == 20

    watched.seen.clear()
    second = summary_of(run_dcmvault(*command))
    assert instances(second) == {"already_held": 20}
    assert retrieved(watched) == []

    for uid in orthanc.instances()[:3]:
        orthanc.delete(uid)
    third = run_dcmvault(*command)
    print(third.stdout, third.stderr)
    assert instances(summary_of(third)) == {"already_held": 17}
    assert retrieved(watched) == []
    if kind == "vault":
        back = tmp_path / "back"
        assert run_dcmvault("restore", to, back).returncode == 0
        assert there <= _hashes(back)
    else:
        assert there <= _hashes(tmp_path / "copies")


def test_from_one_orthanc_to_another(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, start_orthanc: StartOrthanc, tmp_path: Path
) -> None:
    """By DICOMweb and by DIMSE at once: what arrives is what was stored."""
    stored = _fill(orthanc, tmp_path / "made")
    other, third = start_orthanc(), start_orthanc()
    done = run_dcmvault(
        "backup",
        f"dicomweb+{orthanc.http_url}/dicom-web",
        "--to",
        f"dicomweb+{other.http_url}/dicom-web",
        "--to",
        third.address,
        "--json",
    )
    assert instances(summary_of(done)) == {"selected": 40, "stored": 40}
    assert {other.file(uid) for uid in other.instances()} == set(stored)
    assert third.instances() == orthanc.instances()


def test_a_service_is_not_its_own_destination(run_dcmvault: RunDcmvault) -> None:
    address = "dicomweb+http://127.0.0.1:1/dicom-web"
    done = run_dcmvault("backup", address, "--to", f"{address}/")
    assert done.returncode == 2
    assert "the same" in done.stderr


def test_a_service_that_is_not_there(run_dcmvault: RunDcmvault, tmp_path: Path) -> None:
    done = run_dcmvault("backup", "dicomweb+http://127.0.0.1:1/dicom-web", "--to", tmp_path / "to")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr


def test_the_doctor_tries_a_source_without_listing_it(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, watched: WebPeer, home: Path
) -> None:
    """One question is enough to see that it can be searched; nothing is stored or retrieved."""
    config = f'[sources.web]\naddress = "dicomweb+{watched.url}"\n'
    (home / "config.toml").write_text(config)
    done = run_dcmvault("doctor")
    assert "web" in done.stdout
    assert [seen.query for seen in watched.seen] == [{"limit": ["1"]}]
    (home / "config.toml").write_text(config.replace("/dicom-web", "/nowhere"))
    assert "404" in run_dcmvault("doctor").stdout
