"""Sections of peers on a network: how a PACS, a DICOMweb service or an Orthanc is reached."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import ClassVar, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, model_validator

from dcmvault.config.bandwidth import BandwidthSection
from dcmvault.config.options import (
    AETitle,
    AttributeTags,
    Fingerprint,
    OptionalAETitle,
    SecretReference,
    Section,
)
from dcmvault.i18n import gettext as _

#: The registered ports of DICOM without and with TLS (PS3.8 section 9.1, PS3.15 Annex B).
DICOM_PORT, DICOM_TLS_PORT = 104, 2762
#: The registered port that needs no privilege to listen on.
DICOM_LISTENER_PORT = 11_112

#: Options of a PACS that mean something with TLS only.
_TLS_OPTIONS = (
    "tls_ca_file",
    "tls_fingerprint",
    "tls_certificate_file",
    "tls_key_file",
    "tls_key_passphrase",
)


class TlsSection(Section):
    """A peer that may be spoken to over TLS."""

    #: TLS: path of the certificates (PEM) that are trusted; empty: those that the system trusts.
    tls_ca_file: str = ""
    #: TLS: SHA-256 fingerprint of the peer's own certificate. It is trusted as long as it is valid,
    #: whoever signed it and whatever host it names; every other certificate is refused.
    tls_fingerprint: Fingerprint = ""
    #: TLS: path of our certificate (PEM, with its chain), for a peer that asks for one.
    tls_certificate_file: str = ""
    #: TLS: path of the private key (PEM); empty: it is in the file of the certificate.
    tls_key_file: str = ""
    #: TLS: what opens the private key.
    tls_key_passphrase: SecretReference = ""

    def _require_fitting_tls(self, *, speaks_tls: bool, place: str) -> None:
        for option in _TLS_OPTIONS:
            if getattr(self, option) and not speaks_tls:
                raise ValueError(
                    _("“%(option)s” is for %(places)s only.") % {"option": option, "places": place}
                )
        if self.tls_fingerprint and self.tls_ca_file:
            raise ValueError(
                _("Write “tls_fingerprint” or “tls_ca_file”: a pinned certificate needs no other.")
            )
        if (self.tls_key_file or self.tls_key_passphrase) and not self.tls_certificate_file:
            raise ValueError(_("A private key needs its certificate: “tls_certificate_file”."))


class DimsePeerSection(TlsSection):
    """A PACS reached by DIMSE."""

    kind: Literal["dimse"] = "dimse"
    host: str = Field(min_length=1)
    port: int = Field(default=DICOM_PORT, ge=1, le=65_535)
    #: TLS stands between TCP and DICOM: the address begins with `dicoms:`.
    tls: bool = False
    called_ae_title: AETitle = "ANY-SCP"
    calling_ae_title: AETitle = "DCMVAULT"
    #: User identity for a peer that wants one. Over a connection without TLS everybody can read it.
    user: str = Field(default="", max_length=1000)
    #: The passcode that goes with the user.
    password: SecretReference = ""
    #: Seconds until a TCP connection must stand, and again as many until TLS must.
    connect_timeout_s: float = Field(default=10.0, gt=0, le=600)
    #: Seconds until an A-ASSOCIATE must be answered.
    association_timeout_s: float = Field(default=30.0, gt=0, le=600)
    #: Seconds without an answer to a DIMSE request until the association is given up.
    dimse_timeout_s: float = Field(default=60.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        self._require_fitting_tls(speaks_tls=self.tls, place="dicoms://")
        if self.password and not self.user:
            raise ValueError(_("A password needs its “user”."))
        return self

    @property
    def address(self) -> str:
        """The canonical address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        called, calling = (
            quote(self.called_ae_title, safe=""),
            quote(self.calling_ae_title, safe=""),
        )
        scheme = "dicoms" if self.tls else "dicom"
        return f"{scheme}://{called}@{host}:{self.port}?calling={calling}"


