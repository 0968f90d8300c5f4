"""What cannot be mended: it is named, given up on demand, and stored again by the next backup."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
from tests.integration.damage_world import DamageWorld, base_of, flipped, make_world

from dcmvault.dicom.part10 import scan
from dcmvault.errors import DestinationUnreachableError, VaultBusyError
from dcmvault.vault.blob import BlobType
from dcmvault.vault.chain import KnownSnapshot, Witness
from dcmvault.vault.check import CheckRequest, check, open_keyless
from dcmvault.vault.findings import Trouble
from dcmvault.vault.lease import hold_lease
from dcmvault.vault.pack import blob_rows, pack_key
from dcmvault.vault.repair import RepairRequest, repair
from dcmvault.vault.retention import forget_snapshots, forget_study, hold_study
from dcmvault.vault.snapshot import heads
from dcmvault.vault.state import present_state, state_at

GIVE_UP = RepairRequest(drop_lost=True)


@pytest.fixture(name="world", params=[True, False], ids=["encrypted", "plain"])
def _world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DamageWorld:
    """Make a vault as in a bucket: one copy, no parity."""
    folder = tmp_path_factory.mktemp("source")
    world = make_world(folder, encrypted=request.param, redundant=False)
    world.vault.refresh()
    return world


def _packs(world: DamageWorld, kind: BlobType) -> Iterator[str]:
    """List the packs that have a blob of this type."""
    for pack in world.vault.index.packs.values():
        if any(row.type is kind for row in blob_rows(pack.rows)):
            yield pack_key(pack.name)


def _break(world: DamageWorld, key: str) -> None:
    for place, content in world.store.objects().items():
        if base_of(place) == key:
            world.store.harm(place, flipped(content, 8 * (len(content) // 2)))


def _drop(world: DamageWorld, key: str) -> None:
    for place in world.store.objects():
        if base_of(place) == key:
            world.store.harm(place, None)


def _comes_through(world: DamageWorld) -> None:
    """What is left can be restored; what was lost can be stored anew, pruned around, forgotten."""
    files = world.files()
    left = world.restored()
    assert left.items() <= files.items()
    new, link = world.back_up(run="again")
    assert new == len(files) - len(left)
    assert world.restored() == files
    assert world.check().errors == ()
    world.prune()
    assert world.check().errors == ()
    assert world.restored() == files
    world.clock.advance(60)
    assert link is None or link.name in {one.name for one in world.vault.unread().links()}
    forgotten = world.study_of("first")
    forget_study(world.vault.unread(), forgotten)
    world.prune()
    world.prune()
    assert world.check().errors == ()
    of_study = {
        path.relative_to(world.folder).as_posix()
        for path in world.folder.rglob("*.dcm")
        if scan(path).study_instance_uid == forgotten
    }
    assert world.restored() == {
        name: content for name, content in files.items() if name not in of_study
    }


@pytest.mark.parametrize("harm", [_break, _drop], ids=["damaged", "gone"])
@pytest.mark.parametrize("kind", [BlobType.FRAME, BlobType.RECORDS, BlobType.STATE])
def test_each_lost_pack_is_named_given_up_and_stored_again(
    world: DamageWorld, kind: BlobType, harm: Callable[[DamageWorld, str], None]
) -> None:
    packs = list(_packs(world, kind))
    assert packs
    for key in packs:
        world.store.heal()
        harm(world, key)
        found = world.check()
        assert not found.is_sound
        assert not found.is_mendable
        assert found.lost
        (of_pack,) = [one for one in found.errors if one.key == key]
        untouched = world.store.objects()
        result = repair(world.vault)
        assert not result.after.is_sound
        assert result.snapshot is None
        assert result.lost == of_pack.studies
        untouched.pop("lease")
        assert {**untouched, "lease": world.store.objects()["lease"]} == world.store.objects()
        result = repair(world.vault, GIVE_UP)
        assert result.after.errors == ()
        assert result.snapshot is not None
        assert set(result.given_up) == set(of_pack.studies)
        lost = {one for one in world.files() if one not in world.restored()}
        known = {sop for sops in of_pack.studies.values() for sop in sops}
        assert len(lost) >= len(known)
        assert world.check().errors == ()
        _comes_through(world)


def test_of_a_pack_that_is_damaged_in_one_place_the_rest_is_kept(world: DamageWorld) -> None:
    pack = next(
        one
        for one in world.vault.index.packs.values()
        if sum(row.type is BlobType.FRAME for row in blob_rows(one.rows)) > 1
    )
    row = next(row for row in blob_rows(pack.rows) if row.type is BlobType.FRAME)
    key = pack_key(pack.name)
    content = world.store.objects()[key]
    world.store.harm(key, flipped(content, 8 * (row.offset + row.length // 2)))
    (finding,) = world.check().errors
    assert finding.key == key
    assert [len(instances) for instances in finding.studies.values()] == [1]
    result = repair(world.vault, GIVE_UP)
    assert result.given_up == finding.studies
    assert len(world.restored()) == len(world.files()) - 1
    assert key not in world.store.objects()
    _comes_through(world)


def test_a_writer_at_work_leans_on_nothing_that_was_given_up(world: DamageWorld) -> None:
    writer = world.vault.unread()
    writer.refresh()
    (world.folder / "again").mkdir()
    for path in (world.folder / "first").rglob("*.dcm"):
        (world.folder / "again" / path.name).write_bytes(path.read_bytes())
    for key in _packs(world, BlobType.FRAME):
        _break(world, key)
    before = writer.ledger.condemned
    repair(world.vault, GIVE_UP)
    assert writer.ledger.look_at_condemned() > before
    _comes_through(world)


def test_old_snapshots_show_what_is_left_of_them(world: DamageWorld) -> None:
    first = world.vault.links()[0]
    (key,) = [
        pack_key(pack.name)
        for pack in world.vault.index.packs.values()
        if any(row.type is BlobType.HEADERS for row in blob_rows(pack.rows))
        and world.study_of("first") in _touched_by(world, pack_key(pack.name))
    ]
    _drop(world, key)
    repair(world.vault, GIVE_UP)
    old = state_at(world.vault.unread(), [first])
    assert old.records(world.study_of("first")) == []
    world.back_up()
    assert world.check().errors == ()


def _touched_by(world: DamageWorld, key: str) -> set[str]:
    _drop(world, key)
    found = {uid for finding in world.check().errors for uid in finding.studies}
    world.store.heal()
    return found


@pytest.mark.parametrize("harm", [_break, _drop], ids=["damaged", "gone"])
def test_a_lost_snapshot_is_named_and_its_studies_are_found_again(
    world: DamageWorld, harm: Callable[[DamageWorld, str], None]
) -> None:
    links = world.vault.links()
    known = [KnownSnapshot(link.name, link.generation) for link in links]
    for link in links:
        world.store.heal()
        harm(world, link.key)
        found = check(world.vault, CheckRequest(), Witness(known))
        assert [one.key for one in found.errors if one.trouble is not Trouble.ROLLED_BACK] == [
            link.key
        ]
        assert not found.is_mendable
        result = repair(world.vault, GIVE_UP, Witness(known))
        assert result.snapshot is not None
        if harm is _break or link.name not in {one.name for one in heads(links)}:
            assert world.restored() == world.files()
        after = check(world.vault, CheckRequest(read_data=True), Witness(known))
        assert after.errors == ()
        _comes_through(world)


def test_holds_and_what_was_forgotten_outlive_the_newest_snapshot(world: DamageWorld) -> None:
    world.back_up()
    world.clock.advance(60)
    hold_study(world.vault.unread(), world.study_of("first"), "a lawsuit")
    world.clock.advance(60)
    forget_study(world.vault.unread(), world.study_of("second"))
    world.clock.advance(60)
    (world.folder / "third" / "more.txt").write_text("more")
    for path in list((world.folder / "second").rglob("*.dcm")):
        path.unlink()
    newest = world.back_up()[1]
    assert newest is not None
    _break(world, newest.key)
    result = repair(world.vault, GIVE_UP)
    assert result.notes
    now = present_state(world.vault.unread())
    assert set(now.holds()) == {world.study_of("first")}
    assert world.restored() == world.files()


@pytest.mark.parametrize("kind", [BlobType.FRAME, BlobType.STATE])
def test_a_repair_that_is_interrupted_anywhere_is_done_by_the_next(
    world: DamageWorld, kind: BlobType
) -> None:
    key = next(_packs(world, kind))
    left: dict[str, bytes] = {}
    for writes in range(1000):
        world.store.heal()
        _break(world, key)
        world.store.writes_left = writes
        try:
            repair(world.vault, GIVE_UP)
        except DestinationUnreachableError:
            pass
        else:
            break
        finally:
            world.store.writes_left = math.inf
        world.clock.advance(3600)
        assert repair(world.vault, GIVE_UP).after.errors == (), writes
        left = world.restored()
        assert left.items() <= world.files().items()
        assert world.back_up()[0] == len(world.files()) - len(left)
        assert world.restored() == world.files()
        assert world.check().errors == ()
    assert writes > 5
    assert left == world.restored()


def test_a_repair_waits_for_nobody(world: DamageWorld) -> None:
    with (
        hold_lease(world.store, world.clock, "prune"),
        pytest.raises(VaultBusyError, match="prune"),
    ):
        repair(world.vault)


# Against an outside witness


@pytest.fixture(name="redundant")
def _redundant(tmp_path_factory: pytest.TempPathFactory) -> DamageWorld:
    world = make_world(tmp_path_factory.mktemp("source"))
    world.back_up()
    world.store.freeze()
    return world


def _known(world: DamageWorld) -> list[KnownSnapshot]:
    return [KnownSnapshot(link.name, link.generation) for link in world.vault.unread().links()]


def test_the_newest_snapshot_deleted_is_found_by_the_witness_only(redundant: DamageWorld) -> None:
    known = _known(redundant)
    newest = known[-1]
    _drop(redundant, f"snapshots/{newest.name}")
    alone = redundant.check()
    assert alone.errors == ()
    for witness in (Witness(known), Witness([newest]), Witness(head=newest.name)):
        for vault in (redundant.vault, open_keyless(redundant.store)):
            found = {one.trouble for one in check(vault, CheckRequest(), witness).errors}
            assert found == {Trouble.ROLLED_BACK, Trouble.SNAPSHOT_GONE}


def test_a_middle_snapshot_deleted_is_found_from_its_children(redundant: DamageWorld) -> None:
    middle = _known(redundant)[1]
    _drop(redundant, f"snapshots/{middle.name}")
    (found,) = redundant.check(read_data=False).errors
    assert found.trouble is Trouble.SNAPSHOT_GONE
    assert found.key == f"snapshots/{middle.name}"
    keyless = check(open_keyless(redundant.store))
    assert [one.key for one in keyless.findings] == [found.key]


def test_a_snapshot_removed_and_built_over_is_found_by_the_witness(redundant: DamageWorld) -> None:
    known = _known(redundant)
    _drop(redundant, f"snapshots/{known[-1].name}")
    (redundant.folder / "third" / "more.txt").write_text("more")
    redundant.back_up()
    (redundant.folder / "third" / "more still.txt").write_text("more")
    redundant.back_up()
    assert redundant.check().errors == ()
    (found,) = check(redundant.vault, CheckRequest(), Witness(known)).errors
    assert found.trouble is Trouble.SNAPSHOT_GONE
    assert found.key == f"snapshots/{known[-1].name}"


def test_a_vault_rolled_back_as_a_whole_is_found_by_the_witness(redundant: DamageWorld) -> None:
    before = redundant.store.objects()
    (redundant.folder / "third" / "more.txt").write_text("more")
    redundant.back_up()
    known = _known(redundant)
    for place in redundant.store.objects().keys() - before.keys():
        redundant.store.harm(place, None)
    for place, content in before.items():
        redundant.store.harm(place, content)
    assert redundant.check().errors == ()
    found = check(redundant.vault, CheckRequest(), Witness(known)).errors
    assert Trouble.ROLLED_BACK in {one.trouble for one in found}
    empty = Witness([KnownSnapshot("00000001-" + "0" * 64, 1)])
    assert check(redundant.vault, CheckRequest(), empty).errors


def test_snapshots_that_were_forgotten_are_not_missed(redundant: DamageWorld) -> None:
    known = _known(redundant)
    forget_snapshots(redundant.vault.unread(), [one.name for one in known[:-1]])
    redundant.prune()
    result = check(redundant.vault, CheckRequest(), Witness(known))
    assert result.findings == ()
    keyless = check(open_keyless(redundant.store), CheckRequest(), Witness(known))
    assert keyless.errors == ()
    assert {one.trouble for one in keyless.findings} == {Trouble.SNAPSHOT_GONE}
