"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give freed pages back where the C library would keep them (glibc: malloc_trim(3)).

    It keeps an arena for each thread, with what was free between small pieces that stay: after
    large images a process would look twice as large as what it uses. Takes a few milliseconds.
    """
    if _trim is not None:
        _trim(0)


_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
