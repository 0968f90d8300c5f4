"""One access to an archive: who asked for what, and what came of it. No patient data, but UIDs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Access:
    """One request, or one refused attempt."""

    at: datetime
    #: As the Standard calls it: C-ECHO, C-FIND, C-GET, C-MOVE, QIDO-RS, WADO-RS; A-ASSOCIATE.
    service: str
    #: AE title (a label, not a proof), or the name of who logged in; empty where nobody said.
    who: str
    #: Network address, and the subject of the peer's certificate where it showed one.
    address: str
    certificate: str = ""
    #: DIMSE status (four hexadecimal digits), HTTP status, or a word.
    outcome: str = ""
    level: str = ""
    #: Keywords or tags of the keys that matched something, never their values.
    keys: tuple[str, ...] = ()
    #: UIDs that were asked for, and studies that were sent.
    study_instance_uids: tuple[str, ...] = ()
    series_instance_uids: tuple[str, ...] = ()
    sop_instance_uids: tuple[str, ...] = ()
    #: Where it was sent to, if not to who asked: an AE title.
    destination: str = ""
    answers: int = 0
    sent: int = 0
    failed: int = 0
    bytes: int = 0
    duration_s: float = 0.0
