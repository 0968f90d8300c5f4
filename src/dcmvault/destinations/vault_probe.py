"""The way to a vault tried step by step: its place, the vault, its key, writing, space."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dcmvault.errors import (
    ConfigurationError,
    DestinationError,
    ObjectExistsError,
    ObjectMissingError,
    VaultDamagedError,
    VaultFormatError,
    VaultLockedError,
    VaultMissingError,
)
from dcmvault.model.probe import ProbeStep
from dcmvault.ports.clock import Clock
from dcmvault.ports.object_store import CompareAndSwap
from dcmvault.vault.initialise import README_KEY
from dcmvault.vault.lease import holder
from dcmvault.vault.repository import Vault

_WRITABLE_FROM = 100 << 20


@dataclass(slots=True)
class VaultProbe:
    """Tries one vault; `folder` is where it is, if that is on this machine."""

    open_vault: Callable[[], Vault]
    folder: Path | None
    clock: Clock
    #: Hears of each step when it ended.
    tell: Callable[[ProbeStep], None] = lambda _step: None
    #: Whether it is to be written to, and not only read.
    writes: bool = True

    def run(self) -> tuple[ProbeStep, ...]:
        """Try every step; stop after the first that fails."""
        steps: list[ProbeStep] = []
        begun = self.clock.monotonic()
        for name, ok, detail, hint in self._steps():
            now = self.clock.monotonic()
            steps.append(ProbeStep(name, ok, detail, now - begun, hint))
            self.tell(steps[-1])
            begun = now
            if not ok:
                break
        return tuple(steps)

    def _steps(self) -> Iterator[tuple[str, bool, str, str]]:
        try:
            vault = self.open_vault()
        except VaultMissingError as error:
            yield "place", True, "it answers", ""
            yield "vault", False, error.message, error.hint
            return
        except VaultLockedError as error:
            yield "place", True, "it answers", ""
            yield "vault", True, "there is a vault", ""
            yield "key", False, error.message, error.hint
            return
        except (VaultFormatError, VaultDamagedError) as error:
            yield "place", True, "it answers", ""
            yield "vault", False, error.message, error.hint
            return
        except (DestinationError, ConfigurationError) as error:
            yield "place", False, error.message, error.hint
            return
        yield "place", True, "it answers", ""
        yield "vault", True, f"there is a vault, made {vault.config.created_at[:10]}", ""
        yield "key", True, _opened(vault), ""
        if not self.writes:
            return
        yield "write", *_write(vault)
        yield "lease", *_lease(vault)
        if self.folder is not None:
            yield "space", *_space(self.folder)


def _opened(vault: Vault) -> str:
    return "it opens" if vault.config.encrypted else "it is not encrypted"


def _write(vault: Vault) -> tuple[bool, str, str]:
    """Write what is there already: a store looks at the rights first, and nothing is left."""
    try:
        vault.store.put(README_KEY, [vault.objects.get(README_KEY)])
    except (ObjectExistsError, ObjectMissingError, VaultDamagedError):
        return False, f"{README_KEY} is not as it was", "Run `dcmvault vault check`."
    except DestinationError as error:
        return False, error.message, error.hint
    return True, "an object can be written", ""


def _lease(vault: Vault) -> tuple[bool, str, str]:
    if not isinstance(vault.store, CompareAndSwap):
        return True, "the place keeps no lease, so nothing can be pruned there", ""
    try:
        purpose, expires_at = holder(vault.store, vault.clock)
    except DestinationError as error:
        return False, error.message, error.hint
    if purpose:
        return True, f"held for “{purpose}” until {expires_at} at most", ""
    return True, "nobody prunes it or changes its keys now", ""


def _space(folder: Path) -> tuple[bool, str, str]:
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        return False, os.strerror(error.errno or 0), "Is the disk mounted?"
    detail = f"{usage.free / 1e9:,.1f} of {usage.total / 1e9:,.1f} GB free"
    if usage.free < _WRITABLE_FROM:
        return False, detail, "Free space on the disk."
    return True, detail, ""
