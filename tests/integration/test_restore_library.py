"""A library of the viewer goes into a vault and comes back as a library, or into one."""

from __future__ import annotations

import io
import json
import os
import plistlib
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import StartDcmvault

from dcmvault.app.library_user_data import LibraryData, annotations_of, read_library_json
from dcmvault.cli.main import run
from dcmvault.config.sections import HorosSourceSection
from dcmvault.model.sidecar import SidecarFile
from dcmvault.sources.horos import HorosSource
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.horos_comparison import library_differences
from dcmvault.testing.horos_importer import import_albums, import_incoming, importing
from dcmvault.testing.horos_library import LibraryFacts, build_library
from dcmvault.testing.horos_schema import create_index
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
        assert (returned, summary["exit_status"]) == (status, status), summary.get(
            "failures", summary
        )
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
    with closing(sqlite3.connect(new / "Database.sql")) as connection, connection:
        connection.execute(
            "DELETE FROM ZSTUDY WHERE ZSTUDYINSTANCEUID = ?", (story.added.us_study,)
        )
    shutil.rmtree(new / "DATABASE.noindex" / "20000")
    summary = restore(story.vault, new, "--layout", "library", status=2)
    assert "has worked with this library" in summary["error"]["message"]
    assert not (new / "DATABASE.noindex" / "20000").exists()
    assert not list(new.glob(".*"))


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


# Into a library that is there


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of the viewer's with nothing in it yet."""
    monkeypatch.setattr("dcmvault.app.library_incoming.PATIENCE_S", 0.5)
    base = tmp_path / "Documents" / "Horos Data"
    for folder in ("DATABASE.noindex", "INCOMING.noindex"):
        (base / folder).mkdir(parents=True)
    with closing(sqlite3.connect(base / "Database.sql")) as connection, connection:
        create_index(connection, "LIVE")
    return base


def sidecar_of(base: Path) -> LibraryData:
    source = HorosSource(HorosSourceSection(path=base))
    return read_library_json(
        next(
            x.path.read_bytes()
            for x in source.sidecar()
            if isinstance(x, SidecarFile) and x.name == "library.json"
        )
    )


def wanted_contents(story: Story) -> dict[str, bytes]:
    return {
        file.sop_instance_uid: Path(
            str(file.path).replace(str(story.base.parent), str(story.kept.parent))
        ).read_bytes()
        for file in story.facts.files.values()
        if file.sop_instance_uid
    }


def test_viewer_takes_everything_back(story: Story, live: Path, restore: Any) -> None:
    wanted = wanted_contents(story)
    with importing(live) as imported:
        summary = restore(story.vault, f"horos:{live}")
    assert summary["failures"] == []
    assert imported.deleted == imported.discarded == 0
    stored = [path.read_bytes() for path in (live / "DATABASE.noindex").rglob("*.dcm")]
    assert set(stored) >= set(wanted.values())
    assert not list((live / "INCOMING.noindex").iterdir())
    # Albums, by the list that the viewer reads; comments and the rest came by themselves.
    beside = live.parent / "RESTORED LIBRARY"
    import_albums(live, beside / "Albums.albums")
    before, after = sidecar_of(story.kept), sidecar_of(live)
    for study in (story.added.ct_study, story.added.us_study):
        was, now = annotations_of(before, study), annotations_of(after, study)
        assert {k: v for k, v in now.items() if k not in ("series", "patientUID")} == {
            k: v for k, v in was.items() if k not in ("series", "patientUID")
        }
        assert [one.get("images") for one in now["series"]] == [
            one.get("images") for one in was["series"]
        ]
    assert {album["name"] for album in after.albums} == {"Teaching", "Just opened", "Empty"}
    rest = json.loads((beside / "not-imported.json").read_bytes())
    assert {row["of"] for row in rest} == {"studies", "series", "instances"}
    assert (beside / "READ-ME.txt").is_file()
    assert (beside / "Horos Data" / "reports" / "DOE JANE.pages" / "Index.zip").is_file()
    # The reports are the library's again: the bundle, and the document that lay elsewhere.
    named_before, named_now = (
        {
            (r["study_instance_uid"], Path(r["report"]["location"]).name)
            for r in one.studies
            if r.get("report", {}).get("name")
        }
        for one in (before, after)
    )
    assert named_now == named_before
    assert (live / "REPORTS" / "DOE JANE.pages" / "Index.zip").read_bytes() == b"PK pages"
    assert (live / "REPORTS" / "Horos Data dictated.rtf").read_bytes()[:5] == b"{\\rtf"
    # Once more: everything is there, and what people say now is kept.
    with closing(sqlite3.connect(live / "Database.sql")) as connection, connection:
        connection.execute(
            "UPDATE ZSTUDY SET ZCOMMENT = 'written since' WHERE ZCOMMENT IS NOT NULL"
        )
    with importing(live) as imported:
        again = restore(story.vault, f"horos:{live}")
    assert again["failures"] == []
    assert again["files"]["written"] == 0
    assert (imported.taken, imported.discarded) == (0, 0)
    assert annotations_of(sidecar_of(live), story.added.ct_study)["comment"] == "written since"


