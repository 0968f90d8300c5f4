"""Which state of a vault somebody means: the present, a snapshot by its short id, or a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from dcmvault.errors import (
    DestinationError,
    ObjectMissingError,
    UsageError,
    VaultDamagedError,
    VaultFormatError,
)
from dcmvault.vault.ledger import Journal, PassOver
from dcmvault.vault.records import time_text
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link, SnapshotState, heads
from dcmvault.vault.state import Forgotten, VaultState, forgotten_of

#: Digits of a snapshot's digest that people read and type.
SHORT_DIGITS = 8
#: The word for the newest snapshot.
LATEST = "latest"
_FEWEST_DIGITS = 4
#: A time in an address, UTC with microseconds: 20260131t080000000000z. No snapshot is called so.
_MOMENT = "%Y%m%dt%H%M%S%fz"
_NAMED_IN_ERRORS = 4
#: A prune may remove snapshots while they are read.
_LOOKS = 5


def short_id(name: str) -> str:
    """Return the short id of a snapshot: the first digits of its digest."""
    return name.rpartition("-")[2][:SHORT_DIGITS]


def find_snapshot(links: Sequence[Link], text: str) -> Link:
    """Return the snapshot that `text` names: `latest`, a whole name, or a prefix of its digest.

    Raises UsageError if there is none, or several.
    """
    if text.lower() == LATEST:
        if not links:
            raise UsageError("the vault has no snapshot", hint="A backup into it takes one.")
        return max(links, key=lambda link: (link.created_at, link.name))
    wanted = text.lower()
    if len(wanted.rpartition("-")[2]) < _FEWEST_DIGITS:
        raise UsageError(
            f"“{text}” is too short to name a snapshot",
            hint="Write the id as `dcmvault snapshots` shows it, or `latest`.",
        )
    found = [
        link
        for link in links
        if (link.name if "-" in wanted else link.name.rpartition("-")[2]).startswith(wanted)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            f"the vault has no snapshot “{text}”",
            hint="`dcmvault snapshots` lists those that it has.",
        )
    names = ", ".join(link.name.rpartition("-")[2][:16] for link in found[:_NAMED_IN_ERRORS])
    raise UsageError(
        f"“{text}” is the beginning of {len(found)} snapshots", hint=f"Write more of it: {names}"
    )


def as_of(links: Iterable[Link], moment: datetime) -> list[Link]:
    """Return the snapshots taken by an aware time; UsageError if there is none."""
    limit = time_text(moment)
    every = list(links)
    found = [link for link in every if link.created_at <= limit]
    if found:
        return found
    oldest = min((link.created_at for link in every), default="")
    raise UsageError(
        f"the vault has no snapshot from {limit} or before",
        hint=f"The oldest one is from {oldest}." if oldest else "It has none at all.",
    )


def moment_word(moment: datetime) -> str:
    """Write an aware time as it stands in a vault's address instead of a snapshot."""
    return moment.astimezone(UTC).strftime(_MOMENT)


def _read_moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text.lower(), _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return None


class Choice:
    """Looks at a vault once and gives out its states. What cannot be read is told, not raised.

    With `pass_over` damaged snapshots and index objects are left out after it was told of them;
    without, they raise VaultDamagedError.
    """

    def __init__(self, vault: Vault, pass_over: PassOver | None = None) -> None:
        self.vault = vault
        self._pass_over = pass_over
        self._states: dict[str, SnapshotState | None] = {}
        self._journals: list[Journal] = []
        every, top = self._look()
        self._forgotten = self._read_forgotten(top)
        gone = self._forgotten.snapshots
        self._top = [link for link in top if link.name not in gone]
        #: The snapshots that were not forgotten, oldest first.
        self.links = [link for link in every if link.name not in gone]

    def _look(self) -> tuple[list[Link], list[Link]]:
        """List all snapshots and the newest, which are read."""
        for _look in range(_LOOKS):
            self.vault.ledger.refresh(self._pass_over)
            self._journals = self.vault.journals()
            every = self.vault.links(self._pass_over)
            top = heads(every)
            try:
                for link in top:
                    self.state_of(link)
            except ObjectMissingError as error:  # a prune removed it just now
                missing = error
            else:
                return every, top
        raise missing

    def present(self) -> VaultState:
        """Return what the vault holds now, journals included."""
        return self._of(self._top, present=True)

    def snapshot(self, text: str) -> VaultState:
        """Return what a snapshot says; UsageError as `find_snapshot` raises it."""
        return self._of([find_snapshot(self.links, text)])

    def at(self, moment: datetime) -> VaultState:
        """Return what the vault held at an aware time; UsageError if nothing is that old."""
        return self._of(heads(as_of(self.links, moment)))

    def named(self, text: str) -> VaultState:
        """Return the state that the end of an address means: a snapshot, a time, or (empty) now."""
        if not text:
            return self.present()
        moment = _read_moment(text)
        return self.snapshot(text) if moment is None else self.at(moment)

    def state_of(self, link: Link) -> SnapshotState | None:
        """Open a snapshot; None for a damaged one that was passed over."""
        if link.name not in self._states:
            try:
                self._states[link.name] = self.vault.state(link)
            except (VaultDamagedError, VaultFormatError) as error:
                self._tell(link.key, error)
                self._states[link.name] = None
        return self._states[link.name]

    def _of(self, links: Sequence[Link], *, present: bool = False) -> VaultState:
        states = [state for link in links if (state := self.state_of(link)) is not None]
        journals = self._journals if present else ()
        return VaultState(self.vault, links, states, journals, self._forgotten)

    def _read_forgotten(self, top: Sequence[Link]) -> Forgotten:
        states = [state for link in top if (state := self.state_of(link)) is not None]
        try:
            return forgotten_of(self.vault, states)
        except VaultDamagedError as error:
            self._tell("snapshots/", error)
            return Forgotten()

    def _tell(self, key: str, error: DestinationError) -> None:
        if self._pass_over is None:
            raise error
        self._pass_over(key, error)
