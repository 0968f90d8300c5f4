"""Studies that do not fit into memory: their records are read a part at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.vault.small_vault import OTHER, STUDY, SmallVault, expected, restored

from dcmvault.destinations.vault_at_work import VaultAtWork
from dcmvault.vault import current_records
from dcmvault.vault.records import InstanceRecord
from dcmvault.vault.state import VaultState, present_state
from dcmvault.vault.writer import KnownFiles


@pytest.fixture(params=[0, 5_000], ids=["read twice", "kept"])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many records may be in memory at once."""
    most = int(request.param)
    monkeypatch.setattr(current_records, "_AT_ONCE", most)
    return most


def _by_parts(state: VaultState) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for _blob, part, _is_whole in current_records.current_parts(state, STUDY):
        for record in part.instances:
            assert record.locator not in found, "each file once"
            found[record.locator] = record.file_sha256
    return found


def _whole(state: VaultState) -> list[bool]:
    return [is_whole for _blob, _part, is_whole in current_records.current_parts(state, STUDY)]


@pytest.mark.usefixtures("at_once")
def test_parts_say_what_the_whole_says() -> None:
    world = SmallVault()
    world.back_up(STUDY, "old", range(4))
    world.clock.advance(60)
    world.write(STUDY, "new", range(1, 3))
    world.clock.advance(60)
    world.write(STUDY, "old", range(2, 3))
    world.clock.advance(60)
    # Two who write at once may both store what neither knows of the other.
    one, other = world.opened(), world.opened()
    writers = [world.writer(one), world.writer(other)]
    for writer in writers:
        world.put(writer, STUDY, "more", range(7, 9))
    for writer in writers:
        writer.flush()
    state = present_state(world.opened())
    assert _by_parts(state) == {one.locator: one.file_sha256 for one in state.records(STUDY)}
    assert _whole(state) == [False, False, True, True]
    times = [part.records.stored_at for part in current_records.current_parts(state, STUDY)]
    assert times == sorted(times)


@pytest.mark.usefixtures("at_once")
def test_a_snapshot_leaves_out_what_was_replaced_and_keeps_the_blobs_that_count() -> None:
    world = SmallVault()
    world.back_up(STUDY, "old", range(4))
    world.write(STUDY, "new", range(1, 3))
    world.back_up(STUDY, "more", range(7, 9))
    state = present_state(world.opened())
    assert _whole(state) == [True, True, True]
    (entry,) = state.entries_of(STUDY)
    assert entry.instances == 6
    assert entry.size == sum(one.size for one in state.records(STUDY))
    assert restored(state, STUDY) == {
        **expected(STUDY, "old", range(4)),
        **expected(STUDY, "new", range(1, 3)),
        **expected(STUDY, "more", range(7, 9)),
    }


@pytest.mark.usefixtures("at_once")
def test_nothing_is_told_of_a_study_that_is_not_there() -> None:
    world = SmallVault()
    world.back_up(OTHER, "old")
    assert list(current_records.current_parts(present_state(world.opened()), STUDY)) == []


def test_a_study_is_read_once_though_two_ask_at_once() -> None:
    """Each copy of a large one would cost as much memory again."""
    world = SmallVault()
    world.back_up(STUDY, "old")
    records = present_state(world.opened()).records(STUDY)
    asked = threading.Event()
    reads = []

    def read(uid: str) -> Iterator[InstanceRecord]:
        reads.append(uid)
        asked.wait(0.2)
        yield from records

    known = KnownFiles(read)
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(lambda one: known.has(STUDY, one), records))
    assert reads == [STUDY]


def test_what_one_writes_oneself_is_no_reason_to_look_again() -> None:
    world = SmallVault()
    at_work = VaultAtWork(world.opened, world.clock, tuple)
    seen = at_work.look_to_write()
    world.write(STUDY, "own", vault=seen.vault)
    assert at_work.look_to_write() is seen
    world.write(STUDY, "of others", range(5, 7))
    again = at_work.look_to_write()
    assert again is not seen
    assert at_work.look_to_write() is again


def test_what_others_wrote_is_seen_though_somebody_else_looked_before() -> None:
    world = SmallVault()
    at_work = VaultAtWork(world.opened, world.clock, tuple)
    seen = at_work.look_to_write()
    world.write(STUDY, "of others")
    seen.vault.refresh()
    assert at_work.look_to_write() is not seen


def test_what_one_took_back_oneself_is_a_reason_to_look_again() -> None:
    """Somebody may have read it, and believe that it is there."""
    world = SmallVault()
    at_work = VaultAtWork(world.opened, world.clock, tuple)
    seen = at_work.look_to_write()
    world.write(STUDY, "own", vault=seen.vault)
    (journal,) = seen.vault.journals()
    seen.vault.ledger.withdraw_journal(journal.key)
    assert at_work.look_to_write() is not seen


def test_nobody_waits_while_what_is_added_is_stored() -> None:
    """A store may take long; a look meanwhile takes it for no one else's."""
    world = SmallVault()
    at_work = VaultAtWork(world.opened, world.clock, tuple)
    seen = at_work.look_to_write()
    ledger, put = seen.vault.ledger, seen.vault.objects.put
    known: list[int] = []

    def put_slowly(key: str, data: bytes) -> None:
        put(key, data)
        with ThreadPoolExecutor(1) as other:
            known.append(other.submit(lambda: len(ledger.journals())).result(10))
            assert other.submit(at_work.look_to_write).result(10) is seen

    seen.vault.objects.put = put_slowly  # type: ignore[method-assign]
    world.write(STUDY, "own", vault=seen.vault)
    assert known[-1] == 0
    assert len(ledger.journals()) == 1