def test_viewer_need_not_run(story: Story, live: Path, restore: Any) -> None:
    study = story.added.ct_study
    summary = restore(story.vault, f"horos:{live}", "--study", study)
    assert "5 files wait in INCOMING.noindex" in summary["remarks"][0]
    again = restore(story.vault, f"horos:{live}", "--study", study)
    assert again["files"]["written"] <= 1  # the description of the library, which is kept nowhere
    imported = import_incoming(live)
    assert (imported.taken, imported.discarded, imported.deleted) == (5, 0, 0)
    only = sidecar_of(live)
    assert annotations_of(only, study)["comment"] == "Seen; “compare”"
    beside = live.parent / "RESTORED LIBRARY"
    assert {path.name for path in beside.iterdir()} == {
        "Albums.albums",
        "not-imported.json",
        "READ-ME.txt",
    }
    assert [one["name"] for one in plistlib.loads((beside / "Albums.albums").read_bytes())] == [
        "Teaching"
    ]
    assert story.added.us_study.encode() not in (beside / "not-imported.json").read_bytes()


def test_other_content_in_the_library_is_reported_and_left(
    story: Story, live: Path, restore: Any
) -> None:
    study = story.added.ct_study
    restore(story.vault, f"horos:{live}", "--study", study)
    import_incoming(live)
    stored = sorted((live / "DATABASE.noindex").rglob("*.dcm"))
    changed = next(path for path in stored if path.read_bytes() in wanted_contents(story).values())
    changed.write_bytes(changed.read_bytes().replace(b"Doe^Jane", b"Doe^Joan"))
    kept = changed.read_bytes()
    summary = restore(story.vault, f"horos:{live}", "--study", study, status=3)
    assert [one["code"] for one in summary["failures"]] == ["object_exists"]
    assert changed.read_bytes() == kept
    assert not list((live / "INCOMING.noindex").iterdir())


def test_folder_must_be_a_library(story: Story, live: Path, tmp_path: Path, restore: Any) -> None:
    for to, words in (
        (f"horos:{tmp_path}", "no OsiriX or Horos library"),
        (live, "no file is put there"),
        (live / "DATABASE.noindex", "no file is put there"),
    ):
        summary = restore(story.vault, to, status=2)
        assert words in summary["error"]["message"]
    shutil.rmtree(live / "DATABASE.noindex")
    assert restore(story.vault, f"horos:{live}", status=1)["error"]["code"] == "source_unavailable"


def kill_again_and_again(
    start: StartDcmvault, story: Story, to: str, kills: int, *options: str
) -> None:
    """Start a restore again and again, and kill it when it has made some more files."""
    folder = Path(to.removeprefix("horos:"))

    def arrived() -> int:
        # `os.walk` passes over a folder that goes away meanwhile.
        return sum(len(files) for _folder, _folders, files in os.walk(folder))

    for kill in range(kills):
        there = arrived()
        words = ("restore", f"vault:{story.vault}", to, "--progress", "none", *options)
        process = start(*words)
        while process.poll() is None:
            if arrived() > there + kill % 5:
                process.kill()
            time.sleep(0.001)
        process.wait()


