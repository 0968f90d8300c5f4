"""The vault while a process works with it: opened once, looked at anew now and then.

Others forget studies, prune and change keys meanwhile; an older copy may lie at its place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dcmvault.errors import VaultLockedError, VaultSetBackError
from dcmvault.ports.clock import Clock
from dcmvault.vault.ballast import require_ballast
from dcmvault.vault.current_records import current_parts
from dcmvault.vault.records import InstanceRecord
from dcmvault.vault.repository import Vault
from dcmvault.vault.rotation import rotate_when_due
from dcmvault.vault.snapshot import heads
from dcmvault.vault.state import VaultState, present_state
from dcmvault.vault.writer import KnownFiles

#: So often a process that writes loads the keys anew, and asks whether an epoch is due.
_LOOKED_AT_EVERY = timedelta(minutes=10)


@dataclass(slots=True)
class Seen:
    """What the vault held when it was looked at, with what all deliveries share."""

    vault: Vault
    state: VaultState
    known: KnownFiles
    looked_at: datetime
    #: What the ledger counted of others until then.
    changes: int
    #: No snapshot is lost that somebody outside knows of.
    is_as_known: bool = False


class VaultAtWork:
    """Opens the vault when it is first needed. Safe for several threads.

    `known_snapshots` names the snapshots that somebody outside of the vault knows of.
    """

    def __init__(
        self,
        open_vault: Callable[[], Vault],
        clock: Clock,
        known_snapshots: Callable[[], Collection[str]],
    ) -> None:
        self._open_vault = open_vault
        self._clock = clock
        self._known_snapshots = known_snapshots
        self._opened: Vault | None = None
        #: Nothing after a snapshot: the next who wants to know looks again.
        self._seen: Seen | None = None
        #: By study and digest, files that were found damaged or gone, until they are stored anew.
        self._lost: set[tuple[str, bytes]] = set()
        self._lock = threading.Lock()

    def vault(self) -> Vault:
        """Return the opened vault."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open_vault()
            return self._opened

    def look(self) -> Seen:
        """Read what the vault holds, unless that is known."""
        vault = self.vault()
        with self._lock:
            if self._seen is None:
                self._seen = _looked_at(vault, self._lost)
            return self._seen

    def look_again(self) -> Seen:
        """Read what others stored meanwhile, if they did."""
        vault = self.vault()
        with self._lock:
            if self._seen is None or _has_changed(self._seen):
                self._seen = _looked_at(vault, self._lost)
            return self._seen

    def lose(self, study_instance_uid: str, file_sha256: bytes) -> None:
        """Take up that a file is damaged or gone: whoever puts it next stores it anew."""
        self._lost.add((study_instance_uid, file_sha256))

    def look_to_write(self) -> Seen:
        """Look again when others wrote, and whether it is the vault that it was.

        Where what opened it does so no more it is opened by the secret of now: VaultLockedError
        if that does not, either. Raises VaultSetBackError, and DestinationStoppedError on a full
        disk.
        """
        try:
            return self._look_to_write()
        except VaultLockedError:
            with self._lock:
                self._opened = self._seen = None
        return self._look_to_write()

    def _look_to_write(self) -> Seen:
        vault = self.vault()
        with self._lock:
            seen = self._seen
            if (
                seen is None
                or abs(self._clock.now() - seen.looked_at) > _LOOKED_AT_EVERY
                or _has_changed(seen)
            ):
                seen = self._seen = _looked_at(vault, self._lost)
                rotate_when_due(vault)
        if not seen.is_as_known:
            self.require_known_snapshots()
            seen.is_as_known = True
        require_ballast(vault)
        return seen

    def forget(self) -> None:
        """Look anew when somebody asks next."""
        with self._lock:
            self._seen = None

    def lost_snapshots(self, known: Collection[str]) -> list[str]:
        """Return which of these snapshots are neither there nor forgotten on purpose."""
        vault = self.vault()
        there = {key.removeprefix("snapshots/") for key in vault.objects.keys("snapshots/")}
        gone = set(known) - there
        if gone:
            # Read after the look: whoever forgot one wrote so before it went.
            gone -= present_state(vault).forgotten.snapshots
        return sorted(gone)

    def require_known_snapshots(self) -> None:
        """Raise VaultSetBackError when a snapshot is lost that somebody outside knows of."""
        lost = self.lost_snapshots(self._known_snapshots())
        if lost:
            raise VaultSetBackError(
                f"the vault is not what it was: it lost snapshots, among them {lost[-1]}, so it"
                " is an older copy or another vault",
                hint="Is the right disk mounted? `dcmvault vault check` says what is wrong. If"
                " this is the vault to go on with: `dcmvault verify` finds what it lost, and the"
                " next backup stores that again.",
            )


def _has_changed(seen: Seen) -> bool:
    """Say whether others stored or forgot anything since; costs four lists of keys."""
    seen.vault.refresh()
    has_changed = seen.vault.ledger.changes != seen.changes
    return has_changed or heads(seen.vault.links()) != list(seen.state.links)


def _looked_at(vault: Vault, lost: set[tuple[str, bytes]]) -> Seen:
    state = present_state(vault)
    # Journals that come from now on are read with each study; links are compared.
    changes = vault.ledger.changes

    def read_study(study_instance_uid: str) -> Iterator[InstanceRecord]:
        now = replace(state, journals=vault.journals())
        for part in current_parts(now, study_instance_uid):
            yield from part.records.instances

    known = KnownFiles(read_study, state.forgotten.studies, lost)
    return Seen(vault, state, known, vault.clock.now(), changes)
