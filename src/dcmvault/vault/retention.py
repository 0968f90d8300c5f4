"""Which snapshots are kept: a pure policy over their times, and changes to what is remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dcmvault.errors import StudyHeldError, UsageError
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link, heads
from dcmvault.vault.state import present_state
from dcmvault.vault.taking_snapshots import Change, take_snapshot

_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
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
    policy: KeepPolicy, links: Sequence[Link], now: datetime
) -> tuple[dict[str, list[str]], list[Link]]:
    """Return (names kept, each with the rules that want it; links to forget, oldest first).

    Of each period the newest snapshot is kept, for the newest so many periods that have any.
    Heads are always kept: they say what the vault holds now. Times are UTC.
    """
    if policy.is_empty:
        raise UsageError(
            "no rule says what to keep",
            hint="Give at least one, for example --keep-daily 14 --keep-monthly 12.",
        )
    newest_first = sorted(links, key=lambda link: (link.created_at, link.name), reverse=True)
    kept: dict[str, list[str]] = {}
    for head in heads(links):
        kept.setdefault(head.name, []).append("newest state")
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
    return datetime.strptime(link.created_at, _TIME).replace(tzinfo=UTC)


def forget_snapshots(vault: Vault, names: Iterable[str]) -> Link | None:
    """Write down that snapshots are forgotten; the next prune removes them.

    UsageError for a head: what the vault holds now cannot be forgotten, only studies of it can.
    """
    state = present_state(vault)
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
    return take_snapshot(vault, Change("forget", forgotten=forgotten))


def forget_study(vault: Vault, study_instance_uid: str) -> Link | None:
    """Forget everything stored of a study so far, in all snapshots; the next prunes remove it.

    Raises StudyHeldError under legal hold, UsageError if the vault has no such study.
    """
    state = present_state(vault)
    if study_instance_uid in state.holds():
        raise StudyHeldError(
            f"the study {study_instance_uid} is under legal hold",
            hint="Release it first: dcmvault vault hold --release.",
        )
    if not state.records(study_instance_uid):
        raise UsageError(f"the vault holds no study {study_instance_uid}")
    studies = {**state.forgotten.studies, study_instance_uid: vault.now()}
    forgotten = state.forgotten._replace(studies=studies)
    return take_snapshot(vault, Change("forget", forgotten=forgotten))


def hold_study(vault: Vault, study_instance_uid: str, reason: str) -> Link | None:
    """Put a study under legal hold: nothing of it is forgotten or pruned until released."""
    state = present_state(vault)
    if not state.records(study_instance_uid):
        raise UsageError(f"the vault holds no study {study_instance_uid}")
    held = {"reason": reason, "placed_at": vault.now()}
    holds = {**state.holds(), study_instance_uid: held}
    return take_snapshot(vault, Change("hold", holds=holds))


def release_study(vault: Vault, study_instance_uid: str) -> Link | None:
    """End a legal hold."""
    holds = present_state(vault).holds()
    if study_instance_uid not in holds:
        raise UsageError(f"the study {study_instance_uid} is not under legal hold")
    remaining = {uid: hold for uid, hold in holds.items() if uid != study_instance_uid}
    return take_snapshot(vault, Change("hold", holds=remaining))
