"""Commands that do no work start without what work needs: asking for help costs no second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dcmvault.testing.dicom_files import make_study

#: Each takes a noticeable part of a second to import.
HEAVY = {"alembic", "dbos", "psycopg", "pydicom", "pynetdicom", "sqlalchemy"}

#: Runs the command as its entry point does, then says on stderr what was imported.
PROBE = """
import json, sys
from dcmvault.cli.main import main
status = 0
try:
    main()
except SystemExit as exit:
    status = exit.code
print(json.dumps([status, sorted({name.split(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def _run(*arguments: str) -> tuple[int, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env=os.environ.copy(),
        timeout=60,
    )
    status, imported = json.loads(done.stderr.splitlines()[-1])
    return status or 0, set(imported)


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), ("backup", "--help"), ("config", "--help"), ("config", "show")],
    ids=" ".join,
)
def test_no_engine_no_database_no_dicom_for_it(home: Path, arguments: tuple[str, ...]) -> None:
    status, imported = _run(*arguments)
    assert status == 0
    assert not HEAVY & imported
    assert "dcmvault" in imported


def test_config_init_and_check_need_none_either(home: Path) -> None:
    for arguments in (("config", "init"), ("config", "check")):
        status, imported = _run(*arguments)
        assert status == 0
        assert not HEAVY & imported


def test_a_backup_of_files_needs_no_dicom_library_and_no_codec(home: Path, tmp_path: Path) -> None:
    """What it does need (the engine, the database) is more than a second already."""
    make_study(tmp_path / "studies", key="cheap", instances=2)
    command = ("backup", str(tmp_path / "studies"), "--to", str(tmp_path / "copies"), "--json")
    for _first_and_again in range(2):
        status, imported = _run(*command)
        assert status == 0
        assert "sqlalchemy" in imported
        assert not {"alembic", "imagecodecs", "numpy", "pydicom", "requests"} & imported
