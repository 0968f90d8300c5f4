"""What there is to back up on this machine: libraries in their usual places, a local Orthanc."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Where Horos and OsiriX keep their libraries, below the documents or at the top of a volume.
_LIBRARY_NAMES = ("Horos Data", "OsiriX Data")
_INDEX = "Database.sql"
_VOLUMES = Path("/Volumes")
_MOST_VOLUMES = 50
ORTHANC_PORT = 8042
#: Orthanc answers within milliseconds, and with a kilobyte.
_PATIENCE_S = 1.0
_LONGEST_ANSWER = 65_536
#: How Orthanc asks for a password.
_REALM = "orthanc"
_UNAUTHORISED = 401


@dataclass(frozen=True, slots=True)
class Detected:
    """A place that was found: what it is, and its address."""

    kind: str  #: horos | orthanc
    address: str
    #: An Orthanc that wants a user and a password.
    needs_login: bool = False
    #: The same place as a destination, where it takes DICOM; else empty.
    as_destination: str = ""


def detect(home: Path | None = None, orthanc_port: int = ORTHANC_PORT) -> list[Detected]:
    """Look at the usual places; nothing is opened, and nothing leaves this machine.

    Takes a second or two at most.
    """
    found = [Detected("horos", f"horos:{path}") for path in _libraries(home or Path.home())]
    if orthanc := _orthanc(orthanc_port):
        found.append(orthanc)
    return found


def _libraries(home: Path) -> Iterator[Path]:
    folders = [home / "Documents", home]
    with suppress(OSError):
        folders += sorted(_VOLUMES.iterdir())[:_MOST_VOLUMES]
    for folder in folders:
        for name in _LIBRARY_NAMES:
            with suppress(OSError):
                if (folder / name / _INDEX).is_file():
                    yield folder / name


def _orthanc(port: int) -> Detected | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/system")
        response = connection.getresponse()
        address = f"orthanc+http://localhost:{port}"
        if response.status == _UNAUTHORISED:
            realm = response.getheader("WWW-Authenticate", "")
            return Detected("orthanc", address, True) if _REALM in realm.lower() else None
        system = json.loads(_short_answer(response))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    if not isinstance(system, dict) or "ApiVersion" not in system:
        return None
    title, dicom_port = system.get("DicomAet"), system.get("DicomPort")
    known = isinstance(title, str) and isinstance(dicom_port, int)
    return Detected(
        "orthanc",
        address,
        as_destination=f"dicom://{title}@localhost:{dicom_port}" if known else "",
    )


def _short_answer(response: http.client.HTTPResponse) -> bytes:
    """Read an answer of few bytes in little time; ValueError for a longer one, or a slow one."""
    deadline = time.monotonic() + _PATIENCE_S
    answer = b""
    while piece := response.read1(_LONGEST_ANSWER):
        answer += piece
        if len(answer) > _LONGEST_ANSWER or time.monotonic() > deadline:
            raise ValueError("no Orthanc answers so")
    return answer
