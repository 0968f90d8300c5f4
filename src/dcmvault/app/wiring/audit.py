"""The audit journal of a state folder, and the way to its collector."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dcmvault.audit.accesses import JournalledAccesses
from dcmvault.audit.journal import Journal
from dcmvault.audit.search import search as look_for
from dcmvault.audit.verification import verify as verified_journal
from dcmvault.config import secrets
from dcmvault.config.audit_section import AuditSection
from dcmvault.ports.audit import AccessJournal

__all__ = [
    "FOLDER",
    "access_journal",
    "audit_forwarding",
    "audit_journal",
    "forwarding_audit",
    "look_for",
    "verified_journal",
]

if TYPE_CHECKING:
    from dcmvault.audit.forwarding import Forwarding

#: The folder of the journal, in the state folder.
FOLDER = "audit"
_MIB = 1 << 20


@cache
def audit_journal(home: Path, rotate_mib: int = 16) -> Journal:
    """Return the journal of a state folder, one for all threads."""
    return Journal(home / FOLDER, rotate_mib * _MIB)


def access_journal(home: Path, section: AuditSection) -> AccessJournal:
    """Return where accesses of peers are noted."""
    return JournalledAccesses(audit_journal(home, section.rotate_mib))


def audit_forwarding(home: Path, section: AuditSection) -> Forwarding | None:
    """Return what sends to the configured collector; None where there is none.

    ConfigurationError for a secret that cannot be had.
    """
    if section.place is None:
        return None
    # A message over TLS needs what a command without a collector does not load.
    from dcmvault.audit.dicom_message import AuditSource  # noqa: PLC0415 - when needed
    from dcmvault.audit.forwarding import Forwarding  # noqa: PLC0415 - when needed
    from dcmvault.audit.syslog import Collector, Transport  # noqa: PLC0415 - when needed
    from dcmvault.dicom.tls import TlsOptions  # noqa: PLC0415 - when needed

    transport, host, port = section.place
    passphrase = section.tls_key_passphrase
    tls = TlsOptions(
        ca_file=section.tls_ca_file,
        fingerprint=section.tls_fingerprint,
        certificate_file=section.tls_certificate_file,
        key_file=section.tls_key_file,
        key_passphrase=secrets.resolve(passphrase) if passphrase else "",
    )
    collector = Collector(Transport(transport), host, port, section.timeout_s, tls)
    source = AuditSource(socket.gethostname(), section.site)
    return Forwarding(home / FOLDER, collector, source, section.most_waiting)


@contextmanager
def forwarding_audit(home: Path, section: AuditSection) -> Iterator[None]:
    """Send what the journal gets to the collector, if there is one, until the context is left."""
    forwarding = audit_forwarding(home, section)
    if forwarding is None:
        yield
        return
    from dcmvault.audit.forwarding import ForwardingThread  # noqa: PLC0415 - when needed

    with ForwardingThread(forwarding):
        yield
