"""A run's report in brief says what the whole one says, and looks at no instance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.conftest import RunDcmvault

from dcmvault.app.run_list import RunFilter, run_row, run_rows
from dcmvault.app.wiring.workplace import open_workplace
from dcmvault.config.load import load_settings
from dcmvault.testing.dicom_files import make_study


def test_lists_and_pages_judge_runs_alike(
    home: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    make_study(tmp_path / "studies", key="brief", instances=2)
    (tmp_path / "copies").mkdir()
    (tmp_path / "studies" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    nobody = "dicom://PACS@127.0.0.1:9?calling=US"
    (home / "config.toml").write_text("[retry]\nwait_s = 0\n")
    studies, copies = str(tmp_path / "studies"), str(tmp_path / "copies")
    assert run_dcmvault("backup", studies, "--to", copies).returncode == 0
    assert run_dcmvault("backup", studies, "--to", nobody).returncode in (3, 5)
    with open_workplace(home, load_settings(home / "config.toml")) as workplace:
        rows, has_more = run_rows(workplace, 10)
        assert not has_more
        for row in rows:
            whole = run_row(workplace, row.record.run_id).report
            as_brief = replace(whole, failures=(), warned=(), studies=0, assembled_at=None)
            assert row.report == as_brief
        short, has_more = run_rows(workplace, 1, RunFilter.SHORT)
        assert [row.record.run_id for row in short] == [rows[0].record.run_id]
        assert not has_more
        assert run_rows(workplace, 1) == (rows[:1], True)
        assert run_rows(workplace, 1, RunFilter.GOING_ON) == ([], False)
