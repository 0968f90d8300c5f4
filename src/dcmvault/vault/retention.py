"""Which snapshots are kept: a pure policy over their times, and changes to what is remembered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcmvault.errors import StudyHeldError, UsageError
from dcmvault.vault.ballast import with_ballast
from dcmvault.vault.lease import hold_lease
from dcmvault.vault.records import read_time_text
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link, heads
from dcmvault.vault.state import VaultState, present_state
from dcmvault.vault.taking_snapshots import Change, take_snapshot

#: Periods in which one snapshot is kept, with what names the period of a time.
_PERIODS: Mapping[str, Callable[[datetime], str]] = {
    "hourly": lambda at: f"{at:%Y-%m-%dT%H}",
    "daily": lambda at: f"{at:%Y-%m-%d}",
    "weekly": lambda at: f"{at:%G-W%V}",
    "monthly": lambda at: f"{at:%Y-%m}",
    "yearly": lambda at: f"{at:%Y}",
}


@dataclass(frozen=True, slots=True)
class KeepPolicy:
    """What to keep; a snapshot is kept if any rule wants it."""

    last: int = 0
    within: timedelta | None = None
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether no rule keeps anything."""
        return self == KeepPolicy()


def apply_policy(
    policy: KeepPolicy,
    links: Sequence[Link],
    now: datetime,
    considered: Collection[str] | None = None,
) -> tuple[dict[str, list[str]], list[Link]]:
    """Return (names kept, each with the rules that want it; links to forget, oldest first).

    Of each period the newest snapshot is kept, for the newest so many periods that have any.
    Heads are always kept: they say what the vault holds now. Times are UTC. The rules look at
    `considered` snapshots only (None: all); the others are in neither answer.
    """
    if policy.is_empty:
        raise UsageError(
            "no rule says what to keep",
            hint="Give at least one, for example --keep-daily 14 --keep-monthly 12.",
        )
    newest_first = sorted(
        (link for link in links if considered is None or link.name in considered),
        key=lambda link: (link.created_at, link.name),
        reverse=True,
    )
    kept: dict[str, list[str]] = {}
    at_top = {head.name for head in heads(links)}
    for link in newest_first:
        if link.name in at_top:
            kept.setdefault(link.name, []).append("newest state")
    for link in newest_first[: policy.last]:
        kept.setdefault(link.name, []).append("last")
    if policy.within is not None:
        for link in newest_first:
            if created_at(link) >= now - policy.within:
                kept.setdefault(link.name, []).append("within")
    for rule, period in _PERIODS.items():
        seen: set[str] = set()
        for link in newest_first:
            name = period(created_at(link))
            if name not in seen and len(seen) < getattr(policy, rule):
                seen.add(name)
                kept.setdefault(link.name, []).append(rule)
    return kept, [link for link in reversed(newest_first) if link.name not in kept]


def created_at(link: Link) -> datetime:
    """Return when a snapshot was taken."""
    return read_time_text(link.created_at)


def forget_snapshots(vault: Vault, names: Iterable[str]) -> Link | None:
    """Write down that snapshots are forgotten; the next prune removes them.

    UsageError for a head: what the vault holds now cannot be forgotten, only studies of it can.
    """

    def change(state: VaultState) -> Change | None:
        wanted = set(names) - state.forgotten.snapshots
        if not wanted:
            return None
        if wanted & {link.name for link in state.links}:
            raise UsageError(
                "the newest snapshot says what the vault holds now; it cannot be forgotten",
                hint="Forget a study instead, or take a newer snapshot first.",
            )
        known = {link.name for link in vault.links()}
        if unknown := wanted - known:
            raise UsageError(f"there is no snapshot {min(unknown)}")
        forgotten = state.forgotten._replace(snapshots=state.forgotten.snapshots | wanted)
        return Change("forget", forgotten=forgotten)

    return _write_down(vault, "forget", change)


