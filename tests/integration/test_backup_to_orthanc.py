"""Folder and Horos library to a real Orthanc: figures that Orthanc confirms."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault
from tests.integration.story import QUICK_RETRIES, failed_uids, instances, summary_of, watch_opens

from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.horos_library import build_library

pytestmark = pytest.mark.peers


@pytest.fixture
def pacs(orthanc: Orthanc, home: Path) -> str:
    (home / "config.toml").write_text(QUICK_RETRIES)
    return f"dicom://{orthanc.ae_title}@{orthanc.host}:{orthanc.dicom_port}?calling=DCMVAULT"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    for key in ("one", "two", "three"):
        make_study(folder / key, key=key, series=2, instances=5)
    return folder


def test_summary_equals_what_orthanc_says_of_itself(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, pacs: str, studies: Path
) -> None:
    done = run_dcmvault("backup", studies, "--to", pacs, "--verify", "complete", "--json")
    summary = summary_of(done)
    assert instances(summary) == {"selected": 30, "stored": 30}
    assert summary["level"] == "complete"
    statistics = orthanc.statistics()
    assert statistics["CountInstances"] == summary["instances"]["stored"]
    assert statistics["CountStudies"] == summary["studies"] == 3


def test_second_run_selects_nothing_and_opens_nothing(
    run_dcmvault: RunDcmvault, pacs: str, studies: Path, tmp_path: Path
) -> None:
    command = ("backup", studies, "--to", pacs, "--verify", "complete", "--json")
    environment, log = watch_opens(tmp_path / "audit", studies)
    summary_of(run_dcmvault(*command, env=environment))
    assert len(set(log.read_text().split())) == 30, "the hook sees what is opened"
    log.write_text("")
    second = summary_of(run_dcmvault(*command, env=environment))
    assert instances(second) == {"already_held": 30}
    assert log.read_text() == ""


def test_horos_library(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, pacs: str, tmp_path: Path
) -> None:
    library = tmp_path / "Horos Data"
    facts = build_library(library)
    command = ("backup", library, "--to", pacs, "--verify", "complete", "--json")
    summary = summary_of(run_dcmvault(*command), exit_status=3)
    # A row of the index whose file is missing is told, and is no instance that could be stored.
    assert orthanc.statistics()["CountInstances"] == summary["instances"]["stored"]
    # One more holds another instance than the index says: not sent by a name that is not its own.
    codes = sorted(failure["code"] for failure in summary["failures"])
    assert codes == ["misnamed"] + ["vanished"] * len(facts.missing)
    again = summary_of(run_dcmvault(*command), exit_status=3)
    assert again["instances"]["stored"] == 1
    assert set(orthanc.instances()) == {
        file.sop_instance_uid for file in facts.files.values() if file.sop_instance_uid
    }
    assert again["instances"]["unreadable"] == len(facts.missing)

    environment, log = watch_opens(tmp_path / "audit", library / "DATABASE.noindex")
    second = summary_of(run_dcmvault(*command, env=environment), exit_status=3)
    assert second["instances"]["stored"] == second["instances"]["failed"] == 0
    assert second["instances"]["already_held"] == summary["instances"]["stored"] + 1
    assert log.read_text() == ""


def test_only_what_is_new_is_sent(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, pacs: str, studies: Path
) -> None:
    command = ("backup", studies, "--to", pacs, "--json")
    summary_of(run_dcmvault(*command))
    make_study(studies / "four", key="four", instances=4)
    second = summary_of(run_dcmvault(*command))
    assert instances(second) == {"selected": 4, "already_held": 30, "stored": 4}
    assert orthanc.statistics()["CountInstances"] == 34


def test_what_the_pacs_lost_is_found_named_and_sent_again(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, pacs: str, studies: Path
) -> None:
    summary_of(run_dcmvault("backup", studies, "--to", pacs, "--json"))
    lost = sorted(orthanc.instances())[7]
    orthanc.delete(lost)
    found = summary_of(
        run_dcmvault("verify", studies, "--at", pacs, "--level", "complete", "--json"),
        exit_status=3,
    )
    assert failed_uids(found) == [lost]
    repaired = summary_of(run_dcmvault("backup", studies, "--to", pacs, "--json"))
    assert instances(repaired) == {"selected": 1, "already_held": 29, "stored": 1}
    assert lost in orthanc.instances()


def test_full_run_verifies_again_and_sends_nothing(
    run_dcmvault: RunDcmvault, pacs: str, studies: Path
) -> None:
    summary_of(run_dcmvault("backup", studies, "--to", pacs, "--json"))
    full = summary_of(run_dcmvault("backup", studies, "--to", pacs, "--strategy", "full", "--json"))
    assert instances(full) == {"selected": 30, "stored": 30}
    assert full["bytes"]["transferred"] == 0


def test_differential_takes_what_came_after_the_last_full_run(
    run_dcmvault: RunDcmvault, pacs: str, studies: Path
) -> None:
    command = ("backup", studies, "--to", pacs, "--json", "--strategy")
    summary_of(run_dcmvault(*command, "full"))
    make_study(studies / "four", key="four", instances=4)
    summary_of(run_dcmvault(*command, "incremental"))
    differential = summary_of(run_dcmvault(*command, "differential"))
    assert instances(differential) == {"selected": 4, "already_held": 30, "stored": 4}
    assert differential["bytes"]["transferred"] == 0


def test_receipts_alone_are_said_to_be_unverified(
    run_dcmvault: RunDcmvault, pacs: str, studies: Path
) -> None:
    done = run_dcmvault("backup", studies, "--to", pacs, "--verify", "sent")
    assert done.returncode == 0
    assert "verified" in done.stdout.lower()
    # A later run at a higher level raises the evidence and sends nothing.
    raised = summary_of(
        run_dcmvault("backup", studies, "--to", pacs, "--verify", "complete", "--json")
    )
    assert instances(raised) == {"selected": 30, "stored": 30}
    assert raised["bytes"]["transferred"] == 0
