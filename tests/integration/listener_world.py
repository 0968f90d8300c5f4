"""A listener on a free port of the loopback, peers that send to it, and what lies in its spool."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.raw_peer import read_pdu

from dcmvault.dicom import pdu
from dcmvault.dicom.association import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from dcmvault.dicom.association_scp import ScpRules, Secures
from dcmvault.dicom.commitment_scp import CommitmentScp
from dcmvault.dicom.part10 import scan
from dcmvault.dicom.spool import Spool
from dcmvault.dicom.storage_scp import StorageScp

AE_TITLE = "DCMVAULT"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass
class Receiving:
    """A running listener."""

    spool: Spool
    port: int
    #: The spool's names of studies, one for each instance that came.
    arrived: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """What is in the spool."""
        return sorted(self.spool.studies.glob("*/*"))

    @property
    def uids(self) -> list[str]:
        """The SOP Instance UIDs of what is in the spool."""
        return sorted(scan(path).sop_instance_uid for path in self.files)


@contextmanager
def receiving(
    folder: Path,
    *,
    tls: Secures | None = None,
    budget: int = 0,
    reserve: int = 0,
    commitment: CommitmentScp | None = None,
    **rules: Any,
) -> Iterator[Receiving]:
    """Run a listener with its spool in `folder`."""
    arrived: list[str] = []
    with Spool(folder, budget=budget, reserve=reserve, arrived=arrived.append) as spool:
        judge = commitment or CommitmentScp([spool.sop_classes])
        with StorageScp(ScpRules(AE_TITLE, **rules), spool, judge, tls) as scp:
            yield Receiving(spool, scp.port, arrived)


def dcmtk(
    program: str, *arguments: str | Path | int, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program of DCMTK to its end."""
    found = shutil.which(program)
    assert found is not None, f"{program} is not installed: apt-get install dcmtk"
    return subprocess.run(
        [found, *map(str, arguments)],
        check=False,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        env={**os.environ, "TCP_NODELAY": "1"},
        cwd=cwd,
    )


def dcmsend(
    port: int, folder: Path, *options: str | Path, called: str = AE_TITLE
) -> subprocess.CompletedProcess[str]:
    """Send all files below a folder by DCMTK's dcmsend."""
    where = ("--scan-directories", "--recurse", "127.0.0.1", port, folder)
    return dcmtk("dcmsend", "-aec", called, *options, *where)


def echoes(port: int, *options: str | Path, called: str = AE_TITLE) -> bool:
    """Say whether DCMTK's echoscu is answered."""
    return dcmtk("echoscu", "-aec", called, *options, "127.0.0.1", port).returncode == 0


def request(
    *proposals: pdu.ContextProposal, called: str = AE_TITLE, calling: str = "SENDER"
) -> bytes:
    """Encode an A-ASSOCIATE-RQ, with Verification first."""
    verification = pdu.ContextProposal(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))
    return pdu.associate_request(
        called,
        calling,
        (verification, *proposals),
        maximum_length=16384,
        implementation_class_uid="1.2.3",
        implementation_version="TEST",
    )


def connected(port: int) -> socket.socket:
    """Connect without a word."""
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def associated(
    port: int, proposals: Sequence[pdu.ContextProposal] = (pdu.ContextProposal(CT, (EXPLICIT,)),)
) -> socket.socket:
    """Connect and associate; contexts are 1 for Verification, 3 for the first proposal ..."""
    connection = connected(port)
    connection.sendall(request(*proposals))
    kind, _body = read_pdu(connection)
    assert kind == pdu.A_ASSOCIATE_AC
    return connection
