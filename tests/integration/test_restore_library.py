"""A library of the viewer goes into a vault and comes back as a library, or into one."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dcmvault.cli.main import run
from dcmvault.config.sections import HorosSourceSection
from dcmvault.sources.horos import HorosSource
from dcmvault.testing.horos_comparison import library_differences
from dcmvault.testing.horos_library import LibraryFacts, build_library
from dcmvault.testing.horos_user_data import UserData, add_user_data

PASSPHRASE = "a library's passphrase"


@dataclass(frozen=True, slots=True)
class Story:
    """A library, copied away before its machine was lost, and the vault that has it."""

    facts: LibraryFacts
    added: UserData
    kept: Path
    vault: Path
    #: Where the library was; nothing is there any more.
    base: Path


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    home = tmp_path_factory.mktemp("story-home")
    (home / "config.toml").write_text("[retry]\nwait_s = 0\n")
    facts = build_library(folder / "mac" / "Horos Data")
    added = add_user_data(facts)
    environment = os.environ | {"DCMVAULT_HOME": str(home), "DCMVAULT_PASSPHRASE": PASSPHRASE}

    def command(*words: str | Path) -> None:
        subprocess.run(
            [sys.executable, "-m", "dcmvault", *map(str, words)],
            env=environment,
            check=False,
            capture_output=True,
            timeout=120,
        )

    command("vault", "init", f"vault:{folder / 'vault'}")
    # The first run finds a number that was used again, the second one takes that file.
    for _run in range(2):
        command("backup", facts.base, "--to", f"vault:{folder / 'vault'}", "--include-other-files")
    kept = folder / "kept"
    shutil.copytree(folder / "mac", kept)
    shutil.rmtree(folder / "mac")
    return Story(facts, added, kept / "Horos Data", folder / "vault", facts.base)


@pytest.fixture
def restore(home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)

    def call(vault: Path, to: Path | str, *options: str, status: int = 0) -> dict[str, Any]:
        told, complaints = io.StringIO(), io.StringIO()
        words = ["restore", f"vault:{vault}", str(to), "--json", "--progress", "none", *options]
        with redirect_stdout(told), redirect_stderr(complaints):
            returned = run(words)
        summary: dict[str, Any] = json.loads(told.getvalue())
        assert (returned, summary["exit_status"]) == (status, status), summary
        return summary

    return call


def moved_paths(story: Story, new: Path) -> dict[str, str]:
    """Say where files and reports are now that the old index named by absolute paths."""
    moved = {
        locator: f"{new}/LINKED{locator}" for locator in story.facts.files if locator[0] == "/"
    }
    report = next(path for path in (new / "REPORTS").iterdir() if path.suffix == ".rtf")
    old = f"{story.base.parent.resolve()}/Horos Data dictated.rtf"
    return moved | {old: f"REPORTS/{report.name}"}


def test_library_comes_back_as_a_library(story: Story, tmp_path: Path, restore: Any) -> None:
    new = tmp_path / "New Data"
    summary = restore(story.vault, new, "--layout", "library")
    assert summary["failures"] == []
    assert "value by value" in summary["remarks"][0]
    assert "3 rows" in summary["remarks"][1]
    assert "1 file that its index names was not in the vault" in summary["remarks"][2]
    assert library_differences(story.kept, new, moved_paths(story, new)) == []
    # As a source, it is what the old one was.
    source = HorosSource(HorosSourceSection(path=new))
    entries = [entry for study in source.studies() for entry in source.entries(study)]
    files = {file.path.read_bytes() for file in source.read(entries) if hasattr(file, "path")}
    wanted = {
        Path(str(file.path).replace(str(story.base.parent), str(story.kept.parent))).read_bytes()
        for file in story.facts.files.values()
        if file.sop_instance_uid
    }
    assert files >= wanted


def test_same_command_again_changes_nothing(story: Story, tmp_path: Path, restore: Any) -> None:
    new = tmp_path / "New Data"
    first = restore(story.vault, new, "--layout", "library")
    before = {path: path.stat().st_mtime_ns for path in new.rglob("*") if path.suffix == ".dcm"}
    index = (new / "Database.sql").read_bytes()
    second = restore(story.vault, new, "--layout", "library")
    assert second["files"]["written"] == 0
    assert second["remarks"] == first["remarks"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (new / "Database.sql").read_bytes() == index


def test_library_that_the_viewer_worked_with_is_never_changed(
    story: Story, tmp_path: Path, restore: Any
) -> None:
    summary = restore(story.vault, story.kept, "--layout", "library", status=2)
    assert "stays as it is" in summary["error"]["message"]
    new = tmp_path / "New Data"
    restore(story.vault, new, "--layout", "library")
    (new / "REPORTS" / "not linked?.odt").write_bytes(b"written since")
    summary = restore(story.vault, new, "--layout", "library", status=3)
    assert (new / "REPORTS" / "not linked?.odt").read_bytes() == b"written since"
    assert {one["code"] for one in summary["failures"]} == {"object_exists", "library_incomplete"}


def test_one_damaged_byte_is_named_and_nothing_wrong_is_restored(
    story: Story, tmp_path: Path, restore: Any
) -> None:
    vault = tmp_path / "vault"
    shutil.copytree(story.vault, vault)
    for pack in [path for path in (vault / "packs").rglob("*") if path.is_file()]:
        damaged = bytearray(pack.read_bytes())
        damaged[len(damaged) // 2] ^= 0x01
        pack.write_bytes(damaged)
    # Parity makes them whole, in memory.
    new = tmp_path / "New Data"
    restore(vault, new, "--layout", "library")
    assert library_differences(story.kept, new, moved_paths(story, new)) == []
    # Without parity what is lost is named, and the rest comes back.
    shutil.rmtree(vault / "parity", ignore_errors=True)
    other = tmp_path / "Other Data"
    summary = restore(vault, other, "--layout", "library", status=3)
    assert "vault_damaged" in {one["code"] for one in summary["failures"]}
    right = {path.read_bytes() for path in story.kept.rglob("*") if path.is_file()}
    restored = [path for path in (other / "DATABASE.noindex").rglob("*") if path.is_file()]
    assert {path.read_bytes() for path in restored} <= right
    assert library_differences(story.kept, new, moved_paths(story, new)) == []
