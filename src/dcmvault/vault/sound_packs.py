"""A pack's right bytes, from wherever they can still be had: a copy of it, or its parity."""

from __future__ import annotations

from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    ObjectMissingError,
    VaultDamagedError,
)
from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault.copies import RedundantObjects
from dcmvault.vault.pack import pack_key
from dcmvault.vault.parity import mend_pack

#: Where a medium does not give a pack as a whole, this much of it is left out around the spot.
_PIECE_BYTES = 64 << 10


def sound_pack(store: ObjectStore, objects: RedundantObjects, name: bytes) -> bytes | None:
    """Return the bytes that a pack's name promises; None if nothing gives them any more."""
    key = pack_key(name)
    try:
        return objects.get(key)
    except (ObjectMissingError, VaultDamagedError):
        pass
    left = what_is_left(store, key)
    for parity_key in parity_keys(store, name):
        parity = what_is_left(store, parity_key)
        if parity is None:
            continue
        try:
            mended = mend_pack(left, parity, name)
        except VaultDamagedError:
            continue
        if mended is not None:
            return mended
    return None


def parity_keys(store: ObjectStore, name: bytes) -> list[str]:
    """List the parity objects of a pack: one, where it has any."""
    digest = name.hex()
    return list(store.keys(f"parity/{digest[:2]}/{digest}."))


def what_is_left(store: ObjectStore, key: str) -> bytes | None:
    """Return an object's bytes, zeros in place of what the medium does not give; None if gone."""
    size = store.head(key)
    if size is None:
        return None
    try:
        return store.get(key)
    except DestinationError as error:
        if not _is_of_this_object(error):
            raise
    pieces = []
    for start in range(0, size, _PIECE_BYTES):
        length = min(_PIECE_BYTES, size - start)
        try:
            pieces.append(store.get(key, start, length).ljust(length, b"\0"))
        except DestinationError as error:
            if not _is_of_this_object(error):
                raise
            pieces.append(bytes(length))
    return b"".join(pieces)


def _is_of_this_object(error: DestinationError) -> bool:
    return not isinstance(error, DestinationStoppedError | DestinationUnreachableError)
