"""By which way copies at a PACS are read back: as configured, and as the PACS offers it."""

from __future__ import annotations

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.read_back import read_back
from dcmvault.destinations.ways_back import (
    ByGet,
    ByMove,
    ByOrthancRest,
    Lending,
    MovePort,
    WayBack,
)
from dcmvault.destinations.witnesses import Witnesses
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.web_access import LookedUpAccess
from dcmvault.errors import RetrievalNotOfferedError
from dcmvault.model.evidence import ExpectedStudy, Verification
from dcmvault.ports.clock import Clock


class DimseProof:
    """Reads studies back from one PACS. Safe for several threads."""

    def __init__(
        self,
        section: DimseDestinationSection,
        peer: Peer,
        lending: Lending,
        clock: Clock,
    ) -> None:
        """Connect nothing and open no port yet."""
        self._lending = lending
        self._clock = clock
        self._witnesses = Witnesses()
        self._coerced = section.coerced_tags
        orthanc = section.orthanc
        self._orthanc = LookedUpAccess(orthanc, clock.monotonic) if orthanc.url else None
        self._moves = section.retrieve == "move"
        title = section.move_to or section.calling_ae_title
        port = MovePort(peer, title, section.move_host, section.move_port)
        self._move_port = port if section.move_port else None

    def read_back(self, study: ExpectedStudy, listed: Verification) -> Verification:
        """Read a study back (`destinations.read_back`), by C-MOVE where there is no C-GET."""
        try:
            return self._by(self._way(), study, listed)
        except RetrievalNotOfferedError:
            if self._move_port is None or self._moves:
                raise
            self._moves = True
        return self._by(self._way(), study, listed)

    def _by(self, way: WayBack, study: ExpectedStudy, listed: Verification) -> Verification:
        return read_back(way, study, listed, self._clock, self._coerced, self._witnesses)

    def _way(self) -> WayBack:
        if self._orthanc is not None:
            return ByOrthancRest(self._orthanc)
        if self._moves and self._move_port is not None:
            return ByMove(self._lending, self._move_port)
        return ByGet(self._lending)
