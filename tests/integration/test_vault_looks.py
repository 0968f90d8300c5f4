"""Looking into a vault: snapshots, ls, find and diff."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import RunDcmvault
from tests.integration.rescue_world import PASSPHRASE, World, files_below

from dcmvault.cli.main import run
from dcmvault.testing.dicom_files import make_instance, make_study, make_uid
from dcmvault.vault.retention import forget_snapshots, forget_study
from dcmvault.vault.snapshot import Link


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)


@pytest.fixture
def world(tmp_path: Path, home: Path) -> World:
    return World(tmp_path / "vault", redundant=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    make_study(folder / "one", key="one", series=2, instances=2, patient_name="Doe^Jane")
    make_study(folder / "two", key="two", instances=3, modality="MR", patient_name="Roe^João")
    (folder / "notes.txt").write_bytes(b"no DICOM")
    return folder


def text(*words: str | Path, status: int = 0) -> str:
    told, complaints = io.StringIO(), io.StringIO()
    with redirect_stdout(told), redirect_stderr(complaints):
        returned = run([str(word) for word in words])
    assert returned == status, (told.getvalue(), complaints.getvalue())
    return told.getvalue() if status in (0, 3) else complaints.getvalue()


def answer(*words: str | Path, status: int = 0) -> dict[str, Any]:
    told = io.StringIO()
    with redirect_stdout(told):
        returned = run([str(word) for word in (*words, "--json")])
    found: dict[str, Any] = json.loads(told.getvalue())
    assert (returned, found["exit_status"]) == (status, status), found
    return found


def digest(link: Link) -> str:
    return link.name.rpartition("-")[2]


def three_snapshots(world: World, source: Path) -> list[Link]:
    first = world.snapshot(world.back_up(source), run="run-1")
    make_study(source / "one", key="one", series=2, instances=1, patient_name="Poe^Jane")
    make_study(source / "three", key="three", instances=1)
    second = world.snapshot(world.back_up(source, run="run-2"), run="run-2")
    make_study(source / "four", key="four", instances=1)
    return [first, second, world.snapshot(world.back_up(source, run="run-3"), run="run-3")]


def test_snapshots(world: World, source: Path) -> None:
    links = three_snapshots(world, source)
    found = answer("snapshots", f"vault:{world.place}")
    assert [one["name"] for one in found["snapshots"]] == [link.name for link in links]
    assert [one["id"] for one in found["snapshots"]] == [digest(link) for link in links]
    first = found["snapshots"][0]
    assert first["studies"] == 3
    assert first["instances"] == first["added"]["instances"] == 8
    assert first["bytes"] == sum(path.stat().st_size for path in files_below(source)) - sum(
        path.stat().st_size for path in files_below(source / "three")
    ) - sum(path.stat().st_size for path in files_below(source / "four"))
    assert first["kind"] == "backup"
    assert found["files_without_snapshot"] == 0
    shown = text("snapshots", world.place)
    assert [line.split()[0] for line in shown.splitlines()[1:]] == [
        digest(link)[:8] for link in links
    ]
    make_study(source / "five", key="five", instances=2)
    world.back_up(source, run="run-4")
    assert answer("snapshots", world.place)["files_without_snapshot"] == 2
    assert "2 files were stored since" in text("snapshots", world.place)


def test_forgotten_snapshots_are_not_shown(world: World, source: Path) -> None:
    links = three_snapshots(world, source)
    world.clock.advance(1)
    forget_snapshots(world.opened(), [links[0].name])
    found = answer("snapshots", world.place)["snapshots"]
    assert links[0].name not in {one["name"] for one in found}
    assert found[-1]["kind"] == "forget"
    assert "no snapshot" in text("ls", world.place, "--snapshot", digest(links[0]), status=2)


def test_an_empty_vault(world: World) -> None:
    assert answer("snapshots", world.place)["snapshots"] == []
    assert "no snapshot yet" in text("snapshots", world.place)
    assert answer("ls", world.place)["studies"] == []
    assert "holds nothing" in text("ls", world.place)
    assert answer("find", world.place, "x")["studies"] == []
    assert answer("find", world.place, "--duplicates")["duplicates"] == {
        "same_content": [],
        "same_uid": [],
    }
    assert "latest" not in text("diff", world.place, "latest", "latest", status=2).split("→")[0]


def test_studies_series_and_instances(world: World, source: Path) -> None:
    world.snapshot(world.back_up(source))
    found = {one["study_instance_uid"]: one for one in answer("ls", world.place)["studies"]}
    assert set(found) == {make_uid("one"), make_uid("two"), ""}
    one = found[make_uid("one")]
    assert (one["patient_name"], one["study_date"], one["modalities"], one["instances"]) == (
        "Doe^Jane",
        "20200102",
        ["CT"],
        4,
    )
    shown = text("ls", world.place)
    assert "Doe^Jane (TEST-0001)" in shown
    assert "2020-01-02" in shown
    assert "3 studies, 8 files" in shown
    study = answer("ls", world.place, make_uid("one"))["study"]
    assert [series["series_number"] for series in study["series"]] == ["1", "2"]
    instances = study["series"][1]["instances"]
    assert [one["instance_number"] for one in instances] == ["1", "2"]
    assert [one["locator"] for one in instances] == ["one/s02/i0001.dcm", "one/s02/i0002.dcm"]
    told = text("ls", world.place, make_uid("one"))
    assert all(one["sop_instance_uid"] in told for one in instances)
    (other,) = answer("ls", world.place, "-")["study"]["series"][0]["instances"]
    assert (other["locator"], other["is_dicom"]) == ("notes.txt", False)
    assert answer("ls", world.place, "1.2.3", status=2)["error"]["hint"]


def test_states_of_other_times(world: World, source: Path) -> None:
    links = three_snapshots(world, source)
    for options in (("--snapshot", digest(links[0])[:8]), ("--as-of", links[0].created_at)):
        found = answer("ls", world.place, *options)
        assert found["snapshots"] == [links[0].name]
        assert len(found["studies"]) == 3
    assert digest(links[0])[:8] in text("ls", world.place, "--snapshot", digest(links[0])[:8])
    assert len(answer("ls", world.place)["studies"]) == 5
    before = answer("ls", world.place, make_uid("one"), "--snapshot", digest(links[0]))
    assert before["study"]["patient_name"] == "Doe^Jane"


def test_what_no_snapshot_names_yet_is_seen(world: World, source: Path) -> None:
    world.back_up(source, flush_every=2)
    assert len(answer("ls", world.place)["studies"]) == 3
    assert answer("ls", world.place, make_uid("one"))["study"]["instances"] == 4


def test_finding(world: World, source: Path) -> None:
    world.snapshot(world.back_up(source))

    def found(*options: str) -> list[str]:
        return [
            one["study_instance_uid"] for one in answer("find", world.place, *options)["studies"]
        ]

    assert found("roe joao") == [make_uid("two")]
    assert found("--modality", "mr") == [make_uid("two")]
    assert found("--patient", "doe", "--date", "2020-01") == [make_uid("one")]
    assert found("--accession", "A-1", "--modality", "CT") == [make_uid("one")]
    assert found("--description", "synthetic", "--patient", "jane") == [make_uid("one")]
    assert found("--date", "1999") == []
    assert "Nothing was found" in text("find", world.place, "nobody")
    series = make_uid("one", make_uid("one"), 2)
    instance = make_uid("one", make_uid("one"), 2, 1)
    assert found("--uid", series) == found(instance) == [make_uid("one")]
    (one,) = answer("find", world.place, "--uid", series)["studies"]
    assert len(one["found_instances"]) == 2
    assert instance in text("find", world.place, instance)
    assert answer("find", world.place, "--date", "soon", status=2)["error"]["hint"]
    assert answer("find", world.place, "x", "--duplicates", status=2)["error"]


def test_duplicates(world: World, source: Path) -> None:
    twice = source / "two" / "s01" / "i0001.dcm"
    (source / "copy.dcm").write_bytes(twice.read_bytes())
    study, sop = make_uid("one"), make_uid("one", make_uid("one"), 1, 1)
    make_instance(source / "other.dcm", study, make_uid("x"), sop, patient_name="Other")
    make_instance(source / "elsewhere.dcm", make_uid("y"), make_uid("x"), sop)
    world.snapshot(world.back_up(source))
    found = answer("find", world.place, "--duplicates")["duplicates"]
    (same,) = found["same_content"]
    assert {one["locator"] for one in same} == {"copy.dcm", "two/s01/i0001.dcm"}
    (versions,) = found["same_uid"]
    assert {one["locator"] for one in versions} == {
        "one/s01/i0001.dcm",
        "other.dcm",
        "elsewhere.dcm",
    }
    assert {one["study_instance_uid"] for one in versions} == {study, make_uid("y")}
    shown = text("find", world.place, "--duplicates")
    assert "copy.dcm" in shown
    assert sop in shown


def test_differences(world: World, source: Path) -> None:
    links = three_snapshots(world, source)
    first, second, third = (digest(link)[:8] for link in links)
    found = answer("diff", world.place, first, third)
    assert (found["first"], found["second"]) == (links[0].name, links[2].name)
    kinds = {one["study_instance_uid"]: one for one in found["studies"]}
    assert {uid: one["kind"] for uid, one in kinds.items()} == {
        make_uid("one"): "changed",
        make_uid("three"): "added",
        make_uid("four"): "added",
    }
    changed = kinds[make_uid("one")]
    assert [len(changed[kind]) for kind in ("added", "removed", "changed")] == [0, 0, 2]
    back = answer("diff", world.place, third, first)["studies"]
    assert {one["kind"] for one in back} == {"changed", "removed"}
    assert [
        one["study_instance_uid"]
        for one in answer("diff", world.place, second, "latest")["studies"]
    ] == [make_uid("four")]
    shown = text("diff", world.place, first, third, "--instances")
    assert "2 studies added, 0 studies removed, 1 study changed" in shown
    assert "~ " in shown
    assert changed["changed"][0]["sop_instance_uid"] in shown
    assert "hold the same" in text("diff", world.place, first, first)
    assert answer("diff", world.place, "ffffffff", first, status=2)["error"]


def test_what_is_shown_is_harmless(world: World, source: Path) -> None:
    make_study(source / "evil", key="evil", instances=1, patient_name="A\x1b[2J\u202eB")
    (source / "x\x1b[31m.txt").write_bytes(b"red")
    links = [world.snapshot(world.back_up(source, source="/data/\x1b[2J"), source="/\x1b[2J")]
    for words in (
        ("snapshots", world.place),
        ("ls", world.place),
        ("ls", world.place, "-"),
        ("ls", world.place, make_uid("evil")),
        ("find", world.place, "A"),
        ("find", world.place, "--duplicates"),
        ("diff", world.place, digest(links[0]), digest(links[0])),
    ):
        shown = text(*words)
        assert "\x1b[2J" not in shown
        assert "\x1b[31m" not in shown
        assert "\u202e" not in shown


def test_a_damaged_vault_is_shown_as_far_as_it_can_be_read(world: World, source: Path) -> None:
    links = three_snapshots(world, source)
    (world.place / links[1].key).write_bytes(b"rotten")
    found = answer("snapshots", world.place, status=3)
    assert [one["name"] for one in found["snapshots"]] == [links[0].name, links[2].name]
    assert links[1].name in found["damage"][0]["message"]
    assert len(answer("ls", world.place, status=3)["studies"]) == 5
    for pack in files_below(world.place / "packs"):
        pack.write_bytes(b"rotten")
    assert answer("ls", world.place, status=3)["studies"] == []
    assert "holds nothing" in text("ls", world.place, status=3)


def test_a_forgotten_study_is_not_shown(world: World, source: Path) -> None:
    links = three_snapshots(world, source)
    world.clock.advance(1)
    forget_study(world.opened(), make_uid("two"))
    for options in ((), ("--snapshot", digest(links[0]))):
        found = answer("ls", world.place, *options)["studies"]
        assert make_uid("two") not in {one["study_instance_uid"] for one in found}
    assert answer("find", world.place, "--modality", "MR")["studies"] == []


def test_vaults_are_named_in_every_way(
    world: World, source: Path, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.snapshot(world.back_up(source))
    (home / "config.toml").write_text(
        f'[destinations.disk]\naddress = "vault:{world.place}"\n'
        f'[sources.old]\naddress = "vault:{world.place}"\n'
    )
    for name in ("disk", "old", f"vault:{world.place}", str(world.place)):
        assert len(answer("ls", name)["studies"]) == 3
    assert "not a vault" in text("ls", tmp_path / "source", status=2)
    assert answer("ls", f"vault:{tmp_path / 'none'}", status=5)["error"]["code"] == "vault_missing"
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "wrong")
    for words in (
        ("snapshots", "disk"),
        ("ls", "disk"),
        ("find", "disk"),
        ("diff", "disk", "a", "b"),
    ):
        assert answer(*words, status=5)["error"]["code"] == "vault_locked"


@pytest.mark.parametrize("language", ["en", "pt-BR"])
@pytest.mark.parametrize("command", ["restore", "snapshots", "ls", "find", "diff"])
def test_help(run_dcmvault: RunDcmvault, command: str, language: str) -> None:
    told = run_dcmvault("--lang", language, command, "--help")
    assert told.returncode == 0
    assert f"dcmvault {command} " in told.stdout
