"""Objects of a vault that somebody hid or covered in a bucket with Object Lock, brought back."""

from __future__ import annotations

from dataclasses import dataclass

from dcmvault.app.vault_access import vault_section
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.stores import open_locking_store
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.vault.lease import LEASE_KEY


@dataclass(frozen=True, slots=True)
class Uncovered:
    """What was brought back, and what could not be."""

    objects: tuple[str, ...]
    failed: tuple[str, ...]


def uncover(settings: Settings, name_or_address: str) -> Uncovered:
    """Make the first version of every object the present one; needs no key of the vault.

    UsageError where the vault's section says nothing of Object Lock.
    """
    section = vault_section(settings, name_or_address)
    store = open_locking_store(section, SystemClock())
    if store is None:
        raise UsageError(
            _("This vault is in no bucket with Object Lock."),
            hint=_("The destination's option “object_lock” says so, where it is."),
        )
    found = list(store.uncover({LEASE_KEY}))
    return Uncovered(
        tuple(key for key, is_back in found if is_back),
        tuple(key for key, is_back in found if not is_back),
    )
