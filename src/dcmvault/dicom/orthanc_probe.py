"""The way to an Orthanc's REST interface tried step by step."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from dcmvault.dicom.channel import connect, resolve, secure
from dcmvault.dicom.orthanc_rest import OrthancRest, Patience
from dcmvault.dicom.peer_tls import describe_tls, expiry_warning
from dcmvault.dicom.tls import facts_of
from dcmvault.dicom.web_access import WebAccess
from dcmvault.errors import DcmvaultError, SourceError
from dcmvault.model.probe import ProbeStep
from dcmvault.ports.clock import Clock


@dataclass(slots=True)
class OrthancProbe:
    """Tries one Orthanc; `access` looks up its secrets and certificates."""

    access: Callable[[], WebAccess]
    clock: Clock
    #: Hears of each step when it ended.
    tell: Callable[[ProbeStep], None] = lambda _step: None

    def run(self) -> bool:
        """Try every step and stop after the first that fails; say whether none did."""
        name, begun = "secrets", self.clock.monotonic()
        try:
            access = self.access()
            peer = access.peer
            name, begun = "resolve", self.clock.monotonic()
            addresses = resolve(peer)
            self._tell(name, str(addresses[0][1][0]), begun)
            name, begun = "connect", self.clock.monotonic()
            with connect(peer, addresses) as plain:
                self._tell(name, f"port {peer.port}", begun)
                if peer.tls is not None:
                    name, begun = "tls", self.clock.monotonic()
                    self._secure(access, plain, begun)
            name, begun = "http", self.clock.monotonic()
            with OrthancRest(access, Patience(())) as rest:
                self._tell(name, _version(rest.json("/system")), begun)
                name, begun = "list", self.clock.monotonic()
                self._tell(name, _counts(rest.json("/statistics")), begun)
        except DcmvaultError as error:
            took_s = self.clock.monotonic() - begun
            self.tell(ProbeStep(name, False, error.message, took_s, error.hint))
            return False
        return True

    def _secure(self, access: WebAccess, plain: socket.socket, begun: float) -> None:
        with secure(access.peer, plain) as secured:
            facts, now = facts_of(secured, access.peer.name), self.clock.now()  # type: ignore[arg-type]
        self._tell("tls", describe_tls(facts, now), begun, expiry_warning(facts, now))

    def _tell(self, name: str, detail: str, begun: float, hint: str = "") -> None:
        self.tell(ProbeStep(name, True, detail, self.clock.monotonic() - begun, hint))


def _version(system: object) -> str:
    version = system.get("Version") if isinstance(system, dict) else None
    if not isinstance(version, str):
        raise SourceError(
            "it answers, but not as an Orthanc does",
            hint="Check the address: the REST interface is usually on port 8042.",
        )
    return f"Orthanc {version[:40]}"


def _counts(statistics: object) -> str:
    if not isinstance(statistics, dict):
        raise SourceError("it does not say what it holds", hint="Look at Orthanc's log.")
    counts = [statistics.get(key) for key in ("CountStudies", "CountInstances")]
    if not all(isinstance(one, int) for one in counts):
        raise SourceError("it does not say what it holds", hint="Look at Orthanc's log.")
    return f"it holds {counts[0]} studies with {counts[1]} instances"
