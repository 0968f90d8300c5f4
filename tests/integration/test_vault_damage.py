"""A vault is damaged in every way that its store can: all of it is found, and all of it mended."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator

import pytest
from tests.integration.damage_world import DamageWorld, base_of, flipped, grow_old, make_world

from dcmvault.errors import DestinationUnreachableError, UsageError
from dcmvault.vault.check import CheckRequest, check, check_object, open_keyless, read_subset
from dcmvault.vault.copies import is_sound
from dcmvault.vault.findings import Finding
from dcmvault.vault.lease import LEASE_KEY
from dcmvault.vault.mending import mend_object
from dcmvault.vault.repair import repair

Harm = Callable[[bytes], bytes | None]

_AREAS = (
    "README.txt",
    "ballast",
    "condemned/",
    "config",
    "index/",
    "journal/",
    "keys/",
    "lease",
    "packs/",
    "parity/",
    "rescue/",
    "snapshots/",
)
_HARMS: dict[str, Harm] = {
    "flipped": lambda content: flipped(content, 8 * (len(content) // 2) + 3),
    "emptied": lambda _content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeroed": lambda content: bytes(len(content)),
    "deleted": lambda _content: None,
}
encrypted_or_not = pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])


@pytest.fixture(scope="module", name="old_world")
def _old_world(tmp_path_factory: pytest.TempPathFactory) -> DamageWorld:
    world = make_world(tmp_path_factory.mktemp("source"))
    grow_old(world, tmp_path_factory.mktemp("sidecar") / "albums.json")
    world.vault.refresh()
    return world


@pytest.fixture(name="world")
def _world(old_world: DamageWorld) -> Iterator[DamageWorld]:
    old_world.store.heal()
    yield old_world
    old_world.store.heal()


def _flip_each(world: DamageWorld, area: str, bits: Callable[[int], Iterator[int]]) -> None:
    """Flip bits of all copies of all objects of an area, one at a time: found, and mended.

    `check_object` and `mend_object` are what `check` and `repair` do with each object.
    """
    store, vault, trials = world.store, world.vault, 0
    for place, content in store.objects().items():
        key = base_of(place)
        if not key.startswith(area):
            continue
        for bit in bits(len(content)):
            store.harm(place, flipped(content, bit))
            found = check_object(vault, key).findings
            assert found, (place, bit)
            assert all(finding.mendable for finding in found), (place, bit)
            if key != LEASE_KEY:  # written anew by whoever takes it
                assert place in mend_object(vault, key), (place, bit)
                assert store.is_whole(), (place, bit)
            store.heal()
            trials += 1
    assert trials


@pytest.mark.parametrize("area", _AREAS)
def test_a_flipped_bit_in_each_byte_is_found_and_mended(world: DamageWorld, area: str) -> None:
    _flip_each(world, area, lambda size: (8 * byte + byte % 8 for byte in range(size)))


@pytest.mark.nightly
@pytest.mark.parametrize("area", _AREAS)
def test_each_flipped_bit_is_found_and_mended(world: DamageWorld, area: str) -> None:
    _flip_each(world, area, lambda size: iter(range(8 * size)))


def test_objects_cut_and_grown_to_any_length_are_found_and_mended(world: DamageWorld) -> None:
    for place, content in world.store.objects().items():
        if place == LEASE_KEY:
            continue
        step = max(len(content) // 20, 1)
        grown = [content + b"\0", content + content]
        for harmed in [*(content[:size] for size in range(0, len(content), step)), *grown]:
            world.store.harm(place, harmed)
            found = check_object(world.vault, base_of(place)).findings
            assert found, (place, len(harmed))
            assert all(finding.mendable for finding in found), (place, len(harmed))
            mend_object(world.vault, base_of(place))
            assert world.store.is_whole(), (place, len(harmed))
            world.store.heal()


def test_a_flipped_bit_in_each_byte_is_found_without_keys(world: DamageWorld) -> None:
    keyless = open_keyless(world.store)
    for place, content in world.store.objects().items():
        for byte in range(len(place) % 5, len(content), 5):
            world.store.harm(place, flipped(content, 8 * byte + byte % 8))
            assert check_object(keyless, base_of(place)).findings, (place, byte)
            world.store.heal()


def test_the_sound_vault_is_sound_at_every_level(world: DamageWorld) -> None:
    for read_data in (False, True):
        result = world.check(read_data=read_data)
        assert result.findings == ()
        assert result.is_sound
        assert not result.lost
    keyless = check(open_keyless(world.store))
    assert keyless.is_sound
    assert keyless.level == "keyless"
    # Which snapshots were forgotten is a secret.
    assert {finding.trouble.value for finding in keyless.findings} <= {"snapshot_gone"}
    areas = {base_of(place).partition("/")[0] for place in world.store.objects()}
    assert areas == {area.rstrip("/") for area in _AREAS}
    assert world.restored() == world.files()


@pytest.mark.parametrize("harm", _HARMS.values(), ids=_HARMS)
def test_each_damaged_object_is_found_by_a_check_and_mended_by_a_repair(
    world: DamageWorld, harm: Harm
) -> None:
    store = world.store
    for place, content in store.objects().items():
        harmed = harm(content)
        if harmed == content:
            continue
        store.harm(place, harmed)
        found = world.check()
        assert place == LEASE_KEY or _is_named(place, found.findings), place
        result = repair(world.vault)
        if harmed is None and _is_garbage(world, place):
            store.heal()  # what a prune was about to remove may be gone
            continue
        assert result.after.findings == (), place
        assert store.is_whole(), place
        store.heal()


def test_objects_in_each_others_place_are_found_and_mended(world: DamageWorld) -> None:
    store, chance = world.store, random.Random(3)
    objects = store.objects()
    for place, content in objects.items():
        others = [one for one in objects if objects[one] != content and one != LEASE_KEY]
        other = chance.choice(others)
        if place == LEASE_KEY:
            continue
        store.harm(place, objects[other])
        store.harm(other, content)
        named = _named(world.check().findings)
        assert {base_of(place), base_of(other)} <= named, (place, other)
        result = repair(world.vault)
        if store.is_whole():
            assert result.after.findings == (), (place, other)
        else:  # a pack and its own parity, both lost
            assert not result.after.is_sound, (place, other)
        store.heal()


def test_what_is_gone_or_cut_is_seen_without_reading_packs(world: DamageWorld) -> None:
    store = world.store
    packs = [place for place in store.objects() if place.startswith("packs/")]
    for place, content in store.objects().items():
        if place == LEASE_KEY:
            continue
        for harmed in (None, content[:-1]):
            store.harm(place, harmed)
            store.bytes_got = 0
            found = world.check(read_data=False)
            if place.startswith("parity/") and harmed is not None:
                assert found.is_sound  # the size of a parity object is known from its bytes only
            else:
                assert _is_named(place, found.findings), place
            store.heal()
    store.bytes_got = 0
    world.check(read_data=False)
    assert store.bytes_got < sum(map(len, store.objects().values()))
    assert packs


def test_objects_that_the_medium_gives_in_part_are_found_and_mended(world: DamageWorld) -> None:
    store = world.store
    for place, content in store.objects().items():
        if place == LEASE_KEY:
            continue
        store.bad_spots[place] = len(content) - 1
        assert base_of(place) in _named(world.check().findings), place
        result = repair(world.vault)
        assert result.after.findings == (), place
        assert not store.bad_spots, place
        assert store.is_whole(), place
        store.heal()


def test_mending_that_is_interrupted_anywhere_is_done_by_the_next(world: DamageWorld) -> None:
    store, interrupted = world.store, 0
    for place, content in store.objects().items():
        for writes in range(20):
            store.harm(place, flipped(content, 8 * (len(content) // 3)))
            store.writes_left = writes
            try:
                mend_object(world.vault, base_of(place))
            except DestinationUnreachableError:
                interrupted += 1
            else:
                break
            finally:
                store.writes_left = math.inf
            mend_object(world.vault, base_of(place))
            assert store.is_whole(), (place, writes)
            store.heal()
        store.heal()
    assert interrupted > len(store.objects())


def test_a_lease_that_is_damaged_is_written_anew(world: DamageWorld) -> None:
    content = world.store.objects()[LEASE_KEY]
    world.store.harm(LEASE_KEY, flipped(content, 77))
    assert _named(world.check().findings) == {LEASE_KEY}
    result = repair(world.vault)
    assert result.after.findings == ()
    assert is_sound(LEASE_KEY, world.store.objects()[LEASE_KEY])


def test_three_copies_damaged_at_different_places_are_mended(world: DamageWorld) -> None:
    store = world.store
    keys = [key for key in store.objects() if f"copies/1/{key}" in store.objects()]
    for key in keys:
        content = store.objects()[key]
        for number, place in enumerate((key, f"copies/1/{key}", f"copies/2/{key}")):
            store.harm(place, flipped(content, 8 * (5 + number) + number))
        assert base_of(key) in _named(world.check().findings)
        result = repair(world.vault)
        assert result.after.findings == (), key
        assert key.startswith(("README", "rescue/")) or store.is_whole(), key
        store.heal()


def test_a_pack_and_its_parity_damaged_both_are_mended(world: DamageWorld) -> None:
    store = world.store
    objects = store.objects()
    for pack in [place for place in objects if place.startswith("packs/")]:
        (parity,) = [one for one in objects if one.startswith(f"parity/{pack[6:]}.")]
        store.harm(pack, flipped(objects[pack], 999))
        store.harm(parity, flipped(objects[parity], 8 * (len(objects[parity]) - 1)))
        assert {pack, parity} <= _named(world.check().findings)
        assert repair(world.vault).after.findings == ()
        assert store.is_whole()
        store.heal()


@encrypted_or_not
def test_all_indexes_and_journals_are_made_anew_from_the_packs(
    tmp_path_factory: pytest.TempPathFactory, encrypted: bool
) -> None:
    world = make_world(tmp_path_factory.mktemp("source"), encrypted=encrypted)
    lists = [one for one in world.store.objects() if base_of(one).startswith(("index/", "journal"))]
    for place in lists:
        world.store.harm(place, b"nothing of it is left")
    assert not world.check().is_sound
    result = repair(world.vault)
    assert result.after.findings == ()
    assert not result.lost
    assert world.restored() == world.files()
    assert world.back_up()[0] == 0
    for place in [one for one in world.store.objects() if base_of(one).startswith("index/")]:
        world.store.harm(place, None)
    assert not world.check().is_sound
    assert repair(world.vault).after.findings == ()
    assert world.restored() == world.files()


def test_a_check_sees_no_damage_where_others_are_at_work(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    world = make_world(tmp_path_factory.mktemp("source"))
    (world.folder / "fifth").mkdir()
    (world.folder / "fifth" / "notes.txt").write_text("another one")
    for listing in range(30):
        world.store.heal()
        left = iter(range(listing))

        def work(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                world.store.before_keys = lambda: None
                world.back_up()

        world.store.before_keys = work
        result = world.check(read_data=listing % 2 == 0)
        world.store.before_keys = lambda: None
        assert result.is_sound, (listing, result.errors)


def test_a_part_of_the_packs_is_read(world: DamageWorld) -> None:
    small = world.check(read_data=False).bytes_read
    large = {one: len(x) for one, x in world.store.objects().items() if one.startswith("pa")}
    rest = world.check().bytes_stored - sum(large.values())
    read = 0
    for part in range(1, 4):
        result = check(world.vault, CheckRequest(True, read_subset(f"{part}/3")))
        assert result.level == "subset"
        assert small < result.bytes_read < result.bytes_stored
        read += result.bytes_read - rest
    assert read == sum(large.values())
    assert check(world.vault, CheckRequest(True, read_subset("100%"))).bytes_read == read + rest


@pytest.mark.parametrize("text", ["", "5", "0%", "101%", "x%", "0/3", "4/3", "1/0", "a/b", "-1/3"])
def test_what_is_no_part_of_a_vault_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_subset(text)


def test_progress_counts_every_byte(world: DamageWorld) -> None:
    said: list[tuple[int, int]] = []
    result = check(
        world.vault,
        CheckRequest(read_data=True, threads=3),
        progress=lambda done, total: said.append((done, total)),
    )
    assert said[0] == (0, result.bytes_stored)
    assert said[-1] == (result.bytes_stored, result.bytes_stored)
    assert said == sorted(said)
    assert result.bytes_read == result.bytes_stored


def _named(findings: Iterable[Finding]) -> set[str]:
    """Return the objects that findings name."""
    return {finding.key for finding in findings}


def _is_named(place: str, findings: Iterable[Finding]) -> bool:
    """Say whether an object is named.

    Of parity that is gone only its pack is known; a pack that nothing needs is named by its parity.
    """
    named = _named(findings)
    of_pack = place.replace("packs/", "parity/")
    return (
        base_of(place) in named
        or place.partition(".")[0] in named
        or any(key.startswith(of_pack) for key in named)
    )


def _is_garbage(world: DamageWorld, place: str) -> bool:
    condemned = {name.hex() for name in world.vault.ledger.condemned}
    return place.startswith("packs/") and place.rpartition("/")[2] in condemned