KILLS = pytest.mark.parametrize(
    "kills", [3, pytest.param(50, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])]
)


@KILLS
def test_killed_in_the_middle_nothing_comes_twice(
    story: Story, live: Path, restore: Any, start_dcmvault: StartDcmvault, kills: int
) -> None:
    with importing(live) as imported:
        kill_again_and_again(start_dcmvault, story, f"horos:{live}", kills)
        summary = restore(story.vault, f"horos:{live}")
    assert summary["failures"] == []
    # What the viewer has taken and not indexed yet may come again; it drops that.
    assert imported.deleted == 0
    assert not list((live / "INCOMING.noindex").iterdir())
    stored = [path.read_bytes() for path in (live / "DATABASE.noindex").rglob("*.dcm")]
    assert len(stored) == len(set(stored))
    assert set(stored) >= set(wanted_contents(story).values())
    assert annotations_of(sidecar_of(live), story.added.ct_study)["comment"] == "Seen; “compare”"


@KILLS
def test_library_comes_back_in_spite_of_kills(
    story: Story, tmp_path: Path, restore: Any, start_dcmvault: StartDcmvault, kills: int
) -> None:
    new = tmp_path / "New Data"
    kill_again_and_again(start_dcmvault, story, str(new), kills, "--layout", "library")
    assert restore(story.vault, new, "--layout", "library")["failures"] == []
    assert library_differences(story.kept, new, moved_paths(story, new)) == []
    assert not list(new.glob(".*"))


def test_certificate_says_that_the_library_is_what_it_was(
    story: Story, tmp_path: Path, restore: Any
) -> None:
    new, told = tmp_path / "New Data", tmp_path / "restored.json"
    page = tmp_path / "restored.html"
    certificates = ("--certificate", str(told), "--certificate", str(page))
    restore(story.vault, new, "--layout", "library", *certificates)
    certificate = json.loads(told.read_bytes())
    assert certificate["is_complete"]
    assert certificate["files"]["proven"] == certificate["files"]["selected"] > 20
    assert "value by value" in certificate["remarks"][0]
    assert "value by value" in page.read_text(encoding="utf-8")


def test_only_a_whole_library_of_a_vault_becomes_a_library(
    story: Story, tmp_path: Path, restore: Any
) -> None:
    new = tmp_path / "New Data"
    for options, words in (
        (("--study", story.added.ct_study), "and whole"),
        (("--source", "horos:/elsewhere"), "nothing from the source horos:/elsewhere"),
    ):
        summary = restore(story.vault, new, "--layout", "library", *options, status=2)
        assert words in summary["error"]["message"]
        assert not new.exists()
    named = restore(story.vault, new, "--layout", "library", "--source", f"horos:{story.base}")
    assert named["failures"] == []


def test_files_of_a_folder_go_into_a_library(live: Path, tmp_path: Path, home: Path) -> None:
    made = make_study(tmp_path / "source", key="one", instances=3)
    told = io.StringIO()
    with importing(live), redirect_stdout(told):
        words = ["restore", str(tmp_path / "source"), f"horos:{live}", "--json"]
        assert run([*words, "--progress", "none"]) == 0
    stored = {path.read_bytes() for path in (live / "DATABASE.noindex").rglob("*.dcm")}
    assert stored == {one.path.read_bytes() for one in made}


def test_what_a_library_holds_beside_its_instances_is_not_left_out_silently(
    story: Story, tmp_path: Path, home: Path
) -> None:
    """Restored straight from a library: its albums and comments do not come, and that is said."""
    told = io.StringIO()
    with redirect_stdout(told):
        words = ["restore", f"horos:{story.kept}", str(tmp_path / "out"), "--json"]
        run([*words, "--progress", "none"])
    (remark,) = json.loads(told.getvalue())["remarks"]
    assert "albums" in remark
