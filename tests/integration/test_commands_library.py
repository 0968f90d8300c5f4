"""A library of the viewer, as a user meets it: a dry run, a backup, and what doctor says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import RunDcmvault
from tests.integration.story import QUICK_RETRIES, summary_of

from dcmvault.testing.horos_library import LibraryFacts, build_library


@pytest.fixture
def facts(tmp_path: Path, home: Path) -> LibraryFacts:
    facts = build_library(tmp_path / "Horos Data")
    (home / "config.toml").write_text(
        QUICK_RETRIES + f'[sources.viewer]\naddress = "horos:{facts.base}"\n'
    )
    return facts


def _checks(run_dcmvault: RunDcmvault, status: int) -> list[tuple[object, str]]:
    checks = summary_of(run_dcmvault("doctor", "--json"), status)["checks"]
    return [(one["ok"], one["detail"]) for one in checks if one["name"] == "source viewer"]


def test_a_library_is_foretold_backed_up_and_mended_by_the_next_run(
    run_dcmvault: RunDcmvault, facts: LibraryFacts, tmp_path: Path
) -> None:
    command = ("backup", facts.base, "--to", tmp_path / "copies", "--json")
    told = summary_of(run_dcmvault(*command, "--dry-run"))
    files = sum(bool(file.sop_instance_uid) for file in facts.files.values())
    assert told["destinations"][0]["selected"] == files
    assert (told["unreadable"], len(told["warnings"])) == (1, 2)
    first = summary_of(run_dcmvault(*command), 3)
    assert {failure["code"] for failure in first["failures"]} == {"misnamed", "vanished"}
    second = summary_of(run_dcmvault(*command), 3)
    assert {failure["code"] for failure in second["failures"]} == {"vanished"}
    copies = {path.read_bytes() for path in (tmp_path / "copies").rglob("*") if path.is_file()}
    assert copies >= {f.path.read_bytes() for f in facts.files.values() if f.sop_instance_uid}


def test_doctor_tells_what_a_library_lacks(run_dcmvault: RunDcmvault, facts: LibraryFacts) -> None:
    readable, orphans, missing = _checks(run_dcmvault, 0)
    assert readable == (True, "readable")
    assert orphans[0] is None
    assert orphans[1].startswith("2 files lie in the library that its index does not name")
    assert missing == (None, "1 files that the library's index names are not there.")
    (facts.base / "Database.sql").write_bytes(b"")
    _readable, reason, rescued = _checks(run_dcmvault, 1)
    assert (reason[0], rescued[0]) == (False, False)
    assert "Every file in DATABASE.noindex was looked at instead" in rescued[1]
