"""Small files that only we may read, replaced as a whole: readers see the old or the new one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from dcmvault.durability import make_durable, make_names_durable


def put_private(path: Path, data: bytes) -> None:
    """Write a file with mode 0600 in place of what is there; durable on return.

    A folder that is missing is made, with mode 0700. OSError leaves what was there as it was.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            make_durable(file.fileno())
        fresh.replace(path)
        make_names_durable(path.parent)
    finally:
        fresh.unlink(missing_ok=True)
