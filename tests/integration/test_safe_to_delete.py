"""`dcmvault safe-to-delete` on real sources and destinations: what changed is never safe."""

from __future__ import annotations

import csv
import io
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.conftest import RunDcmvault, StartOrthanc
from tests.integration.cloud_vault_world import PASSPHRASE, make_vault
from tests.peer_files import send

from dcmvault import i18n
from dcmvault.cli.main import run
from dcmvault.config.sections import VaultDestinationSection
from dcmvault.testing.dicom_files import make_instance, make_study, make_uid

_POLICY = '[safe_to_delete]\ncopies = {copies}\nlevel = "complete"\nmin_age_days = 0\n'

#: Writes the policy: so many copies, and more lines of the configuration.
Policy = Callable[..., None]
#: Asks with these arguments, and returns the JSON object; the exit status is checked.
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        make_study(tmp_path / "source" / name, key=name, series=2, instances=2)
    return tmp_path / "source"


@pytest.fixture
def policy(home: Path) -> Policy:
    def write(copies: int, more: str = "") -> None:
        (home / "config.toml").write_text(_POLICY.format(copies=copies) + more)

    write(2)
    return write


@pytest.fixture
def ask(policy: Policy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)
    i18n.use_language("en")

    def call(*arguments: str | Path, status: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        found = run(["safe-to-delete", *map(str, arguments), "--json"])
        said = capsys.readouterr()
        assert found == status, said
        shown = json.loads(said.out)
        assert isinstance(shown, dict)
        assert shown["exit_status"] == status
        return shown

    return call


def _reasons(answer: dict[str, Any], uid: str = "") -> set[str]:
    return {
        reason["code"]
        for source in answer["sources"]
        for verdict in source["verdicts"]
        if uid in ("", verdict["study_instance_uid"])
        for reason in verdict["not_yet"]
    }


def _uid(folder: Path) -> str:
    return str(pydicom.dcmread(next(folder.glob("**/*.dcm"))).StudyInstanceUID)


def _back_up(run_dcmvault: RunDcmvault, source: str | Path, *places: str | Path) -> None:
    to = [part for place in places for part in ("--to", place)]
    done = run_dcmvault("backup", source, *to, "--json", env={"DCMVAULT_PASSPHRASE": PASSPHRASE})
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture
def vault(tmp_path: Path) -> str:
    """A vault whose passphrase costs little."""
    section = VaultDestinationSection(location=str(tmp_path / "vault"))
    make_vault(section)
    return section.address


def test_from_backup_to_deletion(
    run_dcmvault: RunDcmvault, ask: Ask, source: Path, tmp_path: Path, vault: str
) -> None:
    """One copy is too few, two are enough; what changed at the source since is never safe."""
    folder = tmp_path / "copy"
    _back_up(run_dcmvault, source, folder)
    answer = ask(source)
    assert _reasons(answer) == {"too_few_copies"}
    assert answer["sources"][0]["by_reason"] == {"too_few_copies": 2}

    _back_up(run_dcmvault, source, folder, vault)
    (told,) = ask()["sources"]
    assert (told["source"], told["studies"], told["safe"]) == (str(source), 2, 2)
    assert told["verdicts"][0]["copies_that_count"] == [str(folder), vault]

    one, two = _uid(source / "one"), _uid(source / "two")
    file = source / "one" / "s01" / "i0001.dcm"
    original = file.read_bytes()
    changed = pydicom.dcmread(file)
    changed.ImageComments = "written by a viewer after the backup"
    changed.save_as(file)
    # A viewer may put back the time; it cannot put back size, inode and time together.
    answer = ask(source, "--study", one, status=3)
    assert _reasons(answer) == {"changed", "too_few_copies", "not_held"}
    assert _reasons(ask(source), two) == set()
    # As it was backed up, but for its time: looked at, and found to be the same.
    file.write_bytes(original)
    assert _reasons(ask(source, "--study", one)) == set()

    new = make_instance(
        source / "one" / "new.dcm", one, make_uid("new series"), make_uid("new instance")
    )
    assert _reasons(ask(source), one) == {"too_few_copies", "not_held"}
    # The same UID with other content beside it: which of them is right?
    make_instance(
        source / "one" / "again.dcm",
        one,
        new.series_instance_uid,
        new.sop_instance_uid,
        elements={"ImageComments": "another content"},
    )
    assert _reasons(ask(source), one) == {"conflict", "too_few_copies", "not_held"}


def test_legal_hold_and_a_vault_that_is_away(
    run_dcmvault: RunDcmvault, ask: Ask, source: Path, tmp_path: Path, vault: str
) -> None:
    """A study under legal hold stays; so does everything while nobody can ask for holds."""
    _back_up(run_dcmvault, source, tmp_path / "copy", vault)
    one, two = _uid(source / "one"), _uid(source / "two")
    env = {"DCMVAULT_PASSPHRASE": PASSPHRASE}
    shutil.copytree(tmp_path / "vault", tmp_path / "older")
    hold = ("vault", "hold", vault, "--study", one, "--reason", "case 12")
    assert run_dcmvault(*hold, env=env).returncode == 0
    answer = ask(source)
    assert _reasons(answer, one) == {"legal_hold"}
    assert _reasons(answer, two) == set()
    # Somebody put an older copy of the vault in its place: the hold is gone, and it shows.
    (tmp_path / "vault").rename(tmp_path / "newer")
    (tmp_path / "older").rename(tmp_path / "vault")
    assert _reasons(ask(source, "--study", two, status=3)) == {"too_few_copies", "set_back"}
    (tmp_path / "vault").rename(tmp_path / "away")
    assert _reasons(ask(source, "--study", two, status=3)) == {"vault_unasked"}


def test_locked_copies_and_levels_by_name(
    run_dcmvault: RunDcmvault, ask: Ask, policy: Policy, source: Path, tmp_path: Path
) -> None:
    """Nothing locks a folder; a configured name's level is that of its address."""
    folder = tmp_path / "copy"
    done = run_dcmvault("backup", source, "--to", folder, "--verify", "complete")
    assert done.returncode == 0
    policy(1, "immutable = 1\n")
    assert _reasons(ask(source)) == {"not_immutable"}
    disk = f'levels = {{disk = "proven"}}\n[destinations.disk]\naddress = "{folder}"\n'
    policy(1, disk)
    assert _reasons(ask(source)) == {"too_few_copies", "not_held"}
    policy(1, disk.replace("proven", "complete"))
    assert _reasons(ask(source)) == set()


@pytest.mark.peers
def test_a_pacs_that_shows_what_changed_and_one_that_does_not(
    run_dcmvault: RunDcmvault,
    ask: Ask,
    policy: Policy,
    source: Path,
    tmp_path: Path,
    start_orthanc: StartOrthanc,
) -> None:
    """What a listing cannot show is not believed, unless somebody says so."""
    orthanc = start_orthanc(OverwriteInstances=True)
    send(orthanc, source)
    policy(1)
    by_query, by_rest = orthanc.address, f"orthanc+{orthanc.http_url}"
    _back_up(run_dcmvault, by_query, tmp_path / "queried")
    _back_up(run_dcmvault, by_rest, tmp_path / "read")
    assert _reasons(ask(by_query)) == {"changes_unseen"}
    assert _reasons(ask(by_rest)) == set()
    policy(1, "require_unchanged = false\n")
    assert _reasons(ask(by_query)) == set()

    file = source / "one" / "s01" / "i0001.dcm"
    changed = pydicom.dcmread(file)
    changed.ImageComments = "corrected at the archive"
    changed.save_as(file)
    send(orthanc, file.parent)
    answer = ask(by_rest)
    assert _reasons(answer, _uid(source / "one")) == {"changed", "too_few_copies", "not_held"}
    assert _reasons(answer, _uid(source / "two")) == set()


def test_what_a_vault_forgot_is_no_copy(
    run_dcmvault: RunDcmvault, ask: Ask, policy: Policy, source: Path, tmp_path: Path, vault: str
) -> None:
    """Somebody with another state folder forgot a study: the catalogue here was not told."""
    policy(1)
    _back_up(run_dcmvault, source, vault)
    one, two = _uid(source / "one"), _uid(source / "two")
    elsewhere = {"DCMVAULT_PASSPHRASE": PASSPHRASE, "DCMVAULT_HOME": str(tmp_path / "other home")}
    forget = ("vault", "forget", vault, "--study", one)
    assert run_dcmvault(*forget, env=elsewhere).returncode == 0
    answer = ask(source)
    assert _reasons(answer, one) == {"too_few_copies", "listed_no_more"}
    assert _reasons(answer, two) == set()


def test_the_source_itself_is_no_copy(
    run_dcmvault: RunDcmvault, ask: Ask, policy: Policy, source: Path, tmp_path: Path
) -> None:
    """After the backup somebody put a link to the copy in the source's place."""
    policy(1)
    _back_up(run_dcmvault, source, tmp_path / "copy")
    shutil.rmtree(source)
    source.symlink_to(tmp_path / "copy")
    assert _reasons(ask(source)) == {"too_few_copies", "at_source"}


@pytest.mark.peers
def test_a_pacs_is_no_copy_of_itself_nor_two_copies(
    run_dcmvault: RunDcmvault,
    ask: Ask,
    policy: Policy,
    source: Path,
    start_orthanc: StartOrthanc,
) -> None:
    """One PACS has several ports, and speaks DIMSE and DICOMweb."""
    orthanc = start_orthanc(OverwriteInstances=True)
    by_rest = f"orthanc+{orthanc.http_url}"
    by_web = f"dicomweb+{orthanc.http_url}/dicom-web"
    _back_up(run_dcmvault, source, orthanc.address, by_web)
    assert _reasons(ask(source)) == {"too_few_copies"}
    policy(1)
    assert _reasons(ask(source)) == set()
    _back_up(run_dcmvault, by_rest, orthanc.address)
    assert _reasons(ask(by_rest)) == {"too_few_copies", "at_source"}


@pytest.mark.peers
def test_a_pacs_that_keeps_the_older_content(
    run_dcmvault: RunDcmvault,
    ask: Ask,
    policy: Policy,
    source: Path,
    start_orthanc: StartOrthanc,
) -> None:
    """It says yes to the newer, and lists its UID: that is no evidence of the newer."""
    orthanc = start_orthanc(OverwriteInstances=False)
    policy(1)
    _back_up(run_dcmvault, source, orthanc.address)
    assert _reasons(ask(source)) == set()
    file = source / "one" / "s01" / "i0001.dcm"
    changed = pydicom.dcmread(file)
    changed.ImageComments = "corrected at the source"
    changed.save_as(file)
    _back_up(run_dcmvault, source, orthanc.address)
    answer = ask(source)
    assert _reasons(answer, _uid(source / "one")) == {"too_few_copies", "not_held"}
    assert _reasons(answer, _uid(source / "two")) == set()


def test_files_and_words(
    run_dcmvault: RunDcmvault, ask: Ask, policy: Policy, source: Path, tmp_path: Path
) -> None:
    """The table, the page and the terminal say the same; no name of a patient is in them."""
    _back_up(run_dcmvault, source, tmp_path / "copy")
    policy(2)
    table, page = tmp_path / "safe.csv", tmp_path / "safe.html"
    done = run_dcmvault("safe-to-delete", source, "--csv", table, "--html", page)
    assert done.returncode == 0
    assert "0 of 2 studies may be deleted there." in done.stdout
    assert "1 of 2 copies count." in done.stdout
    assert "dcmvault itself never deletes at a source." in done.stdout
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [row["study_instance_uid"] for row in rows] == [
        verdict["study_instance_uid"] for verdict in ask(source)["sources"][0]["verdicts"]
    ]
    assert {(row["safe"], row["reasons"], row["why_not_yet"]) for row in rows} == {
        ("not yet", "too_few_copies", "1 of 2 copies count.")
    }
    text = page.read_text()
    assert "0 of 2 studies may be deleted at their source." in text
    assert "<script" not in text
    for written in (table, page):
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
        assert "Doe" not in written.read_text()
    portuguese = run_dcmvault("--lang", "pt-BR", "safe-to-delete", source)
    assert "1 de 2" in portuguese.stdout


def test_questions_that_cannot_be_answered(
    run_dcmvault: RunDcmvault, ask: Ask, source: Path, tmp_path: Path
) -> None:
    """An unknown source or study is a usage error; a source that is away has no safe studies."""
    assert ask()["sources"] == []
    assert ask(tmp_path / "nowhere", status=2)["error"]["code"] == "usage"
    _back_up(run_dcmvault, source, tmp_path / "copy")
    assert ask(source, "--study", "1.2.3", status=2)["error"]["code"] == "usage"
    source.rename(tmp_path / "away")
    assert ask(source, status=1)["error"]["code"] == "source_unavailable"
    (told,) = ask(status=3)["sources"]
    assert (told["error"]["code"], told["verdicts"]) == ("source_unavailable", [])
    source.mkdir()
    assert ask(source, status=1)["error"]["code"] == "source_empty"
