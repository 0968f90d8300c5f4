"""The lease: one holder at a time, none that has to be broken by hand."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from dcmvault.errors import DestinationUnreachableError, UsageError, VaultBusyError
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.faulty import CrashError, Fault, FaultyStore
from dcmvault.vault.copies import check_line_holds
from dcmvault.vault.lease import LEASE_KEY, LEASE_TIME, hold_lease, holder

_AFTER = LEASE_TIME.total_seconds() + 1


def witnesses(home: Path) -> list[Path]:
    folder = home / "leases"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_one_holder_at_a_time(home: Path) -> None:
    store, clock = MemoryStore(), FakeClock()
    with hold_lease(store, clock, "prune"):
        assert check_line_holds(store.get(LEASE_KEY))
        assert holder(store, clock)[0] == "prune"
        with pytest.raises(VaultBusyError, match=r"another process holds.*\(prune\), until 2026"):
            hold_lease(store, clock, "key rotate").__enter__()
    assert holder(store, clock) == ("", "")
    with hold_lease(store, clock, "key rotate"):
        pass
    assert witnesses(home) == []


def test_it_ends_by_itself_where_nobody_sees_its_holder() -> None:
    """As of a computer that lost its power: its lock file is on another one."""
    store, clock = MemoryStore(), FakeClock()
    first = hold_lease(store, clock, "prune")
    lease = first.__enter__()
    clock.advance(_AFTER)
    with hold_lease(store, clock, "key add"), pytest.raises(VaultBusyError, match="taken over"):
        lease.renew()
    # And the first one does not end somebody else's at its end.
    with hold_lease(store, clock, "repair"):
        first.__exit__(None, None, None)
        assert holder(store, clock)[0] == "repair"


def test_renewing_makes_it_last() -> None:
    store, clock = MemoryStore(), FakeClock()
    with hold_lease(store, clock, "prune") as lease:
        for _ in range(5):
            clock.advance(LEASE_TIME.total_seconds() - 60)
            lease.keep()
            with pytest.raises(VaultBusyError):
                hold_lease(store, clock, "x").__enter__()
        written = store.get(LEASE_KEY)
        clock.advance(10)
        lease.keep()  # not needed yet
        assert store.get(LEASE_KEY) == written


def test_an_expired_lease_that_nobody_took_may_be_renewed() -> None:
    store, clock = MemoryStore(), FakeClock()
    with hold_lease(store, clock, "prune") as lease:
        clock.advance(10 * _AFTER)
        lease.renew()


def test_a_holder_that_died_here_is_not_waited_for(home: Path) -> None:
    store, clock = MemoryStore(), FakeClock()
    dying = FaultyStore(store)
    with pytest.raises(CrashError), hold_lease(dying, clock, "prune"):
        die_in(dying)
    assert len(witnesses(home)) == 1
    assert holder(store, clock) == ("", "")
    with hold_lease(store, clock, "prune"):
        pass
    assert witnesses(home) == []


def die_in(store: FaultyStore) -> None:
    store._fault, store._at = Fault.DIE_BEFORE, store.operations + 1
    store.head("config")


def test_a_killed_process_is_not_waited_for(home: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from dcmvault.app.wiring.clock import SystemClock\n"
        "from dcmvault.object_stores.local import LocalStore\n"
        "from dcmvault.vault.lease import hold_lease\n"
        "clock = SystemClock()\n"
        "with hold_lease(LocalStore(Path(sys.argv[1]), clock), clock, 'prune'):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    from dcmvault.app.wiring.clock import SystemClock
    from dcmvault.object_stores.local import LocalStore

    store, clock = LocalStore(tmp_path, SystemClock()), SystemClock()
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(VaultBusyError):
            hold_lease(store, clock, "prune").__enter__()
        process.kill()
        process.wait()
        with hold_lease(store, clock, "prune"):
            pass


def test_a_lost_answer_is_looked_up() -> None:
    store, clock = MemoryStore(), FakeClock()
    faulty = FaultyStore(store, 2, Fault.LOSE_ANSWER)  # a get, then the swap
    with hold_lease(faulty, clock, "prune") as lease:
        assert holder(store, clock)[0] == "prune"
        lease.renew()
    assert holder(store, clock) == ("", "")


def test_what_cannot_be_written_is_not_held(home: Path) -> None:
    store, clock = MemoryStore(), FakeClock()
    with pytest.raises(DestinationUnreachableError):
        hold_lease(FaultyStore(store, 2, Fault.REFUSE), clock, "prune").__enter__()
    with hold_lease(store, clock, "prune"):
        pass


def test_a_damaged_lease_counts_as_ended() -> None:
    store, clock = MemoryStore(), FakeClock()
    store.put(LEASE_KEY, [b'{"expires_at": "2999'])
    with hold_lease(store, clock, "prune"):
        pass


def test_clocks_that_differ_do_not_make_two_holders() -> None:
    store, slow = MemoryStore(), FakeClock()
    fast = FakeClock(slow.now() + timedelta(hours=1))
    with hold_lease(store, slow, "prune") as lease:
        # To this one the first has expired.
        with hold_lease(store, fast, "repair"), pytest.raises(VaultBusyError):
            lease.renew()
        with pytest.raises(VaultBusyError):
            lease.renew()


def test_a_store_without_compare_and_swap_keeps_none() -> None:
    class Bare:
        get = MemoryStore.get

    with pytest.raises(UsageError, match="cannot keep a lease"):
        hold_lease(Bare(), FakeClock(), "prune").__enter__()  # type: ignore[arg-type]