class WebPeerSection(TlsSection):
    """A service that is reached over HTTP, and how we log in there."""

    #: What stands before the URL in an address.
    prefix: ClassVar[str] = ""

    #: `https://HOST:PORT/ROOT`, canonical as `config.addresses` makes it.
    url: str = Field(min_length=1)
    #: Seconds until a TCP connection must stand, and again as many until TLS must.
    connect_timeout_s: float = Field(default=10.0, gt=0, le=600)
    #: Seconds without progress until a request is given up, and for its answer.
    response_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    #: HTTP without TLS to another machine: all that is sent, also secrets, can be read on the way.
    allow_plain_http: bool = False
    #: Basic authentication: the user.
    user: str = ""
    #: Basic authentication: the password.
    password: SecretReference = ""
    #: Bearer authentication: the token.
    token: SecretReference = ""
    #: OAuth2 client credentials: URL of the service that gives tokens.
    oauth2_token_url: str = ""
    #: OAuth2 client credentials: the client's id.
    oauth2_client_id: str = ""
    #: OAuth2 client credentials: the client's secret.
    oauth2_client_secret: SecretReference = ""
    #: OAuth2 client credentials: what the token is to allow; empty: what is usual for the client.
    oauth2_scope: str = ""

    @model_validator(mode="after")
    def _is_safe_and_whole(self) -> Self:
        ways = [is_private_way(url) for url in (self.url, self.oauth2_token_url) if url]
        if not (self.allow_plain_http or all(ways)):
            raise ValueError(
                _(
                    "HTTP without TLS goes to this machine only: write https, or say "
                    "allow_plain_http = true in the configuration."
                )
            )
        is_tls = self.url.startswith("https:")
        self._require_fitting_tls(speaks_tls=is_tls, place=f"{self.prefix}https://")
        if bool(self.user) != bool(self.password):
            raise ValueError(_("“user” and “password” go together."))
        oauth2 = (self.oauth2_token_url, self.oauth2_client_id, self.oauth2_client_secret)
        if any((*oauth2, self.oauth2_scope)) and not all(oauth2):
            raise ValueError(
                _("OAuth2 needs oauth2_token_url, oauth2_client_id and oauth2_client_secret.")
            )
        if sum(map(bool, (self.user, self.token, self.oauth2_token_url))) > 1:
            raise ValueError(
                _("There is one way to log in: a user, a token, or OAuth2, not several.")
            )
        return self

    @property
    def address(self) -> str:
        """The canonical address."""
        return f"{self.prefix}{self.url}"


class CoercingSection(Section):
    """A destination that may write attributes of what it is sent itself."""

    #: Attributes that the peer writes itself: what differs in them only still is proven.
    coerced: AttributeTags = ""

    @property
    def coerced_tags(self) -> frozenset[int]:
        """The attributes that the peer writes itself, as numbers."""
        return frozenset(int(tag[1:5] + tag[6:10], 16) for tag in self.coerced.split())


class OrthancCompanionSection(WebPeerSection):
    """The REST interface of an Orthanc that is sent to by DIMSE."""

    prefix = "orthanc+"
    #: `https://HOST:PORT`; empty: it is not used.
    url: str = ""


class DimseDestinationSection(DimsePeerSection, CoercingSection):
    """A PACS that is sent to (C-ECHO, C-FIND, C-STORE) and read back from (C-GET, C-MOVE)."""

    #: Associations open at once, at most.
    max_associations: int = Field(default=4, ge=1, le=32)
    #: What lies between: how many associations to begin with (6, 3 or 2; empty: 2), until what was
    #: measured says more.
    network: Literal["", "ethernet", "wifi", "cellular"] = ""
    #: C-STORE requests on their way at once on each association, where the peer agrees; 1: it is
    #: not asked, for some equipment drops the connection then.
    async_window: int = Field(default=1, ge=1, le=64)
    #: Whether what the peer refuses in its transfer syntax is sent in another, without loss.
    transcode: Literal["lossless", "never"] = "lossless"
    #: How copies are read back for proof: `get` on the association that asks (where the PACS does
    #: not offer that, and there is a `move_port`, the other way), or `move` to a port of ours.
    retrieve: Literal["get", "move"] = "get"
    #: C-MOVE: our AE title as the PACS knows it with our address; empty: the calling AE title.
    move_to: OptionalAETitle = ""
    #: C-MOVE: the port on which we listen for what the PACS sends, as it is configured there; 0:
    #: none, nothing is read back in this way.
    move_port: int = Field(default=0, ge=0, le=65_535)
    #: C-MOVE: the address of this machine to listen on; empty: all of them.
    move_host: str = ""
    #: An Orthanc's REST interface, by which copies are read back instead.
    orthanc: OrthancCompanionSection = OrthancCompanionSection()
    #: Storage commitment: seconds until the peer must report on a request.
    commitment_timeout_s: float = Field(default=60.0, gt=0, le=86_400)
    #: Storage commitment: the port on which we listen for reports, as it is configured at the peer
    #: for our calling AE title; 0: reports come on the association that asked.
    commitment_port: int = Field(default=0, ge=0, le=65_535)
    #: Storage commitment: the address of this machine to listen on; empty: all of them.
    commitment_host: str = ""
    #: How fast instances are sent, by all associations together.
    bandwidth: BandwidthSection = BandwidthSection()

    @model_validator(mode="after")
    def _commitment_fits(self) -> Self:
        if self.tls and self.commitment_port:
            raise ValueError(
                _(
                    "Reports of storage commitment would come back without TLS: write dicom://, or "
                    "leave “commitment_port” out."
                )
            )
        return self

    @model_validator(mode="after")
    def _retrieval_fits(self) -> Self:
        if self.retrieve == "move" and not self.move_port:
            raise ValueError(_("C-MOVE needs the port on which it comes back: “move_port”."))
        if self.tls and self.move_port:
            raise ValueError(_without_tls())
        return self


