"""What is kept by rules, and what is forgotten or held by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.vault.small_vault import OTHER, STUDY, SmallVault, expected, restored

from dcmvault.errors import StudyHeldError, UsageError
from dcmvault.vault.lease import hold_lease
from dcmvault.vault.prune import PruneRequest, prune
from dcmvault.vault.records import time_text
from dcmvault.vault.retention import (
    KeepPolicy,
    apply_policy,
    forget_snapshots,
    forget_study,
    hold_study,
    release_study,
)
from dcmvault.vault.snapshot import Link, heads
from dcmvault.vault.state import present_state

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_PERIODS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    "hourly": lambda t: (t.year, t.month, t.day, t.hour),
    "daily": lambda t: (t.year, t.month, t.day),
    "weekly": lambda t: t.isocalendar()[:2],
    "monthly": lambda t: (t.year, t.month),
    "yearly": lambda t: (t.year,),
}


def chain(times: list[datetime]) -> list[Link]:
    links: list[Link] = []
    for number, at in enumerate(times, 1):
        parents = (links[-1].name,) if links else ()
        links.append(Link(f"{number:08}-{number:064x}", number, parents, time_text(at)))
    return links


def naive(policy: KeepPolicy, links: list[Link], considered: set[str]) -> set[str]:
    """Keep by the words of the rules, without any order of evaluation."""
    chosen = [link for link in links if link.name in considered]
    at = {link.name: datetime.fromisoformat(link.created_at) for link in chosen}
    newest = sorted(chosen, key=lambda link: (at[link.name], link.name), reverse=True)
    kept = {link.name for link in heads(links)} & considered
    kept |= {link.name for link in newest[: policy.last]}
    if policy.within is not None:
        kept |= {name for name, moment in at.items() if NOW - moment <= policy.within}
    for rule, period in _PERIODS.items():
        periods = sorted({period(moment) for moment in at.values()}, reverse=True)
        for wanted in periods[: getattr(policy, rule)]:
            kept.add(next(one.name for one in newest if period(at[one.name]) == wanted))
    return kept


counts = st.integers(0, 4)
policies = st.builds(
    KeepPolicy,
    counts,
    st.none() | st.timedeltas(timedelta(0), timedelta(days=400)),
    counts,
    counts,
    counts,
    counts,
    counts,
).filter(lambda policy: not policy.is_empty)
#: Clocks are set back, too: later snapshots may be of an earlier time.
moments = st.lists(
    st.integers(0, 800 * 1440).map(lambda minutes: NOW + timedelta(days=1, minutes=-minutes))
    | st.integers(0, 90).map(lambda hours: NOW - timedelta(hours=hours)),
    max_size=25,
)


@given(policies, moments, st.sets(st.integers(0, 24)))
def test_the_policy_keeps_what_its_words_say(
    policy: KeepPolicy, times: list[datetime], left_out: set[int]
) -> None:
    links = chain(times)
    considered = {link.name for number, link in enumerate(links) if number not in left_out}
    kept, forgotten = apply_policy(policy, links, NOW, considered)
    assert set(kept) == naive(policy, links, considered)
    assert {link.name for link in forgotten} == considered - set(kept)
    assert all(rules for rules in kept.values())
    assert [link.created_at for link in forgotten] == sorted(one.created_at for one in forgotten)
    # Applied to what is left, it forgets nothing more but for the time that `within` takes.
    left = [link for link in links if link.name not in {one.name for one in forgotten}]
    if heads(left) == heads(links):
        again, more = apply_policy(policy, left, NOW, considered)
        assert not more
        assert set(again) == set(kept)


def test_no_rule_is_an_error() -> None:
    with pytest.raises(UsageError, match="no rule"):
        apply_policy(KeepPolicy(), [], NOW)


def test_the_newest_snapshot_cannot_be_forgotten() -> None:
    world = SmallVault()
    first = world.back_up(STUDY, "a")
    last = world.back_up(STUDY, "b")
    with pytest.raises(UsageError, match="newest"):
        forget_snapshots(world.opened(), [last.name])
    with pytest.raises(UsageError, match="no snapshot"):
        forget_snapshots(world.opened(), [f"{9:08}-{9:064x}"])
    assert forget_snapshots(world.opened(), [first.name]) is not None
    assert forget_snapshots(world.opened(), [first.name]) is None


def test_a_forgotten_study_comes_back_when_it_is_stored_again() -> None:
    world = SmallVault()
    world.back_up(STUDY, "a")
    vault = world.opened()
    forget_study(vault, STUDY)
    with pytest.raises(UsageError, match="holds no study"):
        forget_study(world.opened(), STUDY)
    world.back_up(STUDY, "a")  # the same bytes
    assert restored(present_state(world.opened()), STUDY) == expected(STUDY, "a")
    prune(world.opened(), PruneRequest(timedelta(0), 1.0))
    assert restored(present_state(world.opened()), STUDY) == expected(STUDY, "a")


@pytest.mark.parametrize("hours", [-2, 2])
def test_clocks_may_differ(hours: int) -> None:
    """Of another computer, or of the same one when it is set right."""
    world = SmallVault()
    world.back_up(STUDY, "a")
    right = world.clock.now()
    world.clock.set_now(right + timedelta(hours=hours))
    forget_study(world.opened(), STUDY)
    state = present_state(world.opened())
    assert restored(state, STUDY) == {}
    world.clock.set_now(right)
    world.back_up(STUDY, "a")
    assert restored(present_state(world.opened()), STUDY) == expected(STUDY, "a")
    # What comes later counts, though its clock is behind.
    world.clock.set_now(right - timedelta(days=1))
    world.back_up(STUDY, "b")
    assert restored(present_state(world.opened()), STUDY) == expected(STUDY, "b")


def test_a_study_of_old_snapshots_only_can_be_forgotten() -> None:
    """Forgotten, stored anew, forgotten: nothing of it stays in any snapshot."""
    world = SmallVault()
    world.clock.set_now(world.clock.now() + timedelta(days=365))  # stored by a fast clock
    world.back_up(STUDY, "a")
    world.clock.set_now(world.clock.now() - timedelta(days=365))
    forget_study(world.opened(), STUDY)
    vault = world.opened()
    for link in vault.links():
        state = present_state(vault)
        assert restored(state, STUDY) == {}, link


def test_legal_hold() -> None:
    world = SmallVault()
    world.back_up(STUDY, "a")
    world.back_up(OTHER, "b")
    hold_study(world.opened(), STUDY, "a lawsuit")
    hold_study(world.opened(), OTHER, "another")
    held = present_state(world.opened()).holds()
    assert held[STUDY]["reason"] == "a lawsuit"
    assert held.keys() == {STUDY, OTHER}
    with pytest.raises(StudyHeldError, match="legal hold"):
        forget_study(world.opened(), STUDY)
    release_study(world.opened(), STUDY)
    with pytest.raises(UsageError, match="not under legal hold"):
        release_study(world.opened(), STUDY)
    forget_study(world.opened(), STUDY)
    assert present_state(world.opened()).holds().keys() == {OTHER}
    with pytest.raises(UsageError, match="holds no study"):
        hold_study(world.opened(), "1.2.3.4", "x")


def test_two_who_change_at_once_do_not_lose_each_other_s_change() -> None:
    world = SmallVault()
    world.back_up(STUDY, "a")
    world.back_up(OTHER, "b")
    slow = world.opened()
    present_state(slow)
    hold_study(world.opened(), STUDY, "a lawsuit")
    hold_study(slow, OTHER, "another")
    assert present_state(world.opened()).holds().keys() == {STUDY, OTHER}
    with hold_lease(world.store, world.clock, "prune"), pytest.raises(Exception, match="lease"):
        forget_study(world.opened(), OTHER)
