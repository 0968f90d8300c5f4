"""Files into real peers, by DCMTK's dcmsend."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from scripts.peer_packages import find_program, require
from scripts.peer_processes import DicomPeer


def send(peer: DicomPeer, folder: Path) -> None:
    """Store all files below a folder at a peer."""
    program = require(find_program("dcmsend"), "dcmtk")
    where = (peer.host, str(peer.dicom_port), "+sd", "+r", str(folder))
    subprocess.run(
        [str(program), "-aec", peer.ae_title, *where],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
