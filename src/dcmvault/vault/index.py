"""The index: in which packs blobs lie. Compact in memory, made of index and journal objects."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import zstandard

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.blob import BlobType
from dcmvault.vault.pack import ROW_BYTES, PackEntry, Rows, rows_of

_LENGTH = struct.Struct("<I")
_MAX_HEAD_BYTES = 256 << 20
#: New blobs that are kept in a dictionary, which costs five times the memory that arrays do.
_FEWEST_RECENT, _MOST_RECENT = 10_000, 100_000


class RecordsRef(NamedTuple):
    """Where records of a study are: a blob of type RECORDS."""

    study_instance_uid: str
    id: bytes
    instances: int


class Addition(NamedTuple):
    """What a journal object says one flush added; of an index object only `packs` counts."""

    packs: tuple[PackEntry, ...]
    records: tuple[RecordsRef, ...] = ()
    source: str = ""
    run: str = ""
    written_at: str = ""

    def encode(self) -> bytes:
        """Return the body of a journal or index object (format page, 10)."""
        head = {
            "packs": [[pack.name.hex(), pack.size, len(pack.rows)] for pack in self.packs],
            "records": [
                [ref.study_instance_uid, ref.id.hex(), ref.instances] for ref in self.records
            ],
            "source": self.source,
            "run": self.run,
            "written_at": self.written_at,
        }
        packed = zstandard.compress(json.dumps(head).encode(), 6)
        rows = b"".join(pack.rows.tobytes() for pack in self.packs)
        return _LENGTH.pack(len(packed)) + packed + rows

    @classmethod
    def decode(cls, body: bytes) -> Addition:
        """Read a body; VaultDamagedError if it is none."""
        try:
            (length,) = _LENGTH.unpack_from(body)
            start = _LENGTH.size + length
            raw = zstandard.decompress(body[_LENGTH.size : start], max_output_size=_MAX_HEAD_BYTES)
            head = json.loads(raw)
            packs, at = [], start
            for name, size, blobs in head["packs"]:
                end = at + blobs * ROW_BYTES
                packs.append(PackEntry(bytes.fromhex(name), size, rows_of(body[at:end])))
                if len(packs[-1].rows) != blobs:
                    raise VaultDamagedError("an index object is cut short")
                at = end
            records = tuple(
                RecordsRef(study, bytes.fromhex(identity), instances)
                for study, identity, instances in head["records"]
            )
            return cls(tuple(packs), records, head["source"], head["run"], head["written_at"])
        except (struct.error, zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
            raise VaultDamagedError("an index object cannot be read") from error


class Place(NamedTuple):
    """Where a blob lies."""

    pack: bytes  #: the pack's name
    number: int  #: of the blob in its pack
    offset: int
    length: int
    content_length: int


class BlobIndex:
    """Finds blobs by type and id. Safe for several threads.

    Costs about 60 bytes per blob: the rows as they stand in the objects, and the first eight
    bytes of every id in ascending order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._packs: dict[bytes, PackEntry] = {}
        #: Blobs of packs added since the arrays were last made.
        self._recent: dict[bytes, list[tuple[bytes, int]]] = {}
        self._pending: list[PackEntry] = []
        self._order: list[PackEntry] = []
        self._starts: npt.NDArray[np.int64] = np.zeros(1, np.int64)
        self._keys: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._positions: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._avoided: frozenset[bytes] = frozenset()
        self._distrusted: set[bytes] = set()

    @property
    def packs(self) -> dict[bytes, PackEntry]:
        """A copy of all known packs by name."""
        with self._lock:
            return dict(self._packs)

    def pack(self, name: bytes) -> PackEntry | None:
        """Return a known pack."""
        with self._lock:
            return self._packs.get(name)

    def add(self, packs: Iterable[PackEntry]) -> None:
        """Take up packs; known ones are left as they are."""
        with self._lock:
            for pack in packs:
                if pack.name in self._packs:
                    continue
                self._packs[pack.name] = pack
                self._pending.append(pack)

    def drop(self, names: Iterable[bytes]) -> None:
        """Forget packs that are gone."""
        with self._lock:
            gone = [name for name in names if self._packs.pop(name, None) is not None]
            if gone:
                self._pending = list(self._packs.values())
                self._order, self._recent = [], {}
                self._keys = np.zeros(0, np.uint64)
                self._positions = np.zeros(0, np.int64)

    def avoid(self, names: frozenset[bytes]) -> None:
        """Do not count condemned packs for `holds`; reading from them still works."""
        with self._lock:
            self._avoided = names

    def distrust(self, name: bytes) -> None:
        """Do not count a pack for `holds` that turned out to be damaged or gone."""
        with self._lock:
            self._distrusted.add(name)

    def holds(self, kind: BlobType, identity: bytes) -> bool:
        """Say whether a pack has the blob that is not condemned, nor known to be damaged."""
        return any(
            place.pack not in self._avoided and place.pack not in self._distrusted
            for place in self.places(kind, identity)
        )

    def places(self, kind: BlobType, identity: bytes) -> Sequence[Place]:
        """List where a blob lies: usually one place."""
        with self._lock:
            self._take_up_pending()
            found = [
                _place(self._packs[name], number)
                for name, number in self._recent.get(kind.letter + identity, ())
                if name in self._packs
            ]
            found += self._search(kind, identity)
        return found

    def _search(self, kind: BlobType, identity: bytes) -> Iterator[Place]:
        wanted = np.frombuffer(identity, "<u8", 1)[0]
        at = int(np.searchsorted(self._keys, wanted))
        letter = kind.letter[0]
        while at < len(self._keys) and self._keys[at] == wanted:
            position = int(self._positions[at])
            which = int(np.searchsorted(self._starts, position, "right")) - 1
            pack = self._order[which]
            row = pack.rows[position - int(self._starts[which])]
            if row["type"] == letter and bytes(row["id"]) == identity:
                yield _place(pack, position - int(self._starts[which]))
            at += 1

    def _take_up_pending(self) -> None:
        """Sort a large number of new blobs in; keep a small one in a dictionary."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        few = min(max(len(self._keys) // 10, _FEWEST_RECENT), _MOST_RECENT)
        if sum(len(pack.rows) for pack in pending) + len(self._recent) < few and self._order:
            for pack in pending:
                for number, (kind, identity) in enumerate(_names(pack.rows)):
                    self._recent.setdefault(kind + identity, []).append((pack.name, number))
            return
        self._recent = {}
        self._order = list(self._packs.values())
        lengths = [len(pack.rows) for pack in self._order]
        self._starts = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))[:-1]
        keys = [_first_eight(pack.rows) for pack in self._order]
        every = np.concatenate(keys) if keys else np.zeros(0, np.uint64)
        self._positions = np.argsort(every, kind="stable")
        self._keys = every[self._positions]


def _first_eight(rows: Rows) -> npt.NDArray[np.uint64]:
    raw = np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), ROW_BYTES)
    return np.ascontiguousarray(raw[:, 1:9]).view("<u8").reshape(len(rows))


def _names(rows: Rows) -> Iterator[tuple[bytes, bytes]]:
    data = rows.tobytes()
    for at in range(0, len(data), ROW_BYTES):
        yield data[at : at + 1], data[at + 1 : at + 33]


def _place(pack: PackEntry, number: int) -> Place:
    row = pack.rows[number]
    return Place(pack.name, number, int(row["offset"]), int(row["length"]), int(row["content"]))
