"""Pruning: what is needed stays whatever happens, what is not goes in two steps."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from tests.unit.vault.small_vault import OTHER, STUDY, SmallVault, expected, no_room, restored

from dcmvault.errors import PruneRefusedError, VaultBusyError, VaultDamagedError
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.vault import index_renewal
from dcmvault.vault.choosing import Choice
from dcmvault.vault.initialise import BALLAST_KEY
from dcmvault.vault.prune import GRACE, PruneRequest, PruneResult, prune
from dcmvault.vault.retention import (
    forget_snapshots,
    forget_study,
    hold_study,
    release_study,
)
from dcmvault.vault.state import present_state, state_at

ALL = 1.0
AT_ONCE = PruneRequest(timedelta(0), ALL)


def run(world: SmallVault, **changes: object) -> PruneResult:
    request = dataclasses.replace(PruneRequest(most_dropped=ALL), **changes)  # type: ignore[arg-type]
    return prune(world.opened(), request)


def sound(world: SmallVault, **files: str) -> None:
    """Compare what studies hold now with the content that they should have."""
    state = present_state(world.opened())
    held = {STUDY: files.get("study"), OTHER: files.get("other")}
    for uid, content in held.items():
        assert restored(state, uid) == (expected(uid, content, range(6)) if content else {})


def two_studies(world: SmallVault) -> None:
    world.back_up(STUDY, "a", range(6))
    world.back_up(OTHER, "b", range(6))


def test_nothing_to_do_changes_nothing() -> None:
    world = SmallVault(redundant=True)
    two_studies(world)
    before = world.objects()
    for _ in range(2):
        result = run(world)
        assert (result.removed_packs, result.condemned_packs, result.rewritten_packs) == (0, 0, 0)
        assert result.notes == []
        assert world.objects() == before
    assert result.needed_bytes <= result.stored_bytes


def test_garbage_goes_in_two_phases() -> None:
    world = SmallVault(redundant=True)
    two_studies(world)
    forget_study(world.opened(), STUDY)
    packs = set(world.names("packs/"))
    first = run(world)
    assert first.condemned_packs > 0
    assert first.removed_packs == 0
    assert packs <= set(world.names("packs/"))
    world.clock.advance(GRACE.total_seconds() - 60)
    waiting = run(world)
    assert (waiting.removed_packs, waiting.waiting_packs) == (0, first.condemned_packs)
    assert waiting.waiting_until is not None
    assert waiting.waiting_until > world.clock.now()
    world.clock.advance(120)
    second = run(world)
    assert second.removed_packs == first.condemned_packs
    assert len(packs - set(world.names("packs/"))) == first.condemned_packs
    # Their parity is gone, too, and what named them.
    assert {key[10:74] for key in world.names("parity/")} == {
        key[9:] for key in world.names("packs/")
    }
    sound(world, other="b")
    world.clock.advance(GRACE.total_seconds())
    run(world)
    assert world.names("condemned/") == []
    before = world.objects()
    assert run(world).removed_packs == 0
    assert world.objects() == before


def test_a_dry_run_changes_nothing_and_tells_what_would_be_refused() -> None:
    world = SmallVault()
    two_studies(world)
    forget_study(world.opened(), STUDY)
    before = dict(world.objects())
    told = run(world, dry_run=True, most_dropped=0.2)
    assert told.condemned_packs > 0
    assert told.is_refused
    assert world.objects() == before
    assert world.names("lease") != []  # of the forgetting
    done = run(world)
    assert done.condemned_packs == told.condemned_packs
    assert not run(world, dry_run=True).is_refused


def test_a_dry_run_takes_no_lease() -> None:
    world = SmallVault()
    world.back_up(STUDY, "a")
    run(world, dry_run=True)
    assert world.names("lease") == []


def test_too_much_is_refused_unless_told() -> None:
    world = SmallVault()
    two_studies(world)
    forget_study(world.opened(), STUDY)
    before = world.names("packs/")
    with pytest.raises(PruneRefusedError, match=r"\d+ % of what is stored") as caught:
        prune(world.opened(), PruneRequest())
    assert "--max-drop" in caught.value.hint
    assert world.names("packs/") == before
    assert world.names("condemned/") == []
    run(world)
    # What was allowed once needs no second permission.
    world.clock.advance(GRACE.total_seconds() + 1)
    assert prune(world.opened(), PruneRequest()).removed_packs > 0


def test_waste_in_packs_counts_as_dropped() -> None:
    world = SmallVault()
    vault = world.write(STUDY, "a", range(6))
    world.write(OTHER, "b", range(6), vault)
    world.snapshot(vault)  # small packs are put together
    forget_study(world.opened(), STUDY)
    with pytest.raises(PruneRefusedError):
        prune(world.opened(), PruneRequest())


def test_wasteful_packs_are_written_anew() -> None:
    world = SmallVault(redundant=True)
    vault = world.write(STUDY, "a", range(6))
    world.write(OTHER, "b", range(6), vault)
    world.snapshot(vault)
    forget_study(world.opened(), STUDY)
    size = sum(len(world.store.get(key)) for key in world.names("packs/"))
    result = run(world, grace=timedelta(0))
    assert result.rewritten_packs == 1
    assert result.condemned_packs == 0
    left = sum(len(world.store.get(key)) for key in world.names("packs/"))
    assert left < 0.6 * size
    sound(world, other="b")
    assert run(world, grace=timedelta(0)).removed_packs == 0


def test_what_is_referred_to_again_is_spared() -> None:
    """A writer that looked before the prune condemned refers to what is condemned."""
    world = SmallVault()
    two_studies(world)
    slow = world.opened()
    writer = world.writer(slow)
    forget_study(world.opened(), STUDY)
    known = slow.ledger.look_at_condemned()
    run(world)
    # Its look came before, its journal after: held up for less than the grace time.
    slow.ledger.look_at_condemned = lambda *_: known  # type: ignore[method-assign]
    writer._known._studies.clear()
    writer._known._read_study = lambda _uid: []
    world.put(writer, STUDY, "a", range(6))
    world.clock.advance(3600)
    writer.flush()
    assert len(world.names("journal/")) == 1
    world.clock.advance(GRACE.total_seconds())
    result = run(world)
    assert result.removed_packs == 0
    assert result.spared_packs > 0
    sound(world, study="a", other="b")
    assert world.names("condemned/") == []


def test_a_writer_withdraws_what_a_prune_condemned_meanwhile() -> None:
    """The look before its journal came too early, the one after it does not."""
    world = SmallVault()
    two_studies(world)
    vault = world.opened()
    writer = world.writer(vault)
    world.put(writer, STUDY, "new", range(6))
    add = vault.ledger.add_journal

    def with_a_prune_before(addition):  # type: ignore[no-untyped-def]
        run(world)  # its packs are in no journal yet, so they are condemned
        return add(addition)

    vault.ledger.add_journal = with_a_prune_before  # type: ignore[method-assign]
    with pytest.raises(VaultBusyError, match="a prune is removing"):
        writer.flush()
    assert world.names("journal/") == []
    vault.ledger.add_journal = add  # type: ignore[method-assign]
    world.put(writer, STUDY, "new", range(6))
    writer.flush()
    run(world, grace=timedelta(0))
    sound(world, study="new", other="b")


def test_a_snapshot_that_a_prune_came_into_is_tried_again() -> None:
    world = SmallVault()
    two_studies(world)
    vault = world.write(STUDY, "new", range(6))
    prunes: list[PruneResult] = []

    def store(entry, data):  # type: ignore[no-untyped-def]
        written = stored(entry, data)
        if not prunes:
            prunes.append(run(world))
        return written

    stored = vault.packs.store
    vault.packs.store = store  # type: ignore[method-assign]
    assert world.snapshot(vault) is not None
    assert prunes[0].condemned_packs > 0
    run(world, grace=timedelta(0))
    sound(world, study="new", other="b")
    assert len(world.names("snapshots/")) == 3


def test_an_index_that_came_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only indexes that the prune read go, and all that they named stands in the new one."""
    monkeypatch.setattr(index_renewal, "_MANY_INDEXES", 1)
    world = SmallVault()
    two_studies(world)
    other = world.opened()
    vault = world.opened()
    written: list[str] = []
    add = vault.ledger.add_index

    def with_a_snapshot_before(packs, at):  # type: ignore[no-untyped-def]
        if not written:
            world.write(STUDY, "new", range(6), other)
            written.append("x")
            world.snapshot(other)
        return add(packs, at)

    vault.ledger.add_index = with_a_snapshot_before  # type: ignore[method-assign]
    prune(vault, PruneRequest(most_dropped=ALL))
    assert written
    sound(world, study="new", other="b")
    run(world, grace=timedelta(0))
    sound(world, study="new", other="b")


