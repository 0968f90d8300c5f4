"""A folder to a real Orthanc by DICOMweb, as a user runs it: figures that Orthanc confirms."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault
from tests.integration.story import QUICK_RETRIES, instances, summary_of, watch_opens
from tests.integration.web_peer import Reply, Seen, store_json, web_peer

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


def test_what_is_refused_is_named_and_the_rest_is_complete(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    """A service that stores some and refuses others: exit 3, each instance with its reason."""
    (home / "config.toml").write_text(QUICK_RETRIES)
    made = make_study(tmp_path / "study", key="partial", instances=6)
    uids = [str(pydicom.dcmread(one.path, stop_before_pixels=True).SOPInstanceUID) for one in made]
    reasons = {uids[1]: 0x0122, uids[4]: 0xA700}
    there: dict[str, None] = {}

    def answer(seen: Seen) -> Reply:
        if seen.method == "GET":
            rows = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in there]
            return Reply(200, json.dumps(rows).encode())
        (uid,) = (uid for uid in uids if uid.encode() in seen.content)
        if uid in reasons:
            return Reply(202, store_json(failed={uid: reasons[uid]}))
        there[uid] = None
        return Reply(200, store_json({uid: 0}))

    with web_peer(answer) as peer:
        to = f"dicomweb+{peer.url}"
        done = run_dcmvault("backup", tmp_path / "study", "--to", to, "--json")
        summary = summary_of(done, exit_status=3)
        assert instances(summary) == {"selected": 6, "stored": 4, "failed": 2}
        failures = {one["sop_instance_uid"]: one["status"] for one in summary["failures"]}
        assert failures == {uids[1]: "0122", uids[4]: "A700"}
        assert sum(uids[1].encode() in seen.content for seen in peer.posted()) == 1
        assert sum(uids[4].encode() in seen.content for seen in peer.posted()) == 3, "retried"
