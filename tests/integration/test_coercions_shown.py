"""What a PACS writes itself is proven "with coercions" wherever a user looks, and listed there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault
from tests.integration.story import instances, summary_of

from dcmvault.cli.main import run
from dcmvault.destinations import read_back
from dcmvault.testing.dicom_files import make_instance, make_study, make_uid
from dcmvault.testing.lies import Lie
from dcmvault.testing.lying_pacs import LyingPacs

OWN_NAME = "St. Nobody's Hospital"


def test_summary_status_and_report_say_so(
    tmp_path: Path, home: Path, run_dcmvault: RunDcmvault
) -> None:
    source = tmp_path / "source"
    make_study(source, series=2, instances=3)
    # Each second instance, and in two series: proofs of a study add up.
    with LyingPacs(Lie.DROPS, every=0, coerces=2, coercions={"InstitutionName": OWN_NAME}) as pacs:
        (home / "config.toml").write_text(
            f'[destinations.pacs]\naddress = "{pacs.address}"\ncoerced = "(0008,0080)"\n'
        )
        done = run_dcmvault("backup", source, "--to", "pacs", "--verify", "proven")
        assert (done.returncode, len(pacs.coerced)) == (0, 3)
        assert "  3 of them with coercions: " in done.stdout
        assert f"3 instances for {pacs.address}" in done.stdout
        assert ": proven, with coercions: (0008,0080)\n" in done.stdout
        again = run_dcmvault("verify", source, "--at", "pacs", "--level", "proven", "--json")
        summary = summary_of(again)
    assert instances(summary) == {"selected": 6, "stored": 6}
    assert {one["code"] for one in summary["warned"]} == {"coerced"}
    assert {one["sop_instance_uid"] for one in summary["warned"]} == pacs.coerced
    shown = run_dcmvault("status").stdout
    assert "(3 proven, 3 “proven, with coercions”)" in shown
    (status,) = json.loads(run_dcmvault("status", "--json").stdout)["sources"]
    assert status["destinations"][0]["coerced"] == 3
    for privacy, value in (("off", "…"), ("full", OWN_NAME)):
        (home / "config.toml").write_text(f'privacy = "{privacy}"\n')
        text = run_dcmvault("report", summary["run"], "--format", "text").stdout
        words = " ".join(text.split())
        assert "proven, with coercions" in words
        assert "(0008,0080) written by the destination in 3 instances: " in words
        assert words.count(OWN_NAME) == (privacy == "full")
        assert value in words
        page = Path(run_dcmvault("report", summary["run"], "--format", "html").stdout.strip())
        assert "proven, with coercions" in page.read_text()
        assert ("St. Nobody" in page.read_text()) == (privacy == "full")


def test_a_restore_certificate_says_so(
    tmp_path: Path, home: Path, run_dcmvault: RunDcmvault
) -> None:
    source, certificate = tmp_path / "source", tmp_path / "restored.json"
    make_study(source, series=2, instances=3)
    with LyingPacs(Lie.DROPS, every=0, coerces=2, coercions={"InstitutionName": OWN_NAME}) as pacs:
        (home / "config.toml").write_text(
            f'[destinations.pacs]\naddress = "{pacs.address}"\ncoerced = "(0008,0080)"\n'
        )
        asked = ("restore", source, "pacs", "--verify", "proven", "--certificate", certificate)
        done = run_dcmvault(*asked)
        assert done.returncode == 0, done.stderr
    certified = json.loads(certificate.read_text())
    assert (certified["level"], certified["files"]["proven"]) == ("proven", 6)
    (remark,) = certified["remarks"]
    assert "3 of them with coercions" in remark


def test_what_a_proof_does_not_list_is_counted(
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A proof's list is limited; wherever it is shown, it says how many more there are."""
    monkeypatch.setattr(read_back, "_COERCIONS", 2)
    for number in range(10):
        make_instance(
            tmp_path / "source" / f"{number}.dcm",
            make_uid("study"),
            make_uid("series"),
            make_uid("instance", number),
            elements={"InstitutionName": f"Hospital {number}"},
        )
    with LyingPacs(Lie.DROPS, every=0, coerces=2, coercions={"InstitutionName": OWN_NAME}) as pacs:
        (home / "config.toml").write_text(
            f'[destinations.pacs]\naddress = "{pacs.address}"\ncoerced = "(0008,0080)"\n'
        )
        source = str(tmp_path / "source")
        assert run(["backup", source, "--to", "pacs", "--verify", "proven", "--json"]) == 0
    name = json.loads(capsys.readouterr().out)["run"]
    assert run(["report", name, "--format", "text"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert words.count("written by the destination in 1 instance") == 2
    assert "... and 3 more that the destination wrote, which the proof does not list." in words
    assert run(["report", name, "--format", "json"]) == 0
    (study,) = json.loads(capsys.readouterr().out)["study_reports"]
    assert (len(study["coercions"]), study["coercions_left_out"]) == (2, 3)
    assert run(["report", name, "--format", "html"]) == 0
    page = Path(capsys.readouterr().out.strip()).read_text()
    assert "... and 3 more that the destination wrote, which the proof does not list." in page
