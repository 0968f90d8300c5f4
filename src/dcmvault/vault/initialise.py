"""Making a new vault: constants, keys, and what a stranger finds in it (format page, 2)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files

from dcmvault.errors import (
    DestinationAbsentError,
    DestinationError,
    ObjectExistsError,
    ObjectMissingError,
    UsageError,
)
from dcmvault.ports.clock import Clock
from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault.config import BALLAST_BYTES, CONFIG_KEY, VaultConfig, digest_of
from dcmvault.vault.copies import RedundantObjects, check_line_holds, with_check_line
from dcmvault.vault.key_changes import create_keys, drop_superseded
from dcmvault.vault.keys import RotationPolicy, new_ring, new_signing_key, verify_key_of
from dcmvault.vault.records import time_text
from dcmvault.vault.repository import Vault
from dcmvault.vault.slots import Applicant, Argon2Cost
from dcmvault.vault.vault_readme import README

BALLAST_KEY = "ballast"
README_KEY = "README.txt"
#: What only a vault that was once complete has.
_CONTENT = ("snapshots/", "journal/", "index/", "packs/", "condemned/")


def init_vault(
    store: ObjectStore,
    applicants: Sequence[tuple[Applicant, str]],
    clock: Clock,
    *,
    encrypted: bool = True,
    redundant: bool = True,
    parity: bool = True,
    rotation: RotationPolicy | None = None,
    cost: Argon2Cost | None = None,
) -> Vault:
    """Make a vault in an empty place and open it; `applicants` are secrets with their labels.

    `redundant`: triplicates and (unless not wanted) parity, for stores that are no better than
    their disk. The object `config` comes last: without it there is no vault, and what an
    interrupted call left behind does not count. UsageError if there is one, or a part of one.
    """
    seed = new_signing_key()
    config = VaultConfig(
        vault_id=secrets.token_bytes(16),
        created_at=time_text(clock.now()),
        encrypted=encrypted,
        copies=3 if redundant else 1,
        parity=redundant and parity,
        ballast=BALLAST_BYTES if redundant else 0,
        verify_key=verify_key_of(seed),
    )
    raw = with_check_line(config.encode().decode())
    objects = RedundantObjects(store, config.copies)
    _require_room(objects, store)
    # First what may stay behind: a place that cannot take it refuses before there are keys.
    write_extras(objects, store, config)
    ring = new_ring(digest_of(raw), seed, clock.now(), rotation)
    keys = create_keys(objects, config, ring, applicants, clock.now(), cost=cost)
    try:
        objects.put(CONFIG_KEY, raw)
    except ObjectExistsError:
        raise _is_there() from None
    with suppress(DestinationError):
        # Keys that an interrupted call left behind are signed by nobody that counts.
        drop_superseded(objects, config)
    return Vault(store, config, keys, clock)


def _require_room(objects: RedundantObjects, store: ObjectStore) -> None:
    """Refuse a place where a vault is, or somebody's own files are."""
    try:
        if objects.keys(CONFIG_KEY):
            raise _is_there()
        if any(objects.keys(prefix) for prefix in _CONTENT):
            raise UsageError(
                "there are parts of a vault here, but its configuration is missing",
                hint="Bring the object `config` back from another copy, or name another place.",
            )
        readme = store.get(README_KEY)
    except (DestinationAbsentError, ObjectMissingError):
        return
    if not check_line_holds(readme):
        raise UsageError(
            f"the place has a file {README_KEY} that is not a vault's", hint="Name an empty place."
        )


def write_extras(objects: RedundantObjects, store: ObjectStore, config: VaultConfig) -> None:
    """Store what no restore needs and every stranger wants, and the ballast."""
    objects.put(README_KEY, with_check_line(README))
    write_rescue_kit(objects)
    if config.ballast and store.head(BALLAST_KEY) is None:
        store.put(BALLAST_KEY, [bytes(config.ballast)])


def write_rescue_kit(objects: RedundantObjects) -> None:
    """Store the rescue tool and the format page as this version of dcmvault has them."""
    for name, suffix in (("rescue", "py"), ("vault-format", "md")):
        # They end in .txt here, because the tool is no module of the package.
        content = files("dcmvault.vault").joinpath("kit", f"{name}.txt").read_bytes()
        objects.put(f"rescue/{name}-{hashlib.sha256(content).hexdigest()}.{suffix}", content)


def _is_there() -> UsageError:
    return UsageError(
        "there is a vault already", hint="Name another place, or use the one that is there."
    )
