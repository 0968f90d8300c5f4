"""Objects in triplicate: which copies there are, which of them are sound (format page, 2)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from enum import StrEnum
from typing import NamedTuple, TypeVar

from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    ObjectExistsError,
    ObjectMissingError,
    VaultDamagedError,
)
from dcmvault.ports.object_store import CacheEviction, ObjectStore, Retention

_COPIES = "copies/"
_FOLDERS = ("copies/1/", "copies/2/")
_CHECKED_TEXTS = frozenset({"config", "lease", "README.txt"})
_ALWAYS_TRIPLE = ("config", "keys/")
#: Kept from being removed where the store can do that, from when they are written. The rest is
#: either superseded soon, or packs, which are retained when a snapshot takes them up.
RETAINED = ("config", "keys/", "index/", "snapshots/", "README.txt", "rescue/")
#: Packs have parity; of the others a vault can do without.
_ALWAYS_SINGLE = ("packs/", "parity/", "lease", "ballast")
_DIGEST = re.compile(r"(?:\A|[-.])([0-9a-f]{64})(?:\.[a-z]+)?\Z")
_CHECK_LINE = re.compile(rb"(?:\A|\n)sha256:([0-9a-f]{64})\n\Z")
_CHECK_LINE_BYTES = len("sha256:") + 64 + 1
_THREADS = 4

_T = TypeVar("_T")


class Soundness(StrEnum):
    """What a look at one copy found."""

    SOUND = "sound"
    #: Other bytes than its name promises, or bytes that the medium does not give.
    DAMAGED = "damaged"
    MISSING = "missing"


class CopyState(NamedTuple):
    """One copy of an object."""

    key: str  #: where this copy lies, e.g. `copies/2/config`
    state: Soundness


def digest_of_key(key: str) -> bytes | None:
    """Return the SHA-256 that the last component of a key promises; None if it promises none."""
    found = _DIGEST.search(key.rpartition("/")[2])
    return bytes.fromhex(found[1]) if found else None


def with_check_line(text: str) -> bytes:
    """Return a plain text of the vault, ended by the line that tells any damage of it."""
    body = text.encode()
    if not body.endswith(b"\n"):
        body += b"\n"
    return body + f"sha256:{hashlib.sha256(body).hexdigest()}\n".encode()


def check_line_holds(data: bytes) -> bool:
    """Say whether a plain text ends with its check line, and is what that line says."""
    found = _CHECK_LINE.search(data)
    if found is None:
        return False
    return hashlib.sha256(data[:-_CHECK_LINE_BYTES]).hexdigest().encode() == found[1]


def without_check_line(data: bytes) -> bytes:
    """Return the text before its check line; VaultDamagedError if that line does not hold."""
    if not check_line_holds(data):
        raise VaultDamagedError("A plain text of the vault is not what its last line promises.")
    return data[:-_CHECK_LINE_BYTES]


def is_sound(key: str, data: bytes) -> bool:
    """Say whether bytes are what their key promises (a key that promises nothing is kept)."""
    digest = digest_of_key(key)
    if digest is not None:
        return hashlib.sha256(data).digest() == digest
    return key not in _CHECKED_TEXTS or check_line_holds(data)


class RedundantObjects:
    """The objects of a vault, each with as many copies as it should have.

    `copies` is 1 or 3, as `config` says; `config` and `keys/` have three in any case. Keys are
    those of the format page without `copies/N/`. Safe for several threads, and for several
    processes on one vault, as far as the store is.
    """

    def __init__(self, store: ObjectStore, copies: int = 3) -> None:
        if copies not in (1, 3):
            message = f"a vault has 1 or 3 copies, not {copies}"
            raise ValueError(message)
        self._store = store
        self._copies = copies
        #: With one copy: what lies under `copies/` nevertheless. None: nobody looked yet.
        self._spares: frozenset[str] | None = None
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="vault-copies")

    def put(self, key: str, data: bytes) -> None:
        """Store an object in all its copies, durable on return; damaged ones are replaced.

        Copies come first: where KEY is, all of its copies are. ObjectExistsError if the key
        promises no digest and a sound copy has other bytes; ValueError if `data` is not what the
        key promises.
        """
        if not is_sound(key, data):
            message = f"these bytes do not belong under {key}"
            raise ValueError(message)
        places = self.places(key)
        if digest_of_key(key) is None:
            # Two that make one vault at the same time differ in `config`: the first place
            # decides, so that no place has one's bytes and the next the other's.
            for place in reversed(places):
                self._put(place, key, data)
        else:
            _each(self._pool, places[1:], lambda place: self._put(place, key, data))
            self._put(key, key, data)
        self._retain(key, places)

    def get(self, key: str) -> bytes:
        """Return the bytes of a sound copy.

        Raises ObjectMissingError if there is no copy, VaultDamagedError if none is sound. Where
        three damaged copies are left, the majority of their bits is tried, too.
        """
        damaged: list[bytes] = []
        seen = False
        for place in _all_places(key):
            try:
                data = _read(self._store, place)
            except ObjectMissingError:
                continue
            seen = True
            if data is None:
                continue
            if is_sound(key, data):
                return data
            damaged.append(data)
        voted = _majority(damaged)
        if voted is not None and is_sound(key, voted):
            return voted
        if not seen:
            raise ObjectMissingError(f"no object {key}")
        raise VaultDamagedError(
            f"The vault's object {key} is damaged in every copy.",
            hint="Run `dcmvault vault repair`; another copy of the vault may have it.",
        )

    def keys(self, prefix: str = "") -> list[str]:
        """List the keys of which there is any copy, sorted."""
        found = {key for key in self._store.keys(prefix) if not key.startswith(_COPIES)}
        if self._copies == 1:
            # A list is a request, and most have nothing to say: what a mending that was cut short
            # left there has been there since before this vault was opened.
            spares = self._known_spares(look_again=prefix.startswith(_ALWAYS_TRIPLE))
        else:
            spares = frozenset(
                place for folder in _FOLDERS for place in self._store.keys(folder + prefix)
            )
        for folder in _FOLDERS:
            start = folder + prefix
            found.update(place.removeprefix(folder) for place in spares if place.startswith(start))
        return sorted(found)

    def _known_spares(self, *, look_again: bool = False) -> frozenset[str]:
        if self._spares is None or look_again:
            self._spares = frozenset(self._store.keys(_COPIES))
        return self._spares

    def delete(self, key: str) -> None:
        """Remove all copies; ObjectMissingError if there is none."""
        # The reverse of `put`: KEY first. Whatever is interrupted, KEY is there only together
        # with its copies. What a crash leaves is an object without KEY, which `keys` still
        # lists: who was removing it finds it again, and no crash makes an object that was to
        # stay look removed.
        removed = [_remove(self._store, key)]
        others = _all_places(key)[1:]
        if self.places(key) == [key] and self._copies == 1:
            others = [place for place in others if place in self._known_spares()]
        removed += _each(self._pool, others, lambda place: _remove(self._store, place))
        if not any(removed):
            raise ObjectMissingError(f"no object {key}")

    def inspect(self, key: str) -> list[CopyState]:
        """Read every copy that the object should have, KEY first, and say how it is."""
        return [CopyState(place, self._state(place, key)) for place in self.places(key)]

    def mend(self, key: str, data: bytes | None = None) -> list[str]:
        """Write damaged and missing copies again from a sound one; return where they lie.

        `data` are the right bytes, where they are had otherwise. Raises what `get` raises.
        """
        wrong = [one for one in self.inspect(key) if one.state is not Soundness.SOUND]
        if wrong and data is None:
            data = self.get(key)
        # The last copy first, as `put` does.
        for place, state in reversed(wrong):
            assert data is not None
            if state is Soundness.MISSING:
                self._put(place, key, data)
            else:  # a disk may not even give the bytes to be compared
                self._replace(place, key, data)
        self._retain(key, [place for place, _state in wrong])
        if len(self.places(key)) == 1:
            _each(self._pool, _all_places(key)[1:], lambda place: _remove(self._store, place))
        return [place for place, _state in wrong]

    def complete(self, prefix: str) -> None:
        """Write copies that are not there: whoever wrote these objects was interrupted.

        For who keeps others from removing them meanwhile.
        """
        starts = tuple(folder + prefix for folder in _FOLDERS)
        if self._copies == 1 and not any(one.startswith(starts) for one in self._known_spares()):
            return
        listed = set(self._store.keys(prefix))
        listed.update(key for folder in _FOLDERS for key in self._store.keys(folder + prefix))
        for key in self.keys(prefix):
            if not listed.issuperset(self.places(key)):
                self.mend(key)

    def places(self, key: str) -> list[str]:
        """List where copies of an object should lie, KEY first."""
        triple = key.startswith(_ALWAYS_TRIPLE)
        if not triple and (self._copies == 1 or key.startswith(_ALWAYS_SINGLE)):
            return [key]
        return _all_places(key)

    def _retain(self, key: str, places: Iterable[str]) -> None:
        if isinstance(self._store, Retention) and key.startswith(RETAINED):
            store, until = self._store, self._store.keep_until()
            _each(self._pool, places, lambda place: store.retain(place, until))

    def _put(self, place: str, key: str, data: bytes) -> None:
        """Store one copy; what is damaged there gives way."""
        try:
            self._store.put(place, [data])
        except ObjectExistsError:
            if self._state(place, key) is Soundness.SOUND:
                if digest_of_key(key) is not None:  # somebody else mended it meanwhile
                    return
                raise
            self._replace(place, key, data)

    def _replace(self, place: str, key: str, data: bytes) -> None:
        spare = _FOLDERS[0] + key
        only = self.places(key) == [place]
        if only:
            self._spares = None
            # A damaged pack may be the only thing its parity can mend: it goes only when its
            # sound bytes are safe elsewhere.
            self._put(spare, key, data)
        _remove(self._store, place)
        self._store.put(place, [data])
        if only:
            _remove(self._store, spare)

    def _state(self, place: str, key: str) -> Soundness:
        try:
            data = self.read_copy(place)
        except ObjectMissingError:
            return Soundness.MISSING
        sound = data is not None and is_sound(key, data)
        return Soundness.SOUND if sound else Soundness.DAMAGED

    def read_copy(self, place: str) -> bytes | None:
        """Return the bytes of one copy as the medium has them, None if it does not give them.

        Past all caches, as far as that can be asked. Raises ObjectMissingError.
        """
        if isinstance(self._store, CacheEviction):
            self._store.evict(place)
        return _read(self._store, place)


def _each(pool: ThreadPoolExecutor, places: Iterable[str], action: Callable[[str], _T]) -> list[_T]:
    """Do something at several places at once, and wait for all of them."""
    futures = [pool.submit(action, place) for place in places]
    wait(futures)
    return [future.result() for future in futures]


def _remove(store: ObjectStore, place: str) -> bool:
    try:
        store.delete(place)
    except ObjectMissingError:
        return False
    return True


def _read(store: ObjectStore, place: str) -> bytes | None:
    try:
        return store.get(place)
    except (ObjectMissingError, DestinationUnreachableError, DestinationStoppedError):
        raise
    except DestinationError:
        return None


def _all_places(key: str) -> list[str]:
    return [key, *(folder + key for folder in _FOLDERS)]


def _majority(copies: list[bytes]) -> bytes | None:
    """Return what two of three copies of one length say, bit by bit."""
    if len(copies) != 3 or len({len(copy) for copy in copies}) != 1:
        return None
    one, two, three = (int.from_bytes(copy, "little") for copy in copies)
    return (one & two | one & three | two & three).to_bytes(len(copies[0]), "little")
