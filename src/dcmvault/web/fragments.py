"""Parts of pages that many tabs ask for at once: made once a second, however many ask.

What differs from one who looks to another is no part of them, but for a mark that is replaced.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

#: So long a part is what it was.
_FRESH_S = 0.9
#: Kinds of parts that are kept: pages, by language and role.
_MOST = 32
#: Stands in a part for the token of a form, which is another one for each session.
CSRF_MARK = "csrf-mark-7d1e5a"


@dataclass(slots=True)
class _Part:
    lock: threading.Lock = field(default_factory=threading.Lock)
    text: str = ""
    made_s: float = float("-inf")


@dataclass(slots=True)
class Fragments:
    """Parts by their names. Safe for threads: while one makes a part, others wait for it."""

    clock: Callable[[], float] = time.monotonic
    _parts: dict[tuple[str, ...], _Part] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, name: tuple[str, ...], make: Callable[[], str]) -> str:
        """Return a part, made anew if it is older than a second."""
        with self._lock:
            if name not in self._parts and len(self._parts) >= _MOST:
                self._parts.clear()
            part = self._parts.setdefault(name, _Part())
        with part.lock:
            if self.clock() - part.made_s >= _FRESH_S:
                part.text = make()
                part.made_s = self.clock()
            return part.text

    def forget(self) -> None:
        """Have every part made anew: something was done that is to be seen at once."""
        with self._lock:
            self._parts.clear()
