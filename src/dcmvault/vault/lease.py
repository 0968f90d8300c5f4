"""The lease: who may prune, repair, forget or change keys now (format page, 12).

Nobody ever has to break it. It ends by itself a few minutes after its holder died, and at once
where the death can be seen: a holder locks a file of its own on its machine while it lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from dcmvault.config.places import state_folder
from dcmvault.errors import (
    DestinationAbsentError,
    DestinationError,
    DestinationUnreachableError,
    ObjectMissingError,
    UsageError,
    VaultBusyError,
    VaultDamagedError,
)
from dcmvault.ports.clock import Clock
from dcmvault.ports.object_store import CompareAndSwap, ObjectStore
from dcmvault.vault.copies import with_check_line, without_check_line
from dcmvault.vault.records import time_text

LEASE_KEY = "lease"
#: How long a lease lasts unless it is renewed.
LEASE_TIME = timedelta(minutes=10)
#: How often long work renews it.
_RENEWED_EVERY_S = 120.0
#: In the state folder: one locked file for each lease that a process of this machine holds.
_WITNESSES = "leases"


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a lease says."""

    holder: str = ""
    purpose: str = ""
    expires_at: str = ""


class Lease:
    """A lease that is held; used by one thread."""

    def __init__(self, store: ObjectStore, clock: Clock, purpose: str) -> None:
        if not isinstance(store, CompareAndSwap):
            raise UsageError("this store cannot keep a lease, so nothing may be removed from it")
        self._store = store
        self._swap = store.swap
        self._clock = clock
        self._purpose = purpose
        self.holder = secrets.token_hex(8)
        self._written: bytes = b""
        self._renewed = 0.0

    def renew(self) -> None:
        """Make it last from now on; VaultBusyError when somebody else has it by now.

        Called before everything that must not happen without it.
        """
        if not self._replace(self._written, LEASE_TIME):
            raise VaultBusyError(
                "the vault's lease was taken over by another process",
                hint="This process was held up for minutes; run the command again.",
            )

    def keep(self) -> None:
        """Renew it if that was a while ago: called often during long work."""
        if self._clock.monotonic() - self._renewed >= _RENEWED_EVERY_S:
            self.renew()

    def take(self) -> None:
        """Take it, if nobody has it; VaultBusyError says until when somebody else does."""
        current = _read(self._store)
        standing = _standing(current)
        if standing.expires_at > time_text(self._clock.now()) and not _is_dead(standing.holder):
            raise VaultBusyError(
                f"another process holds the vault's lease ({standing.purpose}), until"
                f" {standing.expires_at} at most",
                hint="Wait until it has ended; a lease of a dead process ends by itself.",
            )
        if not self._replace(current, LEASE_TIME):
            raise VaultBusyError(
                "another process took the vault's lease just now",
                hint="Try again in a few minutes.",
            )
        if standing.holder.isalnum():
            with suppress(OSError):
                _witness_path(standing.holder).unlink()

    def give_back(self) -> None:
        """End it; DestinationError if that cannot be written down now."""
        self._replace(self._written, timedelta(0))

    def _replace(self, current: bytes | None, lasting: timedelta) -> bool:
        document = {
            "holder": self.holder,
            "purpose": self._purpose,
            "expires_at": time_text(self._clock.now() + lasting),
        }
        fresh = with_check_line(json.dumps(document))
        try:
            done = self._swap(LEASE_KEY, current, fresh)
        except DestinationUnreachableError:
            # It may have happened nevertheless; the text names who wrote it.
            if _read(self._store) != fresh:
                raise
            done = True
        if done:
            self._written = fresh
            self._renewed = self._clock.monotonic()
        return done


@contextmanager
def hold_lease(store: ObjectStore, clock: Clock, purpose: str) -> Iterator[Lease]:
    """Hold the vault's lease; VaultBusyError says until when somebody else has it."""
    lease = Lease(store, clock, purpose)
    with _witness(lease.holder) as witness:
        try:
            lease.take()
        except VaultBusyError:
            witness.is_over = True
            raise
        try:
            yield lease
        finally:
            # What cannot be given back now ends by itself.
            with suppress(DestinationError):
                lease.give_back()
                witness.is_over = True


def holder(store: ObjectStore, clock: Clock) -> tuple[str, str]:
    """Return for what the lease is held now, and until when at most; empty texts if it is free."""
    standing = _standing(_read(store))
    if standing.expires_at <= time_text(clock.now()) or _is_dead(standing.holder):
        return "", ""
    return standing.purpose, standing.expires_at


def _read(store: ObjectStore) -> bytes | None:
    try:
        return store.get(LEASE_KEY)
    except (ObjectMissingError, DestinationAbsentError):  # also a place that a copy will make
        return None


def _standing(current: bytes | None) -> _Standing:
    """Read a lease; a damaged one counts as ended."""
    if current is None:
        return _Standing()
    try:
        document = json.loads(without_check_line(current))
        return _Standing(
            str(document["holder"]), str(document["purpose"]), str(document["expires_at"])
        )
    except (VaultDamagedError, ValueError, KeyError, TypeError):
        return _Standing()


@dataclass(slots=True)
class _Witness:
    """Whether the file of a lease is of no more use."""

    is_over: bool = field(default=False)


@contextmanager
def _witness(holder: str) -> Iterator[_Witness]:
    """Lock a file as long as this process lives; without one a lease just ends later."""
    witness, path = _Witness(), _witness_path(holder)
    descriptor = -1
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield witness
    finally:
        if descriptor >= 0:
            if witness.is_over:
                with suppress(OSError):
                    path.unlink()
            os.close(descriptor)


def _is_dead(holder: str) -> bool:
    """Say whether a holder is known to have died: its file is here, and nobody locks it."""
    if not holder.isalnum():
        return False
    try:
        descriptor = os.open(_witness_path(holder), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _witness_path(holder: str) -> Path:
    return state_folder() / _WITNESSES / holder