def forget_study(vault: Vault, study_instance_uid: str) -> Link | None:
    """Forget everything stored of a study so far, in all snapshots; the next prunes remove it.

    Raises StudyHeldError under legal hold, UsageError if the vault has no such study.
    """

    def change(state: VaultState) -> Change:
        if study_instance_uid in state.holds():
            raise StudyHeldError(
                f"the study {study_instance_uid} is under legal hold",
                hint="Release it first: dcmvault vault hold --release.",
            )
        # Not only of the present: older snapshots may have what is no longer in it.
        every = [state, *(_state_of(vault, link, state) for link in _alive(vault, state))]
        times = {part.stored_at for one in every for part in one.stored(study_instance_uid)}
        if not times:
            raise UsageError(f"the vault holds no study {study_instance_uid}")
        # Clocks differ: what another computer stored before counts no longer, whatever it said.
        since = max(vault.now(), *times)
        studies = {**state.forgotten.studies, study_instance_uid: since}
        return Change("forget", forgotten=state.forgotten._replace(studies=studies))

    return _write_down(vault, "forget", change)


def hold_study(vault: Vault, study_instance_uid: str, reason: str) -> Link | None:
    """Put a study under legal hold: nothing of it is forgotten or pruned until released."""

    def change(state: VaultState) -> Change:
        if not state.records(study_instance_uid):
            raise UsageError(f"the vault holds no study {study_instance_uid}")
        held = {"reason": reason, "placed_at": vault.now()}
        return Change("hold", holds={**state.holds(), study_instance_uid: held})

    return _write_down(vault, "hold", change)


def hold_studies(vault: Vault, study_instance_uids: Iterable[str], reason: str) -> int:
    """Put many studies under legal hold, by one snapshot; return how many of them there are.

    Those that the vault has not are left out, and those that are held keep their reason.
    """
    wanted = sorted(set(study_instance_uids))
    found = 0

    def change(state: VaultState) -> Change | None:
        nonlocal found
        there = [uid for uid in wanted if state.records(uid)]
        found = len(there)
        before = state.holds()
        placed = {uid: {"reason": reason, "placed_at": vault.now()} for uid in there}
        holds = {**placed, **before}
        return Change("hold", holds=holds) if holds != before else None

    _write_down(vault, "hold", change)
    return found


def release_studies(vault: Vault, study_instance_uids: Iterable[str]) -> int:
    """End many legal holds, by one snapshot; return how many there were."""
    wanted = set(study_instance_uids)
    found = 0

    def change(state: VaultState) -> Change | None:
        nonlocal found
        before = state.holds()
        remaining = {uid: hold for uid, hold in before.items() if uid not in wanted}
        found = len(before) - len(remaining)
        return Change("hold", holds=remaining) if found else None

    _write_down(vault, "hold", change)
    return found


def release_study(vault: Vault, study_instance_uid: str) -> Link | None:
    """End a legal hold."""

    def change(state: VaultState) -> Change:
        holds = state.holds()
        if study_instance_uid not in holds:
            raise UsageError(f"the study {study_instance_uid} is not under legal hold")
        remaining = {uid: hold for uid, hold in holds.items() if uid != study_instance_uid}
        return Change("hold", holds=remaining)

    return _write_down(vault, "hold", change)


def _write_down(
    vault: Vault, purpose: str, change: Callable[[VaultState], Change | None]
) -> Link | None:
    """Take a snapshot that says what changed; on a full disk with the room of the ballast.

    Under the lease: two changes at once, and a prune beside them, would not know of each other.
    """

    def work() -> Link | None:
        with hold_lease(vault.store, vault.clock, purpose) as lease:
            wanted = change(present_state(vault))
            if wanted is None:
                return None
            lease.renew()
            return take_snapshot(vault, wanted)

    return with_ballast(vault, work)


def _alive(vault: Vault, now: VaultState) -> list[Link]:
    """List the snapshots that are neither forgotten nor part of the present."""
    left_out = now.forgotten.snapshots | {link.name for link in now.links}
    return [link for link in vault.links() if link.name not in left_out]


def _state_of(vault: Vault, link: Link, now: VaultState) -> VaultState:
    return VaultState(vault, [link], [vault.state(link)], (), now.forgotten)
