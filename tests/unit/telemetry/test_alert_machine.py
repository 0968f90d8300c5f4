"""The life of alerts: raised once, cleared once, whatever is seen and whenever."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.model.alert import (
    Alert,
    AlertChange,
    AlertCode,
    AlertSeverity,
    Subject,
    SubjectKind,
)
from dcmvault.telemetry.alerts import (
    LONGEST_GAP_S,
    TRANSITIONS,
    AlertMachine,
    Change,
    Observation,
    Phase,
    Verdict,
)

START = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
CODES = frozenset({AlertCode.CPU_HIGH, AlertCode.DISK_LOW})
RAISED, CLEARED = AlertChange.RAISED, AlertChange.CLEARED
BAD, BETWEEN, GOOD = Verdict.BAD, Verdict.BETWEEN, Verdict.GOOD


def seen(
    verdict: Verdict,
    *,
    raise_after_s: float = 0.0,
    clear_after_s: float = 0.0,
    code: AlertCode = AlertCode.CPU_HIGH,
    name: str = "",
) -> Observation:
    return Observation(
        code,
        Subject(SubjectKind.MACHINE, name),
        AlertSeverity.WARNING,
        verdict,
        {},
        raise_after_s,
        clear_after_s,
    )


def changes(machine: AlertMachine, looks: list[tuple[float, Observation]]) -> list[AlertChange]:
    """Return what changes over looks at these seconds."""
    found: list[Change] = []
    for second, observation in looks:
        found += machine.look(START + timedelta(seconds=second), [observation], CODES)
    return [one.change for one in found]


def test_the_table_names_every_phase_and_verdict() -> None:
    assert set(TRANSITIONS) == set(product(Phase, Verdict))


def test_it_is_raised_at_once_where_nothing_must_last() -> None:
    looks = [(0.0, seen(BAD)), (1.0, seen(BAD)), (2.0, seen(GOOD)), (3.0, seen(GOOD))]
    assert changes(AlertMachine(), looks) == [RAISED, CLEARED]


def test_what_must_last_is_raised_when_it_lasted() -> None:
    machine = AlertMachine()
    for second in range(60):
        assert changes(machine, [(second, seen(BAD, raise_after_s=60))]) == []
    assert changes(machine, [(60, seen(BAD, raise_after_s=60))]) == [RAISED]


def test_a_moment_of_rest_begins_the_time_anew() -> None:
    looks = [(float(s), seen(GOOD if s == 30 else BAD, raise_after_s=60)) for s in range(90)]
    assert changes(AlertMachine(), looks) == []


def test_in_the_margin_nothing_changes() -> None:
    machine = AlertMachine()
    assert changes(machine, [(0, seen(BAD))]) == [RAISED]
    assert changes(machine, [(s, seen(BETWEEN)) for s in range(1, 100)]) == []
    assert changes(machine, [(100, seen(BAD)), (101, seen(GOOD))]) == [CLEARED]
    assert changes(machine, [(s, seen(BETWEEN)) for s in range(102, 200)]) == []


def test_what_flickers_is_cleared_when_it_was_good_for_long_enough() -> None:
    machine = AlertMachine()
    assert changes(machine, [(0, seen(BAD, clear_after_s=60))]) == [RAISED]
    flicker = [(s, seen(GOOD if s % 50 else BAD, clear_after_s=60)) for s in range(1, 500)]
    assert changes(machine, [(float(s), one) for s, one in flicker]) == []
    rest = [(float(s), seen(GOOD, clear_after_s=60)) for s in range(500, 600)]
    assert changes(machine, rest) == [CLEARED]


def test_a_night_asleep_is_no_time_in_which_it_was_bad() -> None:
    machine = AlertMachine()
    looks = [(0.0, seen(BAD, raise_after_s=300)), (8 * 3600.0, seen(BAD, raise_after_s=300))]
    assert changes(machine, looks) == []
    later = 8 * 3600.0 + LONGEST_GAP_S
    assert changes(machine, [(later, seen(BAD, raise_after_s=300))]) == []


def test_a_clock_that_is_set_back_begins_the_time_anew() -> None:
    looks = [(3600.0, seen(BAD, raise_after_s=60)), (0.0, seen(BAD, raise_after_s=60))]
    assert changes(AlertMachine(), looks) == []


def test_what_is_not_there_any_more_is_cleared() -> None:
    machine = AlertMachine()
    disk = seen(BAD, code=AlertCode.DISK_LOW, name="usb")
    machine.look(START, [disk, seen(BAD)], CODES)
    (change,) = machine.look(START, [seen(BAD)], CODES)
    assert (change.change, change.code, change.subject.name) == (CLEARED, AlertCode.DISK_LOW, "usb")
    # Of codes that were not looked for, nothing is said.
    assert machine.look(START, [], [AlertCode.DISK_LOW]) == []
    assert machine.raised(AlertCode.CPU_HIGH) == [""]


def test_what_was_raised_before_a_restart_is_raised_still() -> None:
    subject = Subject(SubjectKind.MACHINE)
    before = Alert(7, AlertCode.CPU_HIGH, subject, AlertSeverity.CRITICAL, START)
    machine = AlertMachine([before])
    assert changes(machine, [(9000.0, seen(BAD)), (9001.0, seen(BETWEEN))]) == []
    (change,) = machine.look(START + timedelta(hours=3), [seen(GOOD)], CODES)
    assert (change.change, change.severity) == (CLEARED, AlertSeverity.CRITICAL)


#: A look: seconds since the one before, what is seen of two things (None: they are not there),
#: and whether the process began anew before it.
_looks = st.lists(
    st.tuples(
        st.integers(-100, 400),
        st.sampled_from([None, *Verdict]),
        st.sampled_from([None, *Verdict]),
        st.booleans(),
    ),
    max_size=60,
)


@pytest.mark.parametrize(("raise_after_s", "clear_after_s"), [(0, 0), (120, 0), (60, 90)])
@given(looks=_looks)
def test_each_raise_has_one_clear(
    raise_after_s: float,
    clear_after_s: float,
    looks: list[tuple[int, Verdict | None, Verdict | None, bool]],
) -> None:
    """Of each thing raise and clear alternate, beginning with a raise, across restarts."""
    machine = AlertMachine()
    now = START
    open_now: dict[str, Alert] = {}
    counted: Counter[tuple[str, AlertChange]] = Counter()
    for seconds, first, second, restarts in looks:
        now += timedelta(seconds=seconds)
        if restarts:
            machine = AlertMachine(open_now.values())
        observations = [
            seen(verdict, raise_after_s=raise_after_s, clear_after_s=clear_after_s, name=name)
            for name, verdict in (("a", first), ("b", second))
            if verdict is not None
        ]
        for change in machine.look(now, observations, CODES):
            name = change.subject.name
            counted[name, change.change] += 1
            if change.change is RAISED:
                assert name not in open_now
                open_now[name] = Alert(1, change.code, change.subject, change.severity, now)
            else:
                del open_now[name]
        assert set(machine.raised(AlertCode.CPU_HIGH)) == open_now.keys()
    for _second in range(int(clear_after_s) + 1):
        now += timedelta(seconds=1)
        for change in machine.look(
            now, [seen(GOOD, clear_after_s=clear_after_s, name=n) for n in ("a", "b")], CODES
        ):
            counted[change.subject.name, change.change] += 1
    for name in ("a", "b"):
        assert counted[name, RAISED] == counted[name, CLEARED]
