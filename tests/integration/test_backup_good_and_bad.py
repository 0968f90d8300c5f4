"""Good files next to bad ones, sources that vanish, and copies that are proven by `sha256sum`."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault
from tests.integration.story import QUICK_RETRIES, instances, summary_of

from dcmvault.testing.dicom_files import make_study


@pytest.fixture
def mixed(tmp_path: Path, home: Path) -> Path:
    """20 good files and 4 bad ones in one folder, and a text file that is none of ours."""
    (home / "config.toml").write_text(QUICK_RETRIES)
    folder = tmp_path / "mixed"
    good = make_study(folder, key="mixed", instances=20)
    content = good[0].path.read_bytes()
    (folder / "empty.dcm").touch()
    (folder / "garbage.dcm").write_bytes(b"no DICOM at all" * 40)
    # Other UIDs than the good ones, so that only the cut makes it bad.
    (truncated,) = make_study(folder / "cut", key="truncated", instances=1)
    truncated.path.write_bytes(truncated.path.read_bytes()[:-100])
    (folder / "header-only.dcm").write_bytes(content[:140])
    (folder / "notes.txt").write_text("call back on Monday")
    return folder


def _bad(folder: Path) -> set[str]:
    return {"empty.dcm", "garbage.dcm", "header-only.dcm", "i0001.dcm"}


@pytest.mark.peers
def test_pacs_gets_the_good_ones_and_the_bad_ones_are_listed(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, mixed: Path
) -> None:
    pacs = f"dicom://{orthanc.ae_title}@{orthanc.host}:{orthanc.dicom_port}"
    summary = summary_of(run_dcmvault("backup", mixed, "--to", pacs, "--json"), exit_status=3)
    assert instances(summary) == {"selected": 24, "stored": 20, "failed": 4}
    assert orthanc.statistics()["CountInstances"] == 20
    assert {Path(failure["locator"]).name for failure in summary["failures"]} == _bad(mixed)
    assert all(failure["message"] for failure in summary["failures"])
    assert summary["not_dicom"] == 1


def test_folder_gets_all_byte_for_byte_and_warns(
    run_dcmvault: RunDcmvault, mixed: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    done = run_dcmvault("backup", mixed, "--to", copies, "--json")
    summary = summary_of(done)
    assert instances(summary) == {"selected": 24, "stored": 24}
    assert summary["level"] == "proven"
    expected = {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in mixed.rglob("*")
        if path.is_file() and path.suffix != ".txt"
    }
    kept = {
        path.stem: path
        for path in copies.rglob("*")
        if path.is_file() and path.suffix in {".dcm", ".bin"}
    }
    assert set(kept) == expected
    assert all(hashlib.sha256(p.read_bytes()).hexdigest() == name for name, p in kept.items())
    warned = {Path(warning["locator"]).name for warning in summary["warned"]}
    assert warned == _bad(mixed)


def test_sha256sum_accepts_the_manifests(
    run_dcmvault: RunDcmvault, mixed: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    summary_of(run_dcmvault("backup", mixed, "--to", copies, "--json"))
    manifests = sorted(str(p.relative_to(copies)) for p in (copies / "manifests").iterdir())
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", *manifests],
        cwd=copies,
        check=False,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    lines = sum(len((copies / name).read_text().splitlines()) for name in manifests)
    assert lines == 24


def test_a_flipped_bit_in_a_copy_is_found_and_mended(
    run_dcmvault: RunDcmvault, mixed: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    summary_of(run_dcmvault("backup", mixed, "--to", copies, "--json"))
    victim = sorted(copies.glob("studies/*/*.dcm"))[3]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.chmod(0o600)
    victim.write_bytes(content)
    verify = ("verify", mixed, "--at", copies, "--level", "proven", "--json")
    found = summary_of(run_dcmvault(*verify), exit_status=3)
    assert instances(found) == {"selected": 24, "stored": 23, "failed": 1}
    assert "SHA-256" in found["failures"][0]["message"]


@pytest.mark.parametrize("way", ["emptied", "unmounted"])
def test_a_source_that_shows_nothing_any_more_is_an_error(
    run_dcmvault: RunDcmvault, mixed: Path, tmp_path: Path, way: str
) -> None:
    copies = tmp_path / "copies"
    command = ("backup", mixed, "--to", copies, "--json")
    summary_of(run_dcmvault(*command))
    away = mixed.rename(tmp_path / "away")
    if way == "emptied":
        mixed.mkdir()
    gone = summary_of(run_dcmvault(*command), exit_status=1)
    assert "24" in gone["error"]["message"] if way == "emptied" else gone["error"]["message"]
    if way == "emptied":
        mixed.rmdir()
    away.rename(mixed)
    again = summary_of(run_dcmvault(*command))
    assert instances(again) == {"already_held": 24}
