"""What an Orthanc knows beside its files, as a real one hands it out."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from scripts.peer_launch import run_again
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault, StartOrthanc
from tests.integration.story import summary_of

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.peer_sections import OrthancSourceSection
from dcmvault.model.sidecar import SidecarFile, is_sidecar_name
from dcmvault.ports.source import HasSidecar
from dcmvault.sources.orthanc import OrthancSource
from dcmvault.testing.dicom_files import make_study

pytestmark = pytest.mark.peers

REPORT = b"%PDF-1.4\0\xff report"


@pytest.fixture
def orthanc(start_orthanc: StartOrthanc, tmp_path: Path) -> Orthanc:
    """An Orthanc with two studies, metadata and attachments of a user's own."""
    peer = start_orthanc(
        UserMetadata={"Reviewer": 1024},
        UserContentType={"report": [1025, "application/pdf"]},
        StorageCompression=True,
        StableAge=1,
    )
    for number in (1, 2):
        for one in make_study(tmp_path / f"{number}", study_uid=f"1.2.3.{number}", key=f"{number}"):
            peer.store(one.path.read_bytes())
    study = peer.rest("/studies")[0]
    instance = peer.rest(f"/studies/{study}/instances")[0]["ID"]
    _put(peer, f"/studies/{study}/metadata/Reviewer", 'Dr. Õ "x"\n'.encode())
    _put(peer, f"/instances/{instance}/metadata/1030", b"seen")
    _put(peer, f"/studies/{study}/attachments/report", REPORT)
    _put(peer, f"/instances/{instance}/attachments/1031", b"")
    _put(peer, f"/patients/{peer.rest('/patients')[0]}/metadata/Reviewer", b"nobody")
    return peer


def _put(peer: Orthanc, path: str, data: bytes) -> None:
    request = urllib.request.Request(f"{peer.http_url}{path}", data=data, method="PUT")
    urllib.request.urlopen(request, timeout=30).close()


def _sidecar(peer: Orthanc, **options: Any) -> dict[str, bytes]:
    source = OrthancSource(OrthancSourceSection(url=peer.http_url, **options), SystemClock())
    assert isinstance(source, HasSidecar)
    found: dict[str, bytes] = {}
    for file in source.sidecar():
        assert isinstance(file, SidecarFile), file
        assert is_sidecar_name(file.name)
        assert file.name not in found
        found[file.name] = file.path.read_bytes()
        assert len(found[file.name]) == file.size
    return found


def test_everything_that_a_user_added_is_there(orthanc: Orthanc) -> None:
    study = orthanc.rest("/studies")[0]
    instance = orthanc.rest(f"/studies/{study}/instances")[0]["ID"]
    found = _sidecar(orthanc)
    assert {name for name in found if name.startswith("attachments/")} == {
        f"attachments/studies/{study}/report",
        f"attachments/instances/{instance}/1031",
    }
    assert found[f"attachments/studies/{study}/report"] == REPORT
    assert found[f"attachments/instances/{instance}/1031"] == b""
    described = json.loads(found[f"studies/{study}.json"])
    assert (described["format"], described["version"]) == ("dcmvault orthanc", 1)
    by_id = {row["id"]: row for row in described["resources"]}
    assert by_id[study]["metadata"]["Reviewer"] == 'Dr. Õ "x"\n'
    assert by_id[study]["attachments"] == ["report"]
    for resource, row in by_id.items():
        told = orthanc.rest(f"/{row['level']}/{resource}/metadata?expand")
        assert row["metadata"] == told
    assert {row["level"] for row in by_id.values()} == {"studies", "series", "instances"}
    patient = orthanc.rest("/patients")[0]
    (row,) = json.loads(found[f"patients/{patient}.json"])["resources"]
    assert row["metadata"]["Reviewer"] == "nobody"


def test_an_unchanged_orthanc_gives_the_same_bytes(orthanc: Orthanc) -> None:
    before = _sidecar(orthanc)
    assert list(_sidecar(orthanc)) == list(before)
    orthanc.process.send_signal(signal.SIGTERM)
    orthanc.process.wait(30)
    with run_again(orthanc):
        assert _sidecar(orthanc) == before


def test_what_is_left_out_is_configured(orthanc: Orthanc) -> None:
    assert _sidecar(orthanc, sidecar="none") == {}
    found = _sidecar(orthanc, sidecar="series")
    assert found
    assert not any("attachments/instances" in name for name in found)
    levels = {
        row["level"]
        for name, data in found.items()
        if name.endswith(".json")
        for row in json.loads(data)["resources"]
    }
    assert levels == {"patients", "studies", "series"}


def test_a_vault_keeps_it(
    orthanc: Orthanc, run_dcmvault: RunDcmvault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "correct horse battery staple")
    vault = f"vault:{tmp_path / 'vault'}"
    assert run_dcmvault("vault", "init", vault).returncode == 0
    source = f"orthanc+{orthanc.http_url}"
    assert summary_of(run_dcmvault("backup", source, "--to", vault, "--json"))["warnings"] == []
    assert run_dcmvault("restore", vault, tmp_path / "out").returncode == 0
    restored = {path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert set(_sidecar(orthanc).values()) <= restored
