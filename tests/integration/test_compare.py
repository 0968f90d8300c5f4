"""Two places compared, the difference delivered, the migration certified: with real archives."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pydicom
import pytest
from scripts import peer_processes
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault
from tests.integration.story import summary_of
from tests.peer_files import send

from dcmvault.cli.main import run
from dcmvault.dicom.digest import merkle_root
from dcmvault.testing.dicom_files import MadeInstance, make_study, make_uid

pytestmark = pytest.mark.peers


class RunHere(Protocol):
    """Runs a command in this process: most of a short command's time is its start."""

    def __call__(self, *arguments: str | Path) -> SimpleNamespace: ...


@pytest.fixture
def run_here(home: Path, capsys: pytest.CaptureFixture[str]) -> RunHere:
    def run_command(*arguments: str | Path) -> SimpleNamespace:
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return SimpleNamespace(returncode=status, stdout=said.out, stderr=said.err)

    return run_command


ONE, TWO, THREE, FOUR = (make_uid(key) for key in ("one", "two", "three", "four"))


@pytest.fixture(scope="module")
def archives() -> Iterator[tuple[Orthanc, Orthanc]]:
    with ExitStack() as stack:
        old, new = (stack.enter_context(peer_processes.orthanc()) for _ in range(2))
        yield old, new


@pytest.fixture
def old(archives: tuple[Orthanc, Orthanc]) -> Orthanc:
    archives[0].wipe()
    return archives[0]


@pytest.fixture
def new(archives: tuple[Orthanc, Orthanc]) -> Orthanc:
    archives[1].wipe()
    return archives[1]


@pytest.fixture
def made(tmp_path: Path) -> dict[str, tuple[MadeInstance, ...]]:
    """Three studies in A, of which B lacks one, and a part of another; B has one more."""
    studies = {
        key: make_study(tmp_path / "a" / key, key=key, series=2, instances=3)
        for key in ("one", "two", "three")
    }
    shutil.copytree(tmp_path / "a" / "one", tmp_path / "b" / "one")
    shutil.copytree(tmp_path / "a" / "two", tmp_path / "b" / "two")
    (tmp_path / "b" / "two" / "s02" / "i0003.dcm").unlink()
    studies["four"] = make_study(tmp_path / "b" / "four", key="four", instances=2)
    return studies


def verdicts(summary: dict[str, Any]) -> dict[str, int]:
    names = ("same", "different", "only_a", "only_b", "unknown")
    return {name: summary["studies"][name] for name in names if summary["studies"][name]}


def by_uid(summary: dict[str, Any]) -> dict[str, Any]:
    return {one["study_instance_uid"]: one for one in summary["differences"]}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_two_archives_differ_by_study_by_series_and_by_instance(
    run_here: RunHere,
    old: Orthanc,
    new: Orthanc,
    made: dict[str, tuple[MadeInstance, ...]],
    tmp_path: Path,
) -> None:
    send(old, tmp_path / "a")
    send(new, tmp_path / "b")
    missing = made["two"][5]
    command = ("compare", old.address, new.address, "--json", "--csv", tmp_path / "out.csv")
    found = summary_of(run_here(*command), 3)
    assert verdicts(found) == {"same": 1, "different": 1, "only_a": 1, "only_b": 1}
    assert found["studies"]["same_by"] == {"count": 1, "instances": 0, "content": 0}
    assert found["instances"] == {
        "a": 18,
        "b": 13,
        "only_a": 7,
        "only_b": 2,
        "other_content": 0,
    }
    assert by_uid(found)[TWO]["basis"] == "instances"  # counts that differ are looked into
    assert {row["record"] for row in rows_of(tmp_path / "out.csv")} == {"study"}
    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o600

    found = summary_of(run_here(*command, "--depth", "series"), 3)
    assert found["studies"]["same_by"] == {"count": 0, "instances": 1, "content": 0}
    series = [row for row in rows_of(tmp_path / "out.csv") if row["record"] == "series"]
    assert [row["series_instance_uid"] for row in series] == [missing.series_instance_uid]
    assert (series[0]["instances_a"], series[0]["instances_b"]) == ("3", "2")

    found = summary_of(run_here(*command, "--depth", "instance"), 3)
    difference = by_uid(found)[TWO]["series"]
    assert [one["only_a"] for one in difference] == [[missing.sop_instance_uid]]
    instances = [row for row in rows_of(tmp_path / "out.csv") if row["record"] == "instance"]
    assert [(row["verdict"], row["sop_instance_uid"]) for row in instances] == [
        ("only_a", missing.sop_instance_uid)
    ]


