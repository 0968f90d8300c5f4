"""A folder to a real Orthanc by DICOMweb, as a user runs it: figures that Orthanc confirms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault
from tests.integration.story import QUICK_RETRIES, instances, summary_of, watch_opens

from dcmvault.testing.dicom_files import make_study

pytestmark = pytest.mark.peers


@pytest.fixture
def web(orthanc: Orthanc, home: Path) -> str:
    (home / "config.toml").write_text(QUICK_RETRIES)
    return f"dicomweb+{orthanc.http_url}/dicom-web"


def test_a_backup_is_complete_and_the_next_sends_nothing(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, web: str, tmp_path: Path
) -> None:
    studies = tmp_path / "studies"
    made = [
        instance
        for key in ("one", "two")
        for instance in make_study(studies / key, key=key, series=2, instances=5)
    ]
    command = ("backup", studies, "--to", web, "--json")
    summary = summary_of(run_dcmvault(*command))
    assert (summary["level"], instances(summary)) == ("complete", {"selected": 20, "stored": 20})
    assert orthanc.statistics()["CountInstances"] == 20
    there = {orthanc.file(uid) for uid in orthanc.instances()}
    assert there == {instance.path.read_bytes() for instance in made}, "byte for byte"

    environment, log = watch_opens(tmp_path / "audit", studies)
    second = summary_of(run_dcmvault(*command, env=environment))
    assert instances(second) == {"already_held": 20}
    assert second["bytes"]["transferred"] == 0
    assert log.read_text() == ""


def test_node_echo_climbs_the_ladder(run_dcmvault: RunDcmvault, web: str) -> None:
    done = run_dcmvault("node", "echo", web, "--json")
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)["steps"]
    assert [step["name"] for step in steps] == ["resolve", "connect", "http", "qido", "stow"]
    wrong = run_dcmvault("--lang", "pt-BR", "node", "echo", f"{web}/nowhere")
    assert wrong.returncode == 5
    assert "busca (QIDO-RS)" in wrong.stdout
