"""What index, journal and condemned objects say: read once each, and looked for anew when asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from dcmvault.errors import (
    DestinationError,
    ObjectMissingError,
    VaultDamagedError,
    VaultFormatError,
)
from dcmvault.vault.copies import RedundantObjects
from dcmvault.vault.index import Addition, BlobIndex, RecordsRef
from dcmvault.vault.pack import PackEntry
from dcmvault.vault.records import unpack_json
from dcmvault.vault.sealing import Sealing

_READERS = 8
#: Objects may go while they are read, again and again where others are at work.
_LOOKS = 5

#: Is told of an object that cannot be read, by its key, instead of an error being raised.
PassOver = Callable[[str, DestinationError], None]


@dataclass(frozen=True, slots=True)
class Journal:
    """One journal object: what a flush added, and no snapshot may name yet."""

    key: str
    records: tuple[RecordsRef, ...]
    packs: tuple[PackEntry, ...]


class Ledger:
    """Fills the index and knows the journals. Safe for several threads."""

    def __init__(self, objects: RedundantObjects, sealing: Sealing, index: BlobIndex) -> None:
        self._objects = objects
        self._sealing = sealing
        self._index = index
        self._lock = threading.Lock()
        #: Keys that were read or written, with the packs that they name.
        self._loaded: dict[str, tuple[bytes, ...]] = {}
        self._journals: dict[str, Journal] = {}
        self._condemned: dict[str, frozenset[bytes]] = {}
        self.condemned: frozenset[bytes] = frozenset()
        #: A look may find what is written here before its writer knows that it is there.
        self._being_written: set[str] = set()
        #: How often something was seen to have been added by others, or to be gone.
        self.changes = 0

    def refresh(self, pass_over: PassOver | None = None) -> None:
        """Read the objects that came since the last look, and forget those that are gone.

        A damaged one raises VaultDamagedError, unless `pass_over` is told of it.
        """
        with self._lock:
            for _attempt in range(_LOOKS):
                if self._look(pass_over):
                    break
            self.look_at_condemned(pass_over)

    def _look(self, pass_over: PassOver | None) -> bool:
        """Look once; False if objects went while they were read: what replaced them is there."""
        # Journals first: what a snapshot does away with, an index named before.
        journals = self._objects.keys("journal/")
        present = [*self._objects.keys("index/"), *journals]
        fresh = [key for key in present if key not in self._loaded]
        gone = self._loaded.keys() - set(present)
        self.changes += bool(gone or not self._being_written.issuperset(fresh))
        whole = True
        with ThreadPoolExecutor(_READERS) as pool:
            read = pool.map(lambda key: self._read(key, pass_over), fresh)
            for key, addition in zip(fresh, read, strict=True):
                if addition is not None:
                    self._take_up(key, addition)
                whole = whole and addition is not None
        self._forget(gone)
        return whole or pass_over is not None

    def _forget(self, gone: Set[str]) -> None:
        """Drop what only objects named that are gone; a prune removes such packs."""
        if not gone:
            return
        dropped: set[bytes] = set()
        for key in gone:
            dropped.update(self._loaded.pop(key))
            self._journals.pop(key, None)
        self._index.drop(dropped.difference(*self._loaded.values()))

    def _read(self, key: str, pass_over: PassOver | None) -> Addition | None:
        try:
            return Addition.decode(self._sealing.get(key[:1].upper().encode(), key))
        except ObjectMissingError:  # brought together with others meanwhile
            return None
        except (VaultDamagedError, VaultFormatError) as error:
            if pass_over is None:
                raise
            pass_over(key, error)
            return None

    def _take_up(self, key: str, addition: Addition) -> None:
        self._index.add(addition.packs)
        self._loaded[key] = tuple(pack.name for pack in addition.packs)
        if key.startswith("journal/"):
            self._journals[key] = Journal(key, addition.records, addition.packs)

    def look_at_condemned(self, pass_over: PassOver | None = None) -> frozenset[bytes]:
        """Read which packs a prune condemned; they are no place for new references."""
        names: dict[str, frozenset[bytes]] = {}
        for key in self._objects.keys("condemned/"):
            try:
                known = self._condemned.get(key)
                names[key] = known or condemned_packs(self._sealing.get(b"C", key))
            except ObjectMissingError:  # its prune ended meanwhile
                continue
            except (VaultDamagedError, VaultFormatError) as error:
                if pass_over is None:
                    raise
                pass_over(key, error)
        self._condemned = names
        self.condemned = frozenset().union(*names.values())
        self._index.avoid(self.condemned)
        return self.condemned

    def add_journal(self, addition: Addition) -> tuple[str, int]:
        """Write down what a flush added, durable on return; return its key and its size."""
        return self._write("journal", b"J", addition)

    def withdraw_journal(self, key: str) -> None:
        """Take back what was just written down; a snapshot may have taken it up meanwhile."""
        with suppress(ObjectMissingError):
            self._objects.delete(key)
        with self._lock:
            # Somebody may have read it meanwhile, and believe that what it says is there.
            self.changes += 1
            self._forget({key} & self._loaded.keys())

    def add_index(self, packs: Sequence[PackEntry], written_at: str) -> str:
        """Write an index object, durable on return; return its key."""
        addition = Addition(tuple(packs), written_at=written_at)
        key, _size = self._write("index", b"I", addition)
        return key

    def _write(self, prefix: str, kind: bytes, addition: Addition) -> tuple[str, int]:
        key, data = self._sealing.seal_object(prefix, kind, addition.encode())
        with self._lock:
            self._being_written.add(key)
        try:
            self._objects.put(key, data)
            with self._lock:
                self._take_up(key, addition)
        finally:
            with self._lock:
                self._being_written.discard(key)
        return key, len(data)

    def journals(self) -> list[Journal]:
        """List what was written since the last snapshot, as of the last `refresh`."""
        with self._lock:
            return [self._journals[key] for key in sorted(self._journals)]

    def index_objects(self) -> dict[str, frozenset[bytes]]:
        """Return the index objects that were read or written, each with the packs it names."""
        with self._lock:
            return {
                key: frozenset(packs)
                for key, packs in sorted(self._loaded.items())
                if key.startswith("index/")
            }

    def remove_index(self, key: str) -> None:
        """Remove an index object; what of it still counts must stand in another one."""
        with suppress(ObjectMissingError):
            self._objects.delete(key)
        with self._lock:
            self._forget({key} & self._loaded.keys())


def condemned_packs(body: bytes) -> frozenset[bytes]:
    """Read the packs that an object of kind C names; VaultDamagedError if it names none."""
    try:
        return frozenset(bytes.fromhex(name) for name in unpack_json(body)["packs"])
    except (KeyError, TypeError, ValueError) as error:
        raise VaultDamagedError("a list of condemned packs cannot be read") from error
