"""Which of very many keys come more than once, in 8 bytes for each."""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(slots=True)
class HashedKeys:
    """Collects keys; after `close` tells which may have come more than once.

    Two different keys may be taken for one (they have equal hashes, which hardly ever happens):
    who asks has to compare the keys themselves.
    """

    repeated: set[int] = field(default_factory=set)
    _hashes: array[int] = field(default_factory=lambda: array("q"))
    _sorted: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def note(self, key: Hashable) -> None:
        """Take up a key."""
        self._hashes.append(hash(key))

    def close(self) -> None:
        """End the collecting."""
        self._sorted = np.sort(np.frombuffer(self._hashes, np.int64))
        self._hashes = array("q")
        again = self._sorted[1:][self._sorted[1:] == self._sorted[:-1]]
        self.repeated = {int(one) for one in again}

    def may_repeat(self, key: Hashable) -> bool:
        """Say whether the key may have come more than once."""
        return hash(key) in self.repeated

    def has_hash(self, hashed: int) -> bool:
        """Say whether a key with this hash came."""
        at = int(np.searchsorted(self._sorted, hashed))
        return at < len(self._sorted) and int(self._sorted[at]) == hashed
