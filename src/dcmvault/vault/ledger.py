"""What index, journal and condemned objects say: read once each, and looked for anew when asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        self._loaded: set[str] = set()
        self._journals: dict[str, Journal] = {}
        self.condemned: frozenset[bytes] = frozenset()

    def refresh(self, pass_over: PassOver | None = None) -> None:
        """Read the objects that came since the last look.

        A damaged one raises VaultDamagedError, unless `pass_over` is told of it.
        """
        with self._lock:
            journals = self._objects.keys("journal/")
            present = [*self._objects.keys("index/"), *journals]
            fresh = [key for key in present if key not in self._loaded]
            with ThreadPoolExecutor(_READERS) as pool:
                read = pool.map(lambda key: self._read(key, pass_over), fresh)
                for key, addition in zip(fresh, read, strict=True):
                    if addition is not None:
                        self._take_up(key, addition)
            for gone in self._journals.keys() - set(journals):
                del self._journals[gone]
            self.look_at_condemned(pass_over)

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
        self._loaded.add(key)
        if key.startswith("journal/"):
            self._journals[key] = Journal(key, addition.records, addition.packs)

    def look_at_condemned(self, pass_over: PassOver | None = None) -> frozenset[bytes]:
        """Read which packs a prune condemned; they are no place for new references."""
        names: set[bytes] = set()
        for key in self._objects.keys("condemned/"):
            try:
                names |= condemned_packs(self._sealing.get(b"C", key))
            except ObjectMissingError:  # its prune ended meanwhile
                continue
            except (VaultDamagedError, VaultFormatError) as error:
                if pass_over is None:
                    raise
                pass_over(key, error)
        self.condemned = frozenset(names)
        self._index.avoid(self.condemned)
        return self.condemned

    def add_journal(self, addition: Addition) -> int:
        """Write down what a flush added, durable on return; return the bytes written."""
        key, size = self._sealing.put("journal", b"J", addition.encode())
        with self._lock:
            self._take_up(key, addition)
        return size

    def add_index(self, packs: Sequence[PackEntry], written_at: str) -> str:
        """Write an index object, durable on return; return its key."""
        addition = Addition(tuple(packs), written_at=written_at)
        key, _size = self._sealing.put("index", b"I", addition.encode())
        with self._lock:
            self._take_up(key, addition)
        return key

    def journals(self) -> list[Journal]:
        """List what was written since the last snapshot, as of the last `refresh`."""
        with self._lock:
            return [self._journals[key] for key in sorted(self._journals)]

    def index_keys(self) -> list[str]:
        """List the index objects that were read or written."""
        with self._lock:
            return sorted(key for key in self._loaded if key.startswith("index/"))

    def remove_index(self, key: str) -> None:
        """Remove an index object whose content is in another one."""
        self._objects.delete(key)
        with self._lock:
            self._loaded.discard(key)


def condemned_packs(body: bytes) -> frozenset[bytes]:
    """Read the packs that an object of kind C names; VaultDamagedError if it names none."""
    try:
        return frozenset(bytes.fromhex(name) for name in unpack_json(body)["packs"])
    except (KeyError, TypeError, ValueError) as error:
        raise VaultDamagedError("a list of condemned packs cannot be read") from error
