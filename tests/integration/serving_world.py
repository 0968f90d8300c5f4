"""An archive that answers on a free port of the loopback, and what DCMTK's clients get from it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from tests.integration.listener_world import dcmtk

from dcmvault.dicom.archive_association import ArchiveAssociation, ArchiveService
from dcmvault.dicom.association_scp import AssociationScp, Connected, ScpRules, Secures
from dcmvault.dicom.channel import Peer
from dcmvault.model.access import Access
from dcmvault.ports.archive import Archive
from dcmvault.testing.clock import FakeClock

AE_TITLE = "DCMVAULT"


@dataclass
class Journal:
    """An AccessJournal that remembers."""

    accesses: list[Access] = field(default_factory=list)

    def record(self, access: Access) -> None:
        """Take note."""
        self.accesses.append(access)


@dataclass
class Answering:
    """A running service."""

    port: int
    journal: Journal


@contextmanager
def answering(
    archive: Archive,
    *,
    destinations: Mapping[str, Peer] | None = None,
    tls: Secures | None = None,
    **rules: Any,
) -> Iterator[Answering]:
    """Answer from an archive."""
    journal, clock = Journal(), FakeClock()
    service = ArchiveService(AE_TITLE, archive, journal, destinations or {}, clock.now, 20.0)

    def attend(connected: Connected) -> ArchiveAssociation:
        return ArchiveAssociation(service, connected)

    def refused(address: str, ae_title: str) -> None:
        journal.record(Access(clock.now(), "A-ASSOCIATE", ae_title, address, outcome="refused"))

    with AssociationScp(ScpRules(AE_TITLE, **rules), attend, tls, refused) as scp:
        yield Answering(scp.port, journal)


def findscu(
    port: int,
    folder: Path,
    level: str,
    keys: Sequence[str],
    *options: str,
    called: str = AE_TITLE,
) -> list[pydicom.Dataset]:
    """Ask by DCMTK's findscu; return the answers as it wrote them."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [part for key in (f"QueryRetrieveLevel={level}", *keys) for part in ("-k", key)]
    ran = dcmtk(
        "findscu", "-aec", called, *options, "-X", "-od", folder, *arguments, "127.0.0.1", port
    )
    assert ran.returncode == 0, ran.stderr
    answers = [pydicom.dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]
    for path in folder.glob("rsp*.dcm"):
        path.unlink()
    return answers


def getscu(
    port: int, folder: Path, keys: Sequence[str], *options: str, called: str = AE_TITLE
) -> subprocess.CompletedProcess[str]:
    """Retrieve by DCMTK's getscu into a folder, bit for bit."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [part for key in keys for part in ("-k", key)]
    return dcmtk(
        "getscu", "-v", "-aec", called, *options, "+B", "-od", folder, *arguments, "127.0.0.1", port
    )


def movescu(
    port: int,
    folder: Path,
    keys: Sequence[str],
    *options: str,
    receives_at: int,
    title: str = "MOVER",
    called: str = AE_TITLE,
) -> subprocess.CompletedProcess[str]:
    """Retrieve by DCMTK's movescu, which takes the instances itself, bit for bit."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [part for key in keys for part in ("-k", key)]
    return dcmtk(
        "movescu", "-v", "-aet", title, "-aem", title, "-aec", called, *options,
        "+P", str(receives_at), "+B", "-od", folder, *arguments, "127.0.0.1", port,
    )  # fmt: skip
