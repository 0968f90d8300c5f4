"""What is forgotten in a vault, or damaged, is no longer shown, nor told as if it were nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.integration.archive_world import ArchiveWorld, found

from dcmvault.archives import vault as archives
from dcmvault.archives.vault import VaultArchive
from dcmvault.errors import VaultDamagedError
from dcmvault.model.query import InstanceBytes, QueryLevel, Selection
from dcmvault.testing.dicom_files import MadeInstance, make_study
from dcmvault.vault.index import RecordsRef
from dcmvault.vault.retention import forget_snapshots, forget_study
from dcmvault.vault.state import VaultState

_DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_LOOK_S", 0.05)


def _world(folder: Path) -> tuple[ArchiveWorld, list[MadeInstance], str]:
    world = ArchiveWorld(folder / "vault")
    made = [
        *make_study(folder / "a", key="a", instances=2),
        *make_study(folder / "b", key="b", instances=2),
    ]
    first = world.back_up([one.path for one in made])
    (more,) = make_study(folder / "c", key="c", instances=1)
    world.back_up([more.path], source="/other", run="run-2")
    return world, made, first


def _studies(archive: VaultArchive) -> set[str]:
    return {one[0x0020000D] for one in found(archive, QueryLevel.STUDY, StudyInstanceUID="")}


def _wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + _DEADLINE_S
    while not until():
        assert time.monotonic() < end, "it was never taken up"
        time.sleep(0.02)


@pytest.mark.parametrize("at_snapshot", [False, True])
def test_a_forgotten_study_is_shown_and_kept_no_longer(tmp_path: Path, at_snapshot: bool) -> None:
    """Also by a service that was started for one snapshot."""
    world, made, first = _world(tmp_path)
    gone = made[0].study_instance_uid
    with world.archive(first if at_snapshot else "") as archive:
        instances = archive.instances(Selection([gone]))
        assert all(isinstance(one, InstanceBytes) for one in archive.read(instances))
        assert archive._files.get(instances[0].file_sha256) is not None
        world.clock.advance(1)
        forget_study(world.opened(), gone)
        _wait(lambda: gone not in _studies(archive))
        assert archive.instances(Selection([gone])) == []
        assert made[-1].study_instance_uid in _studies(archive)
        _wait(lambda: archive._files.get(instances[0].file_sha256) is None)


def test_a_forgotten_snapshot_is_shown_no_longer(tmp_path: Path) -> None:
    world, made, first = _world(tmp_path)
    with world.archive(first) as archive:
        assert len(_studies(archive)) == 2
        world.clock.advance(1)
        forget_snapshots(world.opened(), [first])
        _wait(lambda: not _studies(archive))
        assert archive.instances(Selection([made[0].study_instance_uid])) == []


def test_a_study_whose_records_are_damaged_is_an_error_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a retrieval of it would end with success, and nothing."""
    world, made, _first = _world(tmp_path)
    damaged = made[0].study_instance_uid
    archive = world.archive()
    state = type(archive._view.legible._state)
    counting = state.counting

    def rotten(self: object, refs: list[object]) -> object:
        if any(getattr(ref, "study_instance_uid", "") == damaged for ref in refs):
            raise VaultDamagedError("a blob is damaged")
        return counting(self, refs)  # type: ignore[arg-type]

    monkeypatch.setattr(state, "counting", rotten)
    assert damaged in _studies(archive)
    for _time in range(2):
        with pytest.raises(VaultDamagedError):
            archive.instances(Selection([damaged]))
    assert len(archive.instances(Selection([made[-1].study_instance_uid]))) == 2
    assert archive.instances(Selection(["1.2.3.4"])) == []


def _with_one_rotten_part(monkeypatch: pytest.MonkeyPatch, rotten: str) -> None:
    """Have the first part of a study's records be damaged, wherever it is read."""
    counting = VaultState.counting
    bad: set[bytes] = set()

    def spoilt(self: VaultState, refs: Sequence[RecordsRef]) -> object:
        for ref in refs:
            if ref.study_instance_uid == rotten and not bad:
                bad.add(ref.id)
            if ref.id in bad:
                raise VaultDamagedError("a blob is damaged")
        return counting(self, refs)

    monkeypatch.setattr(VaultState, "counting", spoilt)


def test_a_study_of_which_a_part_is_damaged_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retrieval of it must not end as if that were all; one of what is there may."""
    world = ArchiveWorld(tmp_path / "vault")
    first, second = make_study(tmp_path / "a", key="a", instances=2)
    other, _more = make_study(tmp_path / "b", key="b", instances=2)
    world.back_up([first.path, other.path])
    world.back_up([second.path], source="/other", run="run-2")
    study = first.study_instance_uid
    whole = Selection([study])
    archive = world.archive()
    found = archive.instances(whole)
    assert len(found) == 2
    assert archive.is_whole(whole, found)
    _with_one_rotten_part(monkeypatch, study)
    archive = world.archive()
    found = archive.instances(whole)
    assert len(found) == 1
    assert not archive.is_whole(whole, found)
    alone = Selection([study], (), [found[0].sop_instance_uid])
    assert archive.is_whole(alone, archive.instances(alone))
    unhurt = Selection([other.study_instance_uid])
    assert archive.is_whole(unhurt, archive.instances(unhurt))
