"""A disk that is not mounted any more: nothing is lost, and nothing is stored in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import RunDcmvault
from tests.integration.story import QUICK_RETRIES, instances, summary_of

from dcmvault.testing.dicom_files import make_study


@pytest.mark.parametrize("leaves_a_mount_point", [True, False])
def test_a_backup_never_begins_anew_on_the_disk_below(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path, *, leaves_a_mount_point: bool
) -> None:
    (home / "config.toml").write_text(QUICK_RETRIES)
    source, copies = tmp_path / "source", tmp_path / "copies"
    make_study(source / "one", key="one", instances=3)
    command = ("backup", source, "--to", copies, "--json")
    summary_of(run_dcmvault(*command))
    disk = copies.rename(tmp_path / "disk")
    if leaves_a_mount_point:
        copies.mkdir()
    make_study(source / "two", key="two", instances=2)
    lost = summary_of(run_dcmvault(*command), exit_status=5)
    assert instances(lost) == {"selected": 2, "already_held": 3, "failed": 2}
    assert {failure["code"] for failure in lost["failures"]} == {"unreachable"}
    if leaves_a_mount_point:
        assert not list(copies.iterdir())
        copies.rmdir()
    assert not copies.exists()
    disk.rename(copies)
    found = summary_of(run_dcmvault(*command))
    assert instances(found) == {"selected": 2, "already_held": 3, "stored": 2}
