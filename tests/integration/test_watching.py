"""Watching real folders and libraries: what changes is backed up, and a signal ends it cleanly."""

from __future__ import annotations

import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.story import QUICK_RETRIES, summary_of

from dcmvault.sources.events import FolderEvents
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.horos_library import add_study, build_library

#: Until something is seen, seconds; never reached unless it is broken.
_PATIENCE_S = 60
_PASSPHRASE = {"DCMVAULT_PASSPHRASE": "one two three"}
_QUICK = ("--watch", "--settle", "0.5", "--progress", "none")


class _Watching:
    """A `dcmvault ... --watch` whose words are read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, words: str) -> str:
        """Return the next line that contains these words."""
        seen: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=_PATIENCE_S)
            except queue.Empty:
                raise AssertionError(seen) from None
            seen.append(line)
            if words in line:
                return line

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(_PATIENCE_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)


@pytest.fixture
def watch(start_dcmvault: StartDcmvault, home: Path) -> Callable[..., _Watching]:
    (home / "config.toml").write_text(QUICK_RETRIES)
    return lambda *arguments: _Watching(start_dcmvault(*arguments))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_added_to_a_folder_is_backed_up(
    watch: Callable[..., _Watching],
    run_dcmvault: RunDcmvault,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    studies, copies = tmp_path / "studies", tmp_path / "copies"
    make_study(studies / "a", key="a", instances=2)
    watching = watch("backup", studies, "--to", copies, *_QUICK)
    watching.wait_for("2 instances are proven")
    make_study(tmp_path / "b", key="b", instances=3)
    shutil.copytree(tmp_path / "b", studies / "deep" / "b")
    watching.wait_for("5 instances are proven")
    (studies / "deep" / "b").rename(studies / "deep" / "c")
    watching.wait_for("nothing was left to do")
    assert watching.end(number) == 0
    again = summary_of(run_dcmvault("backup", studies, "--to", copies, "--json"))
    assert again["instances"]["selected"] == 0


def test_a_study_that_a_viewer_imports_is_backed_up(
    watch: Callable[..., _Watching], tmp_path: Path
) -> None:
    facts = build_library(tmp_path / "Horos Data")
    watching = watch("backup", facts.base, "--to", tmp_path / "copies", *_QUICK)
    watching.wait_for("What failed")
    add_study(facts, "imported-later", instances=2)
    assert " stored, " in watching.wait_for("held from before")
    # A library of this kind has damaged files, and says so until it is stopped.
    assert watching.end(signal.SIGTERM) == 3


def test_what_nobody_announces_is_found_at_the_interval(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, tmp_path: Path
) -> None:
    """A vault as a source announces nothing."""
    studies, vault = tmp_path / "studies", f"vault:{tmp_path / 'vault'}"
    make_study(studies / "a", key="a", instances=2)
    assert run_dcmvault("vault", "init", vault, env=_PASSPHRASE).returncode == 0
    summary_of(run_dcmvault("backup", studies, "--to", vault, "--json", env=_PASSPHRASE))
    elsewhere = {**_PASSPHRASE, "DCMVAULT_HOME": str(tmp_path / "other-home")}
    watching = _Watching(
        start_dcmvault(
            "backup", vault, "--to", tmp_path / "copies", *_QUICK, "--rescan", "1", env=elsewhere
        )
    )
    watching.wait_for("2 instances are proven")
    make_study(studies / "b", key="b", instances=1)
    summary_of(run_dcmvault("backup", studies, "--to", vault, "--json", env=_PASSPHRASE))
    watching.wait_for("3 instances are proven")
    assert watching.end(signal.SIGTERM) == 0


def test_a_source_that_went_away_and_came_back_is_backed_up_again(
    watch: Callable[..., _Watching], tmp_path: Path
) -> None:
    studies, away = tmp_path / "studies", tmp_path / "away"
    make_study(studies / "a", key="a", instances=2)
    watching = watch("backup", studies, "--to", tmp_path / "copies", *_QUICK, "--rescan", "1")
    watching.wait_for("2 instances are proven")
    studies.rename(away)
    time.sleep(2.5)
    make_study(away / "b", key="b", instances=1)
    away.rename(studies)
    watching.wait_for("3 instances are proven")
    assert watching.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("option", ["--json", "--explain", "--dry-run"])
def test_options_that_end_do_not_go_with_watching(
    run_dcmvault: RunDcmvault, tmp_path: Path, option: str
) -> None:
    (tmp_path / "studies").mkdir()
    done = run_dcmvault(
        "backup", tmp_path / "studies", "--to", tmp_path / "copies", "--watch", option
    )
    assert done.returncode == 2


@pytest.fixture
def announced(tmp_path: Path) -> Iterator[queue.Queue[float]]:
    """What a folder announces, with a folder in it that is left out."""
    folder = tmp_path / "folder"
    (folder / "own").mkdir(parents=True)
    found: queue.Queue[float] = queue.Queue()
    events = FolderEvents(folder, found.put, without=[folder / "own"])
    events.start()
    # Listening begins a moment after the start; what is written until then is for a rescan.
    while found.empty():
        (folder / "first").write_bytes(b"x")
        time.sleep(0.1)
    with suppress(queue.Empty):
        while True:
            found.get(timeout=1.5)
    yield found
    events.stop()


def test_reading_announces_nothing(announced: queue.Queue[float], tmp_path: Path) -> None:
    """Else every pass would call for another."""
    folder = tmp_path / "folder"
    assert [path.read_bytes() for path in folder.rglob("first")] == [b"x"]
    (folder / "own" / "state").write_bytes(b"x")
    time.sleep(1.5)
    assert announced.empty()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "new").write_bytes(b"x"),
        lambda folder: (folder / "first").unlink(),
        lambda folder: (folder / "first").rename(folder / "second"),
        lambda folder: (folder / "first").write_bytes(b"yy"),
        lambda folder: (folder / "a" / "b").mkdir(parents=True),
    ],
    ids=["new", "deleted", "renamed", "written", "folder"],
)
def test_changes_are_announced(
    announced: queue.Queue[float], tmp_path: Path, change: Callable[[Path], object]
) -> None:
    before = time.monotonic()
    change(tmp_path / "folder")
    assert announced.get(timeout=_PATIENCE_S) >= before


def test_a_folder_that_is_not_there_is_silent(tmp_path: Path) -> None:
    found: queue.Queue[float] = queue.Queue()
    events = FolderEvents(tmp_path / "nothing", found.put)
    events.start()
    events.stop()
    assert found.empty()
