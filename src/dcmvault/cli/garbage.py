"""When garbage is looked for: seldom while a command starts, and not in what was imported.

Modules are a hundred thousand objects that stay. To look through them again and again was a sixth
of the time until a command begins its work.
"""

from __future__ import annotations

import gc

#: Objects made, and not given up, until the youngest are looked through (Python's own: 700).
_WHILE_STARTING = 50_000
_USUAL = gc.get_threshold()


def collect_seldom() -> None:
    """Begin the start of a command."""
    gc.set_threshold(_WHILE_STARTING, *_USUAL[1:])


def leave_out_what_stays() -> None:
    """End it: what is there now is not looked through any more, what comes is as usual."""
    if gc.get_threshold()[0] == _WHILE_STARTING:
        gc.freeze()
        gc.set_threshold(*_USUAL)
