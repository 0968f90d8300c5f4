"""Verifying again: the oldest evidence first, whole studies, and what is owed is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import RunDcmvault
from tests.integration.story import summary_of

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.destinations import build_destination, default_level
from dcmvault.config.addresses import destination_section
from dcmvault.testing.dicom_files import make_study

STUDIES, INSTANCES = 4, 2


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    for number in range(STUDIES):
        make_study(folder / str(number), key=f"age{number}", instances=INSTANCES)
    return folder


def _coverage(run_dcmvault: RunDcmvault) -> dict[str, Any]:
    done = run_dcmvault("status", "--json")
    assert done.returncode == 0, done.stderr
    (source,) = json.loads(done.stdout)["sources"]
    (there,) = source["destinations"]
    assert isinstance(there, dict)
    return there


def test_samples_come_to_every_study(
    tmp_path: Path, home: Path, library: Path, run_dcmvault: RunDcmvault
) -> None:
    """Two halves are the whole; what is not proven yet is debt, and each half pays its part."""
    copies = tmp_path / "copies"
    (home / "config.toml").write_text(
        f'[destinations.disk]\naddress = "{copies}"\nlevel = "proven"\n'
        'reverify_after = "30d"\nreverify_share = "25%"\n'
    )
    done = run_dcmvault("backup", library, "--to", "disk", "--verify", "complete", "--json")
    assert done.returncode == 0, done.stderr
    there = _coverage(run_dcmvault)
    assert there["facts"].keys() == {"complete"}
    owed = there["verification_debt"]
    assert (owed["studies"], owed["instances"]) == (STUDIES, STUDIES * INSTANCES)
    assert owed["level"] == "proven"
    assert owed["bytes"] == sum(path.stat().st_size for path in library.rglob("*.dcm"))
    text = run_dcmvault("status").stdout
    assert "verification debt: 4 studies, 8 instances" in text
    assert "not “proven” in the last 30 days" in text

    young = run_dcmvault(
        "verify", library, "--at", "disk", "--level", "complete", "--older-than", "1d"
    )
    assert "Nothing was due for verification" in young.stdout
    for studies, how in ((2, ("--sample", "50%")), (1, ("--due",)), (1, ("--sample", "1"))):
        done = run_dcmvault("verify", library, "--at", "disk", *how, "--json")
        summary = summary_of(done)
        assert (summary["studies"], summary["instances"]["stored"]) == (studies, 2 * studies)
    there = _coverage(run_dcmvault)
    assert there["verification_debt"]["studies"] == 0
    assert there["facts"]["proven"]["instances"] == STUDIES * INSTANCES
    assert there["by_level"] == {"proven": STUDIES * INSTANCES}
    done = run_dcmvault("verify", library, "--at", "disk", "--older-than", "1h", "--json")
    assert summary_of(done)["instances"]["selected"] == 0


def test_a_later_weaker_fact_leaves_the_stronger_one_as_old_as_it_is(
    tmp_path: Path, library: Path, run_dcmvault: RunDcmvault
) -> None:
    copies = tmp_path / "copies"
    assert run_dcmvault("backup", library, "--to", copies).returncode == 0
    before = _coverage(run_dcmvault)["facts"]
    assert before.keys() == {"proven"}
    done = run_dcmvault("verify", library, "--at", copies, "--level", "complete", "--json")
    assert done.returncode == 0, done.stderr
    after = _coverage(run_dcmvault)
    assert after["facts"]["proven"] == before["proven"]
    assert after["facts"]["complete"]["oldest_at"] > before["proven"]["newest_at"]
    assert after["by_level"] == {"proven": STUDIES * INSTANCES}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sample", "0%"), "Write a share such as “5%”"),
        (("--sample", "a few"), "Write a share such as “5%”"),
        (("--older-than", "30"), "Write an age such as “30d”"),
        (("--due",), "does not say when"),
        (("--due", "--sample", "5%"), "Write --due, or"),
    ],
)
def test_bad_samples_are_usage_errors(
    tmp_path: Path, library: Path, run_dcmvault: RunDcmvault, arguments: tuple[str], words: str
) -> None:
    done = run_dcmvault("verify", library, "--at", tmp_path / "copies", *arguments)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr


@pytest.mark.parametrize(
    "address",
    ["/copies", "vault:/vault", "vault:s3://bucket/x", "dicom://A@h:1", "dicomweb+https://h/r"],
)
def test_the_default_level_is_the_adapter_s(address: str) -> None:
    section = destination_section(address)
    assert build_destination(section, SystemClock()).default_level is default_level(section)


def test_a_level_that_cannot_be_given_is_a_usage_error(
    tmp_path: Path, library: Path, run_dcmvault: RunDcmvault
) -> None:
    for address in (tmp_path / "copies", f"vault:{tmp_path / 'vault'}", "dicomweb+http://[::1]:1/"):
        done = run_dcmvault("backup", library, "--to", address, "--verify", "committed")
        assert done.returncode == 2
        assert "cannot give evidence of the level “committed”" in done.stderr
        assert "It can give: sent, present, complete" in done.stderr
