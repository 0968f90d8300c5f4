"""The lease: who may prune, repair or change keys now (format page, 12).

Nobody ever has to break it: it ends by itself, a few minutes after its holder died.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

from dcmvault.errors import (
    DestinationError,
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


@dataclass(slots=True)
class Lease:
    """A lease that is held."""

    store: CompareAndSwap
    clock: Clock
    purpose: str
    _holder: str = field(default_factory=lambda: secrets.token_hex(8))
    _written: bytes = b""

    def renew(self) -> None:
        """Make it last from now on; VaultBusyError when somebody else has it by now.

        Called before everything that must not happen without it.
        """
        fresh = self._text(LEASE_TIME)
        if not self.store.swap(LEASE_KEY, self._written, fresh):
            raise VaultBusyError(
                "the vault's lease was taken over by another process",
                hint="This process was held up for minutes; run the command again.",
            )
        self._written = fresh

    def _text(self, lasting: timedelta) -> bytes:
        document = {
            "holder": self._holder,
            "purpose": self.purpose,
            "expires_at": time_text(self.clock.now() + lasting),
        }
        return with_check_line(json.dumps(document))

    def take(self, current: bytes | None) -> bool:
        """Try to replace what is there."""
        fresh = self._text(LEASE_TIME)
        taken = self.store.swap(LEASE_KEY, current, fresh)
        if taken:
            self._written = fresh
        return taken

    def give_back(self) -> None:
        """End it."""
        self.store.swap(LEASE_KEY, self._written, self._text(timedelta(0)))


@contextmanager
def hold_lease(store: ObjectStore, clock: Clock, purpose: str) -> Iterator[Lease]:
    """Hold the vault's lease; VaultBusyError says until when somebody else has it."""
    if not isinstance(store, CompareAndSwap):
        raise UsageError("this store cannot keep a lease, so nothing may be removed from it")
    lease = Lease(store, clock, purpose)
    current = _read(store)
    expires_at, other = _standing(current)
    if expires_at > time_text(clock.now()):
        raise VaultBusyError(
            f"another process holds the vault's lease ({other}), until {expires_at} at most",
            hint="Wait until it has ended; a lease of a dead process ends by itself.",
        )
    if not lease.take(current):
        raise VaultBusyError(
            "another process took the vault's lease just now", hint="Try again in a few minutes."
        )
    try:
        yield lease
    finally:
        # What cannot be given back now ends by itself.
        with suppress(DestinationError):
            lease.give_back()


def holder(store: ObjectStore, clock: Clock) -> tuple[str, str]:
    """Return for what the lease is held now, and until when at most; empty texts if it is free."""
    expires_at, purpose = _standing(_read(store))
    return (purpose, expires_at) if expires_at > time_text(clock.now()) else ("", "")


def _read(store: ObjectStore) -> bytes | None:
    try:
        return store.get(LEASE_KEY)
    except ObjectMissingError:
        return None


def _standing(current: bytes | None) -> tuple[str, str]:
    """Return until when a lease is held, and for what; a damaged one counts as ended."""
    if current is None:
        return "", ""
    try:
        document = json.loads(without_check_line(current))
        return str(document["expires_at"]), str(document["purpose"])
    except (VaultDamagedError, ValueError, KeyError, TypeError):
        return "", ""
