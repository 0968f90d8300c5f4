"""Single objects of a vault set right: from another copy, from parity, or made anew.

Nothing that is the last of its kind is removed before its right bytes are stored.
"""

from __future__ import annotations

from dcmvault.errors import (
    DestinationStoppedError,
    ObjectMissingError,
    VaultDamagedError,
    VaultFormatError,
)
from dcmvault.vault.check_objects import ObjectCheck
from dcmvault.vault.config import CONFIG_KEY, digest_of
from dcmvault.vault.copies import with_check_line
from dcmvault.vault.initialise import BALLAST_KEY, README_KEY, write_rescue_kit
from dcmvault.vault.inventory import name_of
from dcmvault.vault.key_changes import drop_superseded
from dcmvault.vault.key_objects import KEYS_PREFIX
from dcmvault.vault.lease import LEASE_KEY
from dcmvault.vault.pack import pack_key
from dcmvault.vault.parity import make_parity, parity_key
from dcmvault.vault.repository import Vault
from dcmvault.vault.sound_packs import parity_keys, sound_pack, what_is_left
from dcmvault.vault.vault_readme import README


def mend_object(vault: Vault, key: str) -> list[str]:
    """Set one object right, durably; return where something was written. Needs the lease.

    Returns nothing where nothing can be done, or nothing was wrong. Indexes and journals that are
    damaged in every copy are not mended here: what they said is read from the packs.
    """
    if key.startswith("packs/"):
        return _mend_pack(vault, key)
    if key.startswith("parity/"):
        return _mend_parity(vault, name_of(key))
    if key == CONFIG_KEY:
        return _rewrite(vault, key, _config(vault))
    if key == README_KEY:
        return _rewrite(vault, key, _readme(vault))
    if key == BALLAST_KEY:
        return _mend_ballast(vault)
    if key == LEASE_KEY:  # whoever takes it, writes it
        return []
    if key.startswith("rescue/"):
        return _mend_rescue_kit(vault, key)
    mended = _mend_copies(vault, key)
    if key.startswith("condemned/") and not mended and ObjectCheck(vault).read(key).findings:
        # What nobody can read condemns nothing; the next prune looks anew.
        vault.objects.delete(key)
        return [key]
    if key.startswith(KEYS_PREFIX):
        mended += drop_superseded(vault.objects, vault.config)
    return mended


def _mend_copies(vault: Vault, key: str) -> list[str]:
    try:
        return vault.objects.mend(key)
    except (VaultDamagedError, ObjectMissingError):
        return []


def _mend_pack(vault: Vault, key: str) -> list[str]:
    try:
        return vault.objects.mend(key)
    except (ObjectMissingError, VaultDamagedError):
        right = sound_pack(vault.store, vault.objects, name_of(key))
    if right is None:
        return []
    return vault.objects.mend(key, right)


def _mend_parity(vault: Vault, name: bytes) -> list[str]:
    try:
        pack = vault.objects.get(pack_key(name))
    except (ObjectMissingError, VaultDamagedError):
        return []
    parity = make_parity(pack)
    key = parity_key(name, parity)
    for other in parity_keys(vault.store, name):
        if other == key and what_is_left(vault.store, other) == parity:
            continue
        vault.store.delete(other)
    if vault.store.head(key) is not None:
        return []
    vault.store.put(key, [parity])
    return [key]


def _config(vault: Vault) -> bytes:
    """Return what the key ring says that `config` is."""
    raw = with_check_line(vault.config.encode().decode())
    if digest_of(raw) == vault.sealing.ring.config_sha256:
        return raw
    for place in vault.objects.places(CONFIG_KEY):
        copy = vault.objects.read_copy(place)
        if copy is not None and digest_of(copy) == vault.sealing.ring.config_sha256:
            return copy
    raise VaultFormatError("no copy of the vault's configuration is the one of its keys")


def _readme(vault: Vault) -> bytes:
    try:
        return vault.objects.get(README_KEY)
    except (ObjectMissingError, VaultDamagedError):
        return with_check_line(README)


def _rewrite(vault: Vault, key: str, data: bytes) -> list[str]:
    """Put the same bytes wherever a copy should be, also over others that look sound."""
    written = []
    for place in reversed(vault.objects.places(key)):
        try:
            if vault.objects.read_copy(place) == data:
                continue
            vault.store.delete(place)
        except ObjectMissingError:
            pass
        vault.store.put(place, [data])
        written.append(place)
    return written


def _mend_ballast(vault: Vault) -> list[str]:
    zeros = bytes(vault.config.ballast)
    try:
        if vault.objects.read_copy(BALLAST_KEY) == zeros:
            return []
        vault.store.delete(BALLAST_KEY)
    except ObjectMissingError:
        pass
    try:
        vault.store.put(BALLAST_KEY, [zeros])
    except DestinationStoppedError:  # the disk is still full: that is what it is for
        return []
    return [BALLAST_KEY]


def _mend_rescue_kit(vault: Vault, key: str) -> list[str]:
    try:
        return vault.objects.mend(key)
    except VaultDamagedError:
        vault.objects.delete(key)
    except ObjectMissingError:
        pass
    write_rescue_kit(vault.objects)
    return [key]
