"""A vault is backed up like any other source: to a folder, and to another vault."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault
from tests.integration.rescue_world import PASSPHRASE, World, contents, files_below
from tests.integration.story import instances, summary_of

from dcmvault.catalogue import open_catalogue
from dcmvault.config.sections import FolderSourceSection, VaultSourceSection
from dcmvault.errors import UsageError
from dcmvault.model.evidence import Level
from dcmvault.model.instance import InstanceEntry, InstanceFile
from dcmvault.model.plan import Strategy
from dcmvault.pipeline.selection import select_from
from dcmvault.sources.folder import FolderSource
from dcmvault.sources.vault import VaultSource
from dcmvault.testing.dicom_files import make_instance, make_study
from dcmvault.testing.recipe_files import write_recipe_files
from dcmvault.vault.blob import BlobType
from dcmvault.vault.choosing import short_id
from dcmvault.vault.state import present_state


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for key in ("one", "two", "three"):
        make_study(folder / key, key=key, series=2, instances=2)
    return folder


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "vault", redundant=False)


def opened(world: World, snapshot: str = "") -> VaultSource:
    return VaultSource(VaultSourceSection(location=str(world.place)), world.opened, snapshot)


def entries(source: VaultSource) -> list[InstanceEntry]:
    return [entry for study in source.studies() for entry in source.entries(study)]


def test_from_a_vault_to_a_folder_and_to_a_vault(
    world: World, source: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    world.snapshot(world.back_up(source))
    other = World(tmp_path / "other", redundant=False)
    folder = tmp_path / "folder"
    address = f"vault:{world.place}"
    to = ("--to", folder, "--to", f"vault:{other.place}")
    summary = summary_of(run_dcmvault("backup", address, *to, "--verify", "proven", "--json"))
    assert summary["source"] == address
    assert instances(summary) == {"selected": 24, "stored": 24}
    wanted = sorted(contents(source).values())
    assert set(wanted) <= set(contents(folder).values())
    records = [
        record.file_sha256.hex()
        for uid in present_state(other.opened()).studies()
        for record in present_state(other.opened()).records(uid)
    ]
    assert sorted(records) == wanted
    again = summary_of(run_dcmvault("backup", address, *to, "--verify", "proven", "--json"))
    assert instances(again) == {"already_held": 24}
    restored = tmp_path / "restored"
    summary_of(run_dcmvault("restore", other.place, restored, "--json"))
    assert sorted(contents(restored).values()) == wanted


def test_a_wrong_passphrase_is_said_so(
    world: World, source: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    world.snapshot(world.back_up(source))
    done = run_dcmvault(
        "backup",
        f"vault:{world.place}",
        "--to",
        tmp_path / "folder",
        "--json",
        env={"DCMVAULT_PASSPHRASE": "wrong"},
    )
    summary = summary_of(done, 5)
    assert summary["error"]["code"] == "vault_locked"


def test_every_kind_of_file_is_read_back(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    write_recipe_files(folder)
    world.snapshot(world.back_up(folder))
    reader = opened(world)
    found, places = [], set()
    for answer in reader.read(entries(reader)):
        assert isinstance(answer, InstanceFile)
        places.add(answer.path.parent)
        found.append(answer.path.read_bytes())
        assert answer.path.stat().st_mtime_ns == answer.entry.fingerprint.mtime_ns
        assert answer.path.stat().st_mode & 0o777 == 0o600
    assert sorted(found) == sorted(path.read_bytes() for path in files_below(folder))
    assert not any(place.exists() for place in places)


def test_a_snapshot_is_a_source_too(world: World, source: Path) -> None:
    first = world.snapshot(world.back_up(source))
    make_study(source / "four", key="four")
    world.snapshot(world.back_up(source, run="run-2"))
    older = opened(world, first.name)
    assert older.name == f"{opened(world).name}#{first.name}"
    assert len(entries(older)) == 12
    assert len(entries(opened(world))) == 15
    assert all(isinstance(answer, InstanceFile) for answer in older.read(entries(older)))
    with pytest.raises(UsageError):
        list(opened(world, "00000000").studies())


def test_versions_and_sources_have_entries_of_their_own(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    make_instance(folder / "x.dcm", "1.2.3", "1.2.3.4", "1.2.3.4.5")
    world.back_up(folder, source="/one")
    world.back_up(folder, source="/two")
    make_instance(folder / "x.dcm", "1.2.3", "1.2.3.4", "1.2.3.4.6")
    world.back_up(folder, source="/two")
    found = entries(opened(world))
    assert len({entry.locator for entry in found}) == len(found) == 3
    assert sorted(entry.expected_sop_instance_uid for entry in found) == [
        "1.2.3.4.5",
        "1.2.3.4.5",
        "1.2.3.4.6",
    ]


def test_one_damaged_file_does_not_stop_the_others(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    make_study(folder, key="one", instances=5, rows=64, columns=64)
    world.snapshot(world.back_up(folder))
    reader = opened(world)
    listed = entries(reader)
    vault = world.opened()
    records = present_state(vault).records(next(reader.studies()).study_instance_uid)
    kind, blob = next(one for one in records[2].blob_ids() if one[0] == "F")
    (place,) = vault.index.places(BlobType(kind), blob)
    pack = world.place / "packs" / place.pack.hex()[:2] / place.pack.hex()
    data = bytearray(pack.read_bytes())
    data[place.offset + 5] ^= 1
    pack.write_bytes(data)
    answers = list(reader.read(listed))
    bad = [answer for answer in answers if not isinstance(answer, InstanceFile)]
    assert [answer.entry.expected_sop_instance_uid for answer in bad] == [
        records[2].sop_instance_uid
    ]
    assert bad[0].code == "unreadable"
    assert bad[0].message.endswith(".")
    assert len(answers) == 5


@pytest.mark.peers
def test_a_snapshot_of_a_vault_goes_to_a_pacs_and_to_another_vault(
    world: World, source: Path, tmp_path: Path, run_dcmvault: RunDcmvault, orthanc: Orthanc
) -> None:
    """What was stored after the snapshot stays out, and what was changed is as it was then."""
    changed = next(path for path in sorted(source.rglob("*")) if path.is_file())
    first = world.snapshot(world.back_up(source))
    then = contents(source)
    made = pydicom.dcmread(changed)
    made.StudyDescription = "Changed later"
    made.save_as(changed)
    make_study(source / "later", key="later", instances=2)
    world.snapshot(world.back_up(source))
    other = World(tmp_path / "other", redundant=False)
    pacs = f"dicom://{orthanc.ae_title}@{orthanc.host}:{orthanc.dicom_port}"
    address = f"vault:{world.place}#{short_id(first.name)}"
    to = ("--to", pacs, "--to", f"vault:{other.place}")
    summary = summary_of(run_dcmvault("backup", address, *to, "--json"))
    assert summary["source"] == address
    assert instances(summary) == {"selected": 2 * len(then), "stored": 2 * len(then)}
    restored = tmp_path / "restored"
    summary_of(run_dcmvault("restore", other.place, restored, "--json"))
    assert sorted(contents(restored).values()) == sorted(then.values())
    assert len(orthanc.instances()) == len(then)
    again = summary_of(run_dcmvault("backup", address, *to, "--json"))
    assert instances(again) == {"already_held": 2 * len(then)}


@pytest.mark.parametrize("catalogue_knows", [False, True])
def test_planning_from_a_vault_rebuilds_nothing(
    world: World,
    source: Path,
    tmp_path: Path,
    home: Path,
    run_dcmvault: RunDcmvault,
    monkeypatch: pytest.MonkeyPatch,
    catalogue_knows: bool,
) -> None:
    """Its records name UIDs and digests, also of what the catalogue knows from the folder."""
    world.snapshot(world.back_up(source))
    if catalogue_knows:
        summary_of(run_dcmvault("backup", source, "--to", tmp_path / "copies", "--json"))
    vault = opened(world)
    monkeypatch.setattr(VaultSource, "read", lambda *_arguments, **_options: pytest.fail("read"))
    catalogue = open_catalogue(str(home / "catalogue.sqlite3"))
    counts = select_from(
        vault,
        catalogue.sources,
        None,
        include_other_files=False,
        listed=lambda _entries: None,
        open_other=lambda _address: FolderSource(FolderSourceSection(path=source)),
    )
    assert counts.new == 12
    vault_id = catalogue.sources.source(vault.name)
    due = catalogue.plans.due(
        vault_id,
        catalogue.plans.destination(str(tmp_path / "copies")),
        strategy=Strategy.INCREMENTAL,
        level=Level.PROVEN,
        run_id=None,
    )
    assert len(list(due)) == (0 if catalogue_knows else 12)
    catalogue.close()


@pytest.mark.parametrize("snapshot", ["0123456789ab", "latest"])
def test_a_snapshot_that_is_not_there_is_said_so(
    tmp_path: Path, run_dcmvault: RunDcmvault, snapshot: str
) -> None:
    vault = f"vault:{tmp_path / 'empty'}"
    assert run_dcmvault("vault", "init", vault).returncode == 0
    done = run_dcmvault("backup", f"{vault}#{snapshot}", "--to", tmp_path / "copies", "--json")
    summary = summary_of(done, exit_status=2)
    assert "no snapshot" in summary["error"]["message"]


def test_what_cannot_be_a_snapshot_is_refused_at_once(
    tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    done = run_dcmvault("backup", f"vault:{tmp_path}/a#b/c", "--to", tmp_path / "copies", "--json")
    assert summary_of(done, exit_status=2)["error"]["code"] == "bad_address"