def test_packs_that_journals_and_indexes_name_stay_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot that was interrupted before it removed its journals names packs twice."""
    monkeypatch.setattr(index_renewal, "_MANY_INDEXES", 1)
    world = SmallVault()
    vault = world.write(STUDY, "a", range(6))
    journals = {key: world.store.get(key) for key in world.names("journal/")}
    world.snapshot(vault)
    for key, content in journals.items():
        world.store.put(key, [content])
    run(world)
    for key in journals:
        world.store.delete(key)  # what the snapshot took up goes at last
    sound(world, study="a")


def test_packs_of_a_killed_writer_go() -> None:
    world = SmallVault()
    world.back_up(STUDY, "a", range(6))
    vault = world.opened()
    writer = world.writer(vault)
    world.put(writer, OTHER, "b", range(6))
    writer._close_block()
    writer._outgoing.finish()  # and here it is killed
    before = len(world.names("packs/"))
    assert run(world).condemned_packs == 1
    world.clock.advance(GRACE.total_seconds() + 1)
    assert run(world).removed_packs == 1
    assert len(world.names("packs/")) == before - 1
    sound(world, study="a")


def test_of_two_copies_the_sound_one_stays() -> None:
    """Two writers stored the same at the same time; one of the packs is damaged since."""
    world = SmallVault()
    one, two = world.opened(), world.opened()
    first, second = world.writer(one), world.writer(two)
    for writer in (first, second):
        world.put(writer, STUDY, "a", range(6))
    for writer in (first, second):
        writer.flush()
    packs = world.names("packs/")
    assert len(packs) == 2
    index = present_state(world.opened()).vault.index.packs
    assert isinstance(world.store, MemoryStore)
    for damaged in packs:
        store = world.store
        content = store.get(damaged)
        row = next(iter(index.values())).rows[0]
        at = int(row["offset"]) + 20
        store._objects[damaged] = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        result = prune(world.opened(), dataclasses.replace(AT_ONCE))
        if result.notes:
            assert "damaged" in result.notes[0]
        sound(world, study="a")
        store._objects[damaged] = content
    assert len(world.names("packs/")) == 2


def test_nothing_goes_while_a_snapshot_is_missing() -> None:
    world = SmallVault()
    first = world.back_up(STUDY, "a", range(6))
    world.back_up(STUDY, "b", range(6))
    world.store.delete(first.key)
    with pytest.raises(VaultDamagedError, match="is missing; nothing was removed"):
        run(world)


def test_nothing_goes_while_something_needed_is_missing() -> None:
    world = SmallVault()
    two_studies(world)
    before = world.names("packs/")
    world.store.delete(before[0])
    with pytest.raises(VaultDamagedError):
        run(world)
    assert world.names("packs/") == before[1:]


def test_a_held_study_keeps_its_versions_in_forgotten_snapshots() -> None:
    world = SmallVault()
    first = world.back_up(STUDY, "old", range(6))
    world.back_up(STUDY, "new", range(6))
    other = world.back_up(OTHER, "b", range(6))
    world.back_up(OTHER, "c", range(6))
    hold_study(world.opened(), STUDY, "a lawsuit")
    forget_snapshots(world.opened(), [first.name, other.name])
    run(world, grace=timedelta(0))
    sound(world, study="new", other="c")
    vault = world.opened()
    assert world.store.head(first.key) is not None
    assert world.store.head(other.key) is None
    old = state_at(vault, [link for link in vault.links() if link.name == first.name])
    assert restored(old, STUDY) == expected(STUDY, "old", range(6))
    release_study(world.opened(), STUDY)
    assert run(world, grace=timedelta(0)).removed_snapshots >= 1
    assert world.store.head(first.key) is None
    sound(world, study="new", other="c")


def test_a_hold_does_not_bring_back_what_was_forgotten_before() -> None:
    world = SmallVault()
    first = world.back_up(STUDY, "old", range(6))
    world.back_up(OTHER, "b")
    forget_study(world.opened(), STUDY)
    world.back_up(STUDY, "new", range(6))
    hold_study(world.opened(), STUDY, "a lawsuit")
    forget_snapshots(world.opened(), [first.name])
    run(world, grace=timedelta(0))
    assert world.store.head(first.key) is None
    state = present_state(world.opened())
    assert restored(state, STUDY) == expected(STUDY, "new", range(6))


def test_forgotten_snapshots_stay_until_all_heads_know_of_it() -> None:
    """A writer that took its snapshot from an older state must not miss its ancestor."""
    world = SmallVault()
    first = world.back_up(STUDY, "a")
    world.back_up(STUDY, "b")
    slow = world.opened()
    links = slow.links()
    forget_snapshots(world.opened(), [first.name])
    slow.links = lambda *_: links  # type: ignore[method-assign]
    world.write(OTHER, "c", range(3), slow)
    world.snapshot(slow)
    assert len(present_state(world.opened()).links) == 2
    assert run(world, grace=timedelta(0)).removed_snapshots == 0
    world.back_up(OTHER, "d")  # brings the heads together
    assert run(world, grace=timedelta(0)).removed_snapshots == 1
    choice = Choice(world.opened())
    assert first.name not in {link.name for link in choice.links}


def test_the_ballast_makes_room_on_a_full_disk() -> None:
    world = SmallVault(redundant=True)
    two_studies(world)
    forget_study(world.opened(), STUDY)
    assert isinstance(world.store, MemoryStore)
    with no_room(world.store, -300_000):
        result = run(world, grace=timedelta(0))
        assert result.removed_packs > 0
        sound(world, other="b")
        # Less was removed than was too much, so the ballast has no room yet.
        assert world.store.head(BALLAST_KEY) is None
        assert any("ballast" in note for note in result.notes)
    assert run(world).notes == []
    assert world.store.head(BALLAST_KEY) == world.opened().config.ballast


def test_forgetting_works_on_a_full_disk() -> None:
    world = SmallVault(redundant=True)
    two_studies(world)
    assert isinstance(world.store, MemoryStore)
    with no_room(world.store, 10):
        forget_study(world.opened(), STUDY)
        assert run(world, grace=timedelta(0)).removed_packs > 0
        sound(world, other="b")
