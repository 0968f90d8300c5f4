"""What to ask of whoever looks after the other side, in words that are ready to be sent."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from dcmvault.config.peer_sections import DimseDestinationSection, DimsePeerSection, WebPeerSection
from dcmvault.config.sections import DestinationSection, SourceSection, VaultSection
from dcmvault.i18n import gettext as _

_AnySection = SourceSection | DestinationSection


@dataclass(frozen=True, slots=True)
class Ourselves:
    """How this machine looks from the other side."""

    host: str
    #: The address from which packets to the peer leave; empty where that cannot be told.
    address: str

    @classmethod
    def of(cls, section: _AnySection) -> Ourselves:
        """Find out by the routing table; nothing is sent, and no name is looked up."""
        host, port = _peer_of(section)
        return cls(socket.gethostname(), _outgoing_address(host, port) if host else "")

    @property
    def words(self) -> str:
        """Name and address, as people write them down."""
        return f"{self.host} ({self.address})" if self.address else self.host


def request_for(section: _AnySection, rung: str, ourselves: Ourselves) -> str:
    """Return what to ask when a rung broke, in the language in use; empty for nothing."""
    if isinstance(section, DimsePeerSection):
        return _of_pacs(section, rung, ourselves)
    if isinstance(section, WebPeerSection):
        return _of_service(section, rung, ourselves)
    if isinstance(section, VaultSection) and section.scheme:
        return _of_store(section, rung)
    return ""


def _of_pacs(section: DimsePeerSection, rung: str, ourselves: Ourselves) -> str:
    names = {
        "host": section.host,
        "port": section.port,
        "called": section.called_ae_title,
        "calling": section.calling_ae_title,
        "us": ourselves.words,
    }
    match rung:
        case "resolve":
            return _(
                "Which host name or IP address has the PACS %(called)s? We tried %(host)s."
            ) % (names)
        case "connect" | "patience":
            return (
                _(
                    "Please let %(us)s connect to %(host)s, TCP port %(port)s (firewall), and "
                    "check that the DICOM service %(called)s listens there."
                )
                % names
            )
        case "tls":
            return (
                _(
                    "Which certificate does the DICOM service on %(host)s, port %(port)s show? "
                    "Please send us the certificate of the authority that signed it, and say "
                    "whether it wants one of ours."
                )
                % names
            )
        case "associate" | "echo" | "storage" | "query" | "place":
            return _registration(section) % names
    return ""


def _registration(section: DimsePeerSection) -> str:
    if isinstance(section, DimseDestinationSection):
        return _(
            "Please register a DICOM node at %(called)s (%(host)s, port %(port)s): AE title "
            "%(calling)s, at %(us)s. It sends studies (C-STORE), asks for what is there (C-FIND, "
            "Study Root), reads back (C-GET) and tests the connection (C-ECHO)."
        )
    return _(
        "Please register a DICOM node at %(called)s (%(host)s, port %(port)s): AE title "
        "%(calling)s, at %(us)s. It asks for studies (C-FIND, Study Root), fetches them (C-GET or "
        "C-MOVE) and tests the connection (C-ECHO). It changes nothing."
    )


def _of_service(section: WebPeerSection, rung: str, ourselves: Ourselves) -> str:
    host, port = _peer_of(section)
    names = {
        "url": section.url,
        "host": host,
        "port": port,
        "us": ourselves.words,
        "user": section.user or section.oauth2_client_id or "-",
    }
    match rung:
        case "resolve":
            return _("Which address has the service? We tried %(url)s.") % names
        case "connect" | "patience":
            return _("Please let %(us)s connect to %(host)s, TCP port %(port)s (firewall).") % names
        case "tls":
            return (
                _(
                    "Please send us the certificate of the authority that signed the certificate "
                    "of %(host)s, port %(port)s."
                )
                % names
            )
        case "token" | "http" | "qido" | "stow" | "list":
            return (
                _(
                    "Please let the user %(user)s search (QIDO-RS), read (WADO-RS) and, where "
                    "copies are sent, store (STOW-RS) at %(url)s; for an Orthanc, use its REST "
                    "interface."
                )
                % names
            )
    return ""


def _of_store(section: VaultSection, rung: str) -> str:
    if rung in ("place", "put", "get", "delete", "lock", "write"):
        return _(
            "Please give our credentials the right to list, read, write and remove objects at "
            "%(place)s, and say whether the bucket has Object Lock."
        ) % {"place": section.location}
    return ""


def _peer_of(section: _AnySection | WebPeerSection) -> tuple[str, int]:
    if isinstance(section, DimsePeerSection):
        return section.host, section.port
    if isinstance(section, WebPeerSection):
        parts = urlsplit(section.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    return "", 0


def _outgoing_address(host: str, port: int) -> str:
    """Ask the routing table only for what is an address: a name would be looked up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            try:
                asking.connect((host, port))
            except OSError:
                return ""
            return str(asking.getsockname()[0])
    return ""
