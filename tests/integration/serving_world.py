"""An archive that answers on a free port of the loopback, and what DCMTK's clients get from it."""

from __future__ import annotations

import subprocess
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from tests.integration.listener_world import dcmtk

from dcmvault.dicom.archive_association import ArchiveAssociation, ArchiveService
from dcmvault.dicom.association_scp import AssociationScp, Connected, ScpRules, Secures
from dcmvault.dicom.channel import Peer
from dcmvault.model.access import Access
from dcmvault.model.query import (
    ArchiveAnswer,
    ArchivedInstance,
    ArchiveQuery,
    InstanceBytes,
    Selection,
    UnreadableInstance,
)
from dcmvault.ports.archive import Archive, HeaderBytes
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
    answers: list[pydicom.Dataset] = [
        pydicom.dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))
    ]
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
    """Retrieve by DCMTK's movescu, which takes the instances itself, bit for bit.

    It writes what it takes bit for bit to its working directory, whatever it is told.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [part for key in keys for part in ("-k", key)]
    titles = ("-aet", title, "-aem", title, "-aec", called)
    return dcmtk(
        "movescu",
        "-v",
        *titles,
        *options,
        "+P",
        receives_at,
        "+B",
        *arguments,
        "127.0.0.1",
        port,
        cwd=folder,
    )


def find(
    port: int,
    level: str,
    statuses: list[int] | None = None,
    *,
    relational: bool = False,
    cancel_after: int = 0,
    **keys: str,
) -> list[pydicom.Dataset]:
    """Ask by pynetdicom in the Study Root model; `statuses` are told all that came."""
    asked = pydicom.Dataset()
    asked.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    entity = AE(ae_title="READER")
    model = "1.2.840.10008.5.1.4.1.2.2.1"
    entity.add_requested_context(model)
    negotiation = SOPClassExtendedNegotiation()
    negotiation.sop_class_uid = model
    negotiation.service_class_application_information = b"\x01\x00\x00"
    association = entity.associate(
        "127.0.0.1", port, ae_title=AE_TITLE, ext_neg=[negotiation] if relational else []
    )
    assert association.is_established
    found: list[pydicom.Dataset] = []
    for status, answer in association.send_c_find(asked, model, msg_id=7):
        if statuses is not None:
            statuses.append(status.Status)
        if answer is not None:
            found.append(answer)
        if cancel_after and len(found) == cancel_after:
            association.send_c_cancel(7, query_model=model)
    association.release()
    return found


class EndlessArchive:
    """An Archive that never comes to an end."""

    def find(self, query: ArchiveQuery) -> Iterator[ArchiveAnswer]:
        """Yield the same answer again and again."""
        while True:
            yield ArchiveAnswer({0x0020000D: "1.2.3"})

    def instances(self, selection: Selection) -> Sequence[ArchivedInstance]:
        """List nothing."""
        return ()

    def is_whole(self, selection: Selection, found: Sequence[ArchivedInstance]) -> bool:
        """Hide nothing."""
        return True

    def syntaxes(self, sop_class_uid: str) -> Sequence[str]:
        """Know none."""
        return ()

    def read(
        self, instances: Iterable[ArchivedInstance]
    ) -> Generator[InstanceBytes | UnreadableInstance, None, None]:
        """Give nothing."""
        yield from ()

    def headers(
        self, instances: Iterable[ArchivedInstance]
    ) -> Iterator[tuple[ArchivedInstance, HeaderBytes | None]]:
        """Give nothing."""
        yield from ()