class DimseSourceSection(DimsePeerSection):
    """A PACS that is read from (C-FIND, and C-GET or C-MOVE)."""

    #: How instances are fetched: `get` on the association that asks, `move` to a port of ours, for
    #: a PACS that cannot do the other.
    retrieve: Literal["get", "move"] = "get"
    #: C-MOVE: our AE title as the PACS knows it with our address; empty: the calling AE title.
    move_to: OptionalAETitle = ""
    #: C-MOVE: the port on which we listen for what the PACS sends, as it is configured there.
    move_port: int = Field(default=DICOM_LISTENER_PORT, ge=1, le=65_535)
    #: C-MOVE: the address of this machine to listen on; empty: all of them.
    move_host: str = ""
    #: Answers that the PACS gives to one query at most; 0: not known, it is found out.
    max_answers: int = Field(default=0, ge=0, le=10_000_000)
    #: Associations open at once for retrieval, at most.
    max_associations: int = Field(default=2, ge=1, le=16)
    #: Mebibytes that one instance may have; a larger one is not taken.
    max_instance_mib: int = Field(default=4096, ge=1, le=1_048_576)
    #: Mebibytes that may lie on this machine (in TMPDIR) on their way, at most.
    max_waiting_mib: int = Field(default=8192, ge=1, le=1_048_576)

    @model_validator(mode="after")
    def _retrieval_fits(self) -> Self:
        if self.tls and self.retrieve == "move":
            raise ValueError(_without_tls())
        return self


class DicomwebPeerSection(WebPeerSection):
    """A DICOMweb service."""

    prefix = "dicomweb+"


class OrthancSourceSection(WebPeerSection):
    """An Orthanc that is read over its REST interface."""

    prefix = "orthanc+"
    kind: Literal["orthanc"] = "orthanc"
    #: Connections open at once for fetching instances.
    max_connections: int = Field(default=4, ge=1, le=32)
    #: What the sidecar has metadata and attachments of: studies and series, or instances as well
    #: (two requests for each).
    sidecar: Literal["none", "series", "instances"] = "instances"


class StowDestinationSection(DicomwebPeerSection, CoercingSection):
    """A DICOMweb service that is sent to (STOW-RS) and asked (QIDO-RS, WADO-RS)."""

    kind: Literal["stow"] = "stow"
    #: Connections open at once for delivery, at most.
    max_connections: int = Field(default=4, ge=1, le=32)
    #: How fast instances are sent, over all connections together.
    bandwidth: BandwidthSection = BandwidthSection()


class DicomwebSourceSection(DicomwebPeerSection):
    """A DICOMweb service that is read (QIDO-RS, WADO-RS)."""

    kind: Literal["dicomweb"] = "dicomweb"
    #: Connections open at once for retrieval, at most.
    max_connections: int = Field(default=4, ge=1, le=32)
    #: Mebibytes that may lie on this machine (in TMPDIR) on their way, at most.
    max_waiting_mib: int = Field(default=8192, ge=1, le=1_048_576)


#: RFC 3986: what is no graphic sign of ASCII is written otherwise.
_IN_A_URL = re.compile(r"[!-~]+\Z")
_HOST = re.compile(r"[0-9A-Za-z._:%-]+\Z")


def _without_tls() -> str:
    return _("C-MOVE would come back without TLS: write dicom://, or retrieve by “get”.")


def is_private_way(url: str) -> bool:
    """Say whether nobody else can read on the way: TLS, or it does not leave this machine."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(_("A URL cannot be read.")) from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise ValueError(_("A URL begins with https:// and a host, without a user."))
    if not _IN_A_URL.match(url) or not _HOST.match(host):
        raise ValueError(_("A URL has neither spaces nor letters beyond ASCII (xn-- in a host)."))
    if parts.scheme == "https" or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
