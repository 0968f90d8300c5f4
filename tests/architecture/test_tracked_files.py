"""What is in the repository works on any machine: no path or registry of a particular one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Folders of one person or machine, and hosts or folders that packages were fetched from.
PARTICULAR = re.compile(
    r"(?<![\w.:/~}-])/(?:work|root|home)/[\w.]"
    r"|/opt/(?:pypi|wheels)"
    r"|pypi\.org/simple|files\.pythonhosted\.org|registry\.npmjs\.org"
    r"|--(?:extra-)?index-url|--find-links"
)


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.fail("not a clone: this test asks git which files belong to the project")
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=ROOT,
    ).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


def test_no_tracked_file_names_a_particular_machine() -> None:
    found = []
    for path in _tracked():
        if path == Path(__file__) or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if PARTICULAR.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert not found, "\n".join(found)


def test_nothing_generated_is_tracked() -> None:
    names = [str(path.relative_to(ROOT)) for path in _tracked()]
    assert not [name for name in names if re.search(r"\.(?:pyc|mo|whl|db|sqlite)$", name)]
