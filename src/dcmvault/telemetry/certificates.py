"""When certificates in files end."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509

#: A file of certificates is no longer.
_LONGEST = 1 << 20


def ends_at(path: Path) -> datetime | None:
    """Return when the first of the certificates in a PEM file ends; None where it has none."""
    try:
        with path.open("rb") as file:
            found = x509.load_pem_x509_certificates(file.read(_LONGEST))
    except (OSError, ValueError):
        return None
    return min((one.not_valid_after_utc for one in found), default=None)