def test_each_pair_of_kinds_agrees_on_what_differs(
    run_here: RunHere,
    new: Orthanc,
    made: dict[str, tuple[MadeInstance, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same difference, whichever way the two places are read."""
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "correct horse battery staple")
    vault = f"vault:{tmp_path / 'vault'}"
    assert run_here("vault", "init", vault).returncode == 0
    summary_of(run_here("backup", tmp_path / "a", "--to", vault, "--json"))
    send(new, tmp_path / "b")
    for a, b in (
        (tmp_path / "a", tmp_path / "b"),
        (f"{vault}#latest", new.address),
        (vault, f"orthanc+{new.http_url}"),
        (tmp_path / "a", f"dicomweb+{new.http_url}/dicom-web"),
    ):
        found = summary_of(run_here("compare", a, b, "--json"), 3)
        expected = {"same": 1, "different": 1, "only_a": 1, "only_b": 1}
        assert (verdicts(found), found["instances"]["only_a"]) == (expected, 7), (a, b)
    same = summary_of(run_here("compare", tmp_path / "a", vault, "--json"))
    assert same["studies"]["same_by"]["instances"] == 3


def test_two_states_of_a_vault_are_compared_by_content(
    run_here: RunHere,
    made: dict[str, tuple[MadeInstance, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "correct horse battery staple")
    vault = f"vault:{tmp_path / 'vault'}"
    assert run_here("vault", "init", vault).returncode == 0
    summary_of(run_here("backup", tmp_path / "a", "--to", vault, "--json"))
    [before] = json.loads(run_here("snapshots", vault, "--json").stdout)["snapshots"]
    changed = made["one"][0]
    dataset = pydicom.dcmread(changed.path)
    dataset.StudyDescription = "Corrected since"
    dataset.save_as(changed.path)
    summary_of(run_here("backup", tmp_path / "a", "--to", vault, "--json"))
    found = summary_of(
        run_here(*("compare", f"{vault}#{before['id']}", vault, "--depth", "instance", "--json")),
        3,
    )
    assert verdicts(found) == {"same": 2, "different": 1}
    assert found["studies"]["same_by"]["content"] == 2
    [series] = by_uid(found)[ONE]["series"]
    assert series["other_content"] == [changed.sop_instance_uid]


def test_a_list_limits_the_comparison_and_what_it_names_in_vain_is_told(
    run_here: RunHere,
    old: Orthanc,
    new: Orthanc,
    made: dict[str, tuple[MadeInstance, ...]],
    tmp_path: Path,
) -> None:
    send(old, tmp_path / "a")
    send(new, tmp_path / "b")
    names = tmp_path / "list.csv"
    names.write_text(f"\ufeffStudyInstanceUID;x\r\n{ONE};\r\n{THREE};\r\n1.2.3.4.5;\r\n")
    command = ("compare", old.address, new.address, "--only", names, "--json")
    found = summary_of(run_here(*command, "--csv", tmp_path / "out.csv"), 3)
    assert verdicts(found) == {"same": 1, "only_a": 1}
    assert found["not_found"] == ["1.2.3.4.5"]
    assert rows_of(tmp_path / "out.csv")[-1]["name"] == "1.2.3.4.5"
    names.write_text(f"{ONE}\n")
    assert verdicts(summary_of(run_here(*command))) == {"same": 1}


def test_an_accession_number_means_a_study_whichever_side_knows_it(
    run_here: RunHere, old: Orthanc, new: Orthanc, tmp_path: Path
) -> None:
    [made] = make_study(tmp_path / "a", key="one", instances=1)
    dataset = pydicom.dcmread(made.path)
    dataset.AccessionNumber = "A-17"
    dataset.save_as(made.path)
    send(old, tmp_path / "a")
    dataset.AccessionNumber = "CORRECTED"
    dataset.save_as(made.path)
    send(new, tmp_path / "a")
    (tmp_path / "list.csv").write_text("accession_number\nA-17\n")
    command = ("compare", old.address, new.address, "--only", tmp_path / "list.csv", "--json")
    found = summary_of(run_here(*command))
    assert (verdicts(found), found["not_found"]) == ({"same": 1}, [])


def test_what_is_missing_is_delivered_and_looked_at_again(
    run_dcmvault: RunDcmvault,
    old: Orthanc,
    new: Orthanc,
    made: dict[str, tuple[MadeInstance, ...]],
    tmp_path: Path,
) -> None:
    send(old, tmp_path / "a")
    send(new, tmp_path / "b")
    command = ("compare", old.address, new.address, "--act", "--json")
    found = summary_of(run_dcmvault(*command), 3)
    assert verdicts(found) == {"same": 3, "only_b": 1}
    assert [run["studies"] for run in found["delivered"]] == [2]
    assert set(old.instances()) <= set(new.instances())
    # What the catalogue takes for held, and is not there any more, is delivered once more.
    for instance in made["three"]:
        new.delete(instance.sop_instance_uid)
    found = summary_of(run_dcmvault(*command), 3)
    assert verdicts(found) == {"same": 3, "only_b": 1}
    assert set(old.instances()) <= set(new.instances())
    # Only what was missing was looked at: nothing of A counts as gone.
    status = json.loads(run_dcmvault("status", "--json").stdout)
    assert status["sources"][0]["studies"] == 2
    # With nothing missing there is no run.
    assert summary_of(run_dcmvault(*command), 3)["delivered"] == []


def test_places_are_named_as_they_are_configured(
    run_dcmvault: RunDcmvault,
    home: Path,
    made: dict[str, tuple[MadeInstance, ...]],
    tmp_path: Path,
) -> None:
    """What was delivered just now is in the sample, too."""
    (home / "config.toml").write_text(
        f"""
        [sources.old]
        address = "{tmp_path / "a"}"
        [destinations.copies]
        address = "{tmp_path / "copies"}"
        """
    )
    (tmp_path / "copies").mkdir()
    command = ("compare", "old", "copies", "--act", "--sample", "all", "--json")
    found = summary_of(run_dcmvault(*command))
    assert verdicts(found) == {"same": 3}
    assert (found["sample"]["read"], found["sample"]["proven"]) == (3, 3)
    # One name for two places: the source is compared, and nothing goes to the other one.
    with (home / "config.toml").open("a") as config:
        config.write(f'[sources.copies]\naddress = "{tmp_path / "b"}"\n')
    refused = run_dcmvault("compare", "old", "copies", "--act")
    assert (refused.returncode, "another place" in refused.stderr) == (2, True), refused.stderr
    refused = run_dcmvault("compare", "copies", "old", "--act")
    assert (refused.returncode, "as a source only" in refused.stderr) == (2, True), refused.stderr


def test_a_migration_is_certified_as_html_pdf_and_json(
    run_here: RunHere,
    old: Orthanc,
    new: Orthanc,
    made: dict[str, tuple[MadeInstance, ...]],
    tmp_path: Path,
) -> None:
    send(old, tmp_path / "a")
    send(new, tmp_path / "a")
    folder = tmp_path / "certificate"
    command = ("compare", old.address, new.address, "--depth", "instance")
    done = run_here(*command, "--certificate", folder, "--seed", "one", "--sample", "2")
    assert done.returncode == 0, (done.stdout, done.stderr)
    content = (folder / "certificate.json").read_bytes()
    said = json.loads(content)
    assert said["format"] == "dcmvault-migration-certificate-1"
    assert said["complete"] is True
    assert said["studies"]["same_by"] == {"count": 0, "instances": 3, "content": 0}
    assert said["by_month"] == [
        {
            "month": "2020-01",
            "modalities": "CT",
            "studies_a": 3,
            "studies_b": 3,
            "instances_a": 18,
            "instances_b": 18,
        }
    ]
    # Everything that the certificate claims of its sample and digests can be found out anew.
    uids = sorted(one["study_instance_uid"] for one in said["compared"])
    assert uids == sorted((ONE, TWO, THREE))
    chosen = sorted(uids, key=lambda uid: hashlib.sha256(f"one:{uid}".encode()).digest())[:2]
    assert [one["study_instance_uid"] for one in said["sample"]["studies"]] == chosen
    assert all(one["identical"] == one["instances"] == 6 for one in said["sample"]["studies"])
    lines = []
    for uid in uids:
        leaves = [
            hashlib.sha256(
                f"{uid}\n{one.series_instance_uid}\n{one.sop_instance_uid}\n".encode()
            ).digest()
            for study in made.values()
            for one in study
            if one.study_instance_uid == uid
        ]
        lines.append(f"{uid},2,6,{merkle_root(leaves).hex()}\n")
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert said["a"]["digest"] == said["b"]["digest"] == digest
    page = (folder / "certificate.html").read_text("utf-8")
    assert "Everything of A is in B" in page
    assert hashlib.sha256(content).hexdigest() in page
    assert not re.search(r"<script|https?://(?!127)", page)
    assert (folder / "certificate.pdf").read_bytes().startswith(b"%PDF-")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_sample_finds_what_lists_cannot_show(
    run_here: RunHere,
    old: Orthanc,
    new: Orthanc,
    made: dict[str, tuple[MadeInstance, ...]],
    tmp_path: Path,
) -> None:
    """Both archives list the same; in one of them a value and a pixel are others."""
    send(old, tmp_path / "a")
    for number, keyword in ((0, "StudyDescription"), (1, "PixelData")):
        dataset = pydicom.dcmread(made["one"][number].path)
        value = "Another one" if keyword == "StudyDescription" else bytes(len(dataset.PixelData))
        setattr(dataset, keyword, value)
        dataset.save_as(made["one"][number].path)
    send(new, tmp_path / "a")
    command = ("compare", old.address, new.address, "--json", "--depth", "instance")
    assert verdicts(summary_of(run_here(*command))) == {"same": 3}
    target = tmp_path / "certificate.json"
    found = summary_of(run_here(*command, "--sample", "all", "--certificate", target), 3)
    assert (found["sample"]["read"], found["sample"]["proven"]) == (3, 2)
    [bad] = [study for study in found["sample"]["studies"] if not study["proven"]]
    assert (bad["study_instance_uid"], bad["different"], bad["identical"]) == (ONE, 2, 4)
    told = " ".join(bad["reasons"])
    assert "(0008,1030)" in told
    assert "pixel data" in told
    assert "Another one" not in told
    assert json.loads(target.read_text())["complete"] is False


def test_what_a_dicomweb_service_writes_itself_is_no_difference(
    run_here: RunHere,
    home: Path,
    new: Orthanc,
    made: dict[str, tuple[MadeInstance, ...]],
    tmp_path: Path,
) -> None:
    send(new, tmp_path / "a" / "one")
    for instance in made["one"]:
        dataset = pydicom.dcmread(instance.path)
        dataset.StudyDescription = "Another one"
        dataset.save_as(instance.path)
    (home / "config.toml").write_text(
        f"""
        [destinations.new]
        address = "dicomweb+{new.http_url}/dicom-web"
        coerced = "(0008,1030)"
        """
    )
    command = ("compare", tmp_path / "a" / "one", "new", "--sample", "all", "--json")
    [study] = summary_of(run_here(*command))["sample"]["studies"]
    assert (study["coerced"], study["different"]) == (6, 0)


def test_every_content_under_a_uid_is_looked_for(
    run_here: RunHere, made: dict[str, tuple[MadeInstance, ...]], tmp_path: Path
) -> None:
    """A folder may have two files under one UID, and B only one of them."""
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    first = made["one"][0].path
    dataset = pydicom.dcmread(first)
    dataset.StudyDescription = "Another one"
    dataset.save_as(first.with_name("z-other.dcm"))
    command = ("compare", tmp_path / "a", tmp_path / "c", "--sample", "all", "--json")
    found = summary_of(run_here(*command), 3)
    assert (verdicts(found), found["sample"]["proven"]) == ({"same": 3}, 2)
    # Both are there, in another order.
    copy = tmp_path / "c" / first.relative_to(tmp_path / "a")
    shutil.copy(first.with_name("z-other.dcm"), copy.with_name("a-other.dcm"))
    found = summary_of(run_here(*command))
    assert found["sample"]["proven"] == 3


def test_files_that_cannot_be_compared_are_counted(
    run_here: RunHere, made: dict[str, tuple[MadeInstance, ...]], tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    (tmp_path / "c" / "notes.txt").write_text("nothing to see")
    (tmp_path / "c" / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 50)
    found = summary_of(run_here("compare", tmp_path / "a", tmp_path / "c", "--json"))
    assert (verdicts(found), found["b"]["not_instances"]) == ({"same": 3}, 1)
    (tmp_path / "c" / "loop.dcm").symlink_to("/proc/self/mem")
    os.mkfifo(tmp_path / "c" / "pipe.dcm")
    assert run_here("compare", tmp_path / "a", tmp_path / "c").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("a", "a"), 2, "same place"),
        (("a", "nowhere"), 1, "does not exist"),
        (("a", "b", "--only", "none.csv"), 2, "cannot be read"),
        (("a", "b", "--sample", "many"), 2, "no size of a sample"),
        (("a", "b", "--sample", "9" * 5000), 2, "no size of a sample"),
        (("a", "b", "--seed", "x"), 2, "A seed chooses a sample"),
        (("a", "b", "--csv", "none/x.csv"), 1, "cannot be written"),
        (("a", "b", "--certificate", "none/x.html"), 1, "cannot be written"),
        (("a", "b", "--certificate", "x.doc"), 2, "no “.doc” file"),
        (("a", "vault:v#abcd1234", "--act"), 2, "added to a snapshot"),
        (("a", "a/one", "--act"), 2, "overlap"),
        (("a", "horos:h", "--act"), 2, "cannot be a destination"),
    ],
)
def test_what_cannot_be_asked_is_said_at_once(
    run_here: RunHere,
    made: dict[str, tuple[MadeInstance, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_here("compare", *arguments)
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
