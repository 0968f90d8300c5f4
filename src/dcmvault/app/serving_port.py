"""On which port the daemon of a state folder serves its dashboard now, for commands that name it.

It may be another one than is configured: any free one, or one that was named at the start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NAME = "web-port"


@contextmanager
def serving_on(home: Path, port: int) -> Iterator[None]:
    """Have a state folder tell its daemon's port, for as long as this process serves there."""
    path = home / _NAME
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_text(f"{os.getpid()} {port}\n", encoding="ascii")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def port_served(home: Path) -> int | None:
    """Return the port of the daemon of a state folder; None where none runs, as far as is known."""
    with suppress(OSError, ValueError):
        process, port = map(int, (home / _NAME).read_text(encoding="ascii").split())
        # One that was killed leaves its word behind.
        os.kill(process, 0)
        return port
    return None
