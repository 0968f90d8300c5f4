"""Plans over several sources: what two have in common is one instance, or a conflict."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pydicom
import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault
from tests.integration.story import QUICK_RETRIES, instances, summary_of

from dcmvault.dicom.digest import data_set_digest
from dcmvault.testing.dicom_files import MadeInstance, make_study


@pytest.fixture
def made(tmp_path: Path, home: Path) -> list[MadeInstance]:
    (home / "config.toml").write_text(QUICK_RETRIES)
    return list(make_study(tmp_path / "library", key="a", instances=3))


@pytest.fixture
def written_anew(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, made: list[MadeInstance], tmp_path: Path
) -> Path:
    """The same instances as Orthanc gives them back, and one that only this folder has."""
    folder = tmp_path / "export"
    make_study(folder, key="b", instances=1)
    elsewhere = {"DCMVAULT_HOME": str(tmp_path / "other-home")}
    sent = run_dcmvault("backup", tmp_path / "library", "--to", _address(orthanc), env=elsewhere)
    assert sent.returncode == 0
    for number, one in enumerate(made):
        copy = folder / f"IM{number}"
        copy.write_bytes(orthanc.file(one.sop_instance_uid))
        assert copy.read_bytes() != one.path.read_bytes()
        assert data_set_digest(copy) == data_set_digest(one.path)
    orthanc.wipe()
    return folder


def _address(orthanc: Orthanc) -> str:
    return f"dicom://{orthanc.ae_title}@{orthanc.host}:{orthanc.dicom_port}"


def _hashes(folder: Path) -> set[str]:
    return {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_equal_files_in_two_sources_are_delivered_once(
    run_dcmvault: RunDcmvault, made: list[MadeInstance], tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "library", tmp_path / "twin")
    extra = make_study(tmp_path / "twin" / "more", key="b", instances=2)
    done = run_dcmvault(
        "backup", tmp_path / "library", tmp_path / "twin", "--to", tmp_path / "copies", "--json"
    )
    together = summary_of(done)
    assert [instances(run) for run in together["runs"]] == [
        {"selected": len(made), "stored": len(made)},
        {"selected": len(extra), "already_held": len(made), "stored": len(extra)},
    ]
    assert instances(together)["stored"] == len(made) + len(extra)


@pytest.mark.peers
def test_what_a_pacs_wrote_anew_is_one_instance_to_a_pacs(
    run_dcmvault: RunDcmvault,
    orthanc: Orthanc,
    made: list[MadeInstance],
    written_anew: Path,
    tmp_path: Path,
    home: Path,
) -> None:
    """The folder gets the bytes of both; later runs, status and verify agree with it."""
    copies = tmp_path / "copies"
    (home / "config.toml").write_text(
        f"""{QUICK_RETRIES}
        [sources.library]
        address = "{tmp_path / "library"}"
        [sources.export]
        address = "{written_anew}"
        [destinations.pacs]
        address = "{_address(orthanc)}"
        [plans.all]
        sources = ["library", "export"]
        destinations = ["{copies}", "pacs"]
        """
    )
    together = summary_of(run_dcmvault("run", "all", "--json"))
    first, second = together["runs"]
    assert instances(first) == {"selected": 6, "stored": 6}
    assert instances(second) == {"selected": 5, "already_held": 3, "stored": 5}
    assert _hashes(tmp_path / "library") | _hashes(written_anew) <= _hashes(copies)
    assert len(orthanc.instances()) == 4

    again = summary_of(run_dcmvault("run", "all", "--json"))
    assert instances(again) == {"already_held": 14}
    told = json.loads(run_dcmvault("status", "--json").stdout)
    for source in told["sources"]:
        for coverage in source["destinations"]:
            assert coverage["instances_held"] == coverage["instances"], coverage
    verified = summary_of(
        run_dcmvault("verify", "export", "--at", copies, "--level", "proven", "--json")
    )
    assert instances(verified) == {"selected": 4, "stored": 4}


@pytest.mark.peers
def test_two_encodings_in_one_source_are_one_instance(
    run_dcmvault: RunDcmvault,
    orthanc: Orthanc,
    made: list[MadeInstance],
    written_anew: Path,
    tmp_path: Path,
) -> None:
    for copy in written_anew.glob("IM*"):
        shutil.copy(copy, tmp_path / "library" / copy.name)
    summary = summary_of(
        run_dcmvault("backup", tmp_path / "library", "--to", _address(orthanc), "--json")
    )
    assert instances(summary) == {"selected": 3, "stored": 3}
    assert len(orthanc.instances()) == len(made)


@pytest.mark.peers
def test_other_content_under_one_uid_is_a_conflict_and_both_are_kept(
    run_dcmvault: RunDcmvault,
    orthanc: Orthanc,
    made: list[MadeInstance],
    written_anew: Path,
    tmp_path: Path,
) -> None:
    altered = written_anew / "IM0"
    dataset = pydicom.dcmread(altered)
    dataset.StudyDescription = "Other"
    dataset.save_as(altered)
    library, copies = tmp_path / "library", tmp_path / "copies"
    done = run_dcmvault(
        "backup", library, written_anew, "--to", copies, "--to", _address(orthanc), "--json"
    )
    together = summary_of(done, exit_status=3)
    assert [run["exit_status"] for run in together["runs"]] == [0, 3]
    second = together["runs"][1]
    assert second["instances"]["conflicts"] == 1
    (conflict,) = second["failures"]
    assert conflict["code"] == "conflict"
    kept = _hashes(copies)
    for path in (altered, made[0].path):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in kept


@pytest.mark.parametrize("where", ["preamble", "end"])
@pytest.mark.peers
def test_bytes_beside_the_data_set_are_never_lost(
    run_dcmvault: RunDcmvault,
    orthanc: Orthanc,
    made: list[MadeInstance],
    written_anew: Path,
    tmp_path: Path,
    where: str,
) -> None:
    """The canonical digest leaves them out; so whoever has some differs from what a PACS has."""
    odd = written_anew / "IM0"
    content = odd.read_bytes()
    odd.write_bytes(b"II*\0" + content[4:] if where == "preamble" else content + b"\0" * 3)
    copies = tmp_path / "copies"
    done = run_dcmvault(
        "backup",
        tmp_path / "library",
        written_anew,
        "--to",
        copies,
        "--to",
        _address(orthanc),
        "--json",
    )
    second = instances(summary_of(done, exit_status=3)["runs"][1])
    assert (second["stored"], second["conflicts"]) == (4 + 1, 1)
    kept = _hashes(copies)
    for path in (odd, made[0].path):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in kept


def test_a_source_that_is_not_there_does_not_keep_the_others_from_being_backed_up(
    run_dcmvault: RunDcmvault, made: list[MadeInstance], tmp_path: Path
) -> None:
    done = run_dcmvault(
        "backup", tmp_path / "nothing", tmp_path / "library", "--to", tmp_path / "copies", "--json"
    )
    together = summary_of(done, exit_status=1)
    assert [run["exit_status"] for run in together["runs"]] == [1, 0]
    assert instances(together)["stored"] == len(made)


def test_a_source_named_twice_and_an_unknown_plan_are_usage_errors(
    run_dcmvault: RunDcmvault, made: list[MadeInstance], tmp_path: Path
) -> None:
    library = tmp_path / "library"
    twice = run_dcmvault("backup", library, f"{library}/", "--to", tmp_path / "copies", "--json")
    assert summary_of(twice, exit_status=2)["error"]["code"] == "usage"
    assert made
    unknown = run_dcmvault("run", "nightly", "--json")
    assert "plan" in summary_of(unknown, exit_status=2)["error"]["message"]
