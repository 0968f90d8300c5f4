"""The section `[serve]`: where a vault answers as a PACS, whom, and where C-MOVE may send to.

Over HTTP it answers, too, where that is asked for.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from dcmvault.config.listener_section import AnyAETitle, checked_network
from dcmvault.config.options import AETitle, SecretReference, Section
from dcmvault.i18n import gettext as _

#: Names of tokens stand in the journal.
_TOKEN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: What a browser calls the origin of a page (RFC 6454 section 6.1).
_ORIGIN = re.compile(
    r"https?://[a-z0-9.-]+(?::[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](?::[0-9]{1,5})?"
)


def _checked_origin(value: str) -> str:
    """Refuse what no browser sends; small letters as it does."""
    origin = value.lower().rstrip("/")
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(_("Write an origin as https://host or https://host:port."))
    return origin


class ServePeerSection(Section):
    """Somebody who may ask, and where it takes instances."""

    #: Its calling AE title; empty: any. A filter against mistakes, never authentication.
    ae_title: AnyAETitle = ""
    #: Its address, or its network such as “192.168.1.0/24”; “0.0.0.0/0” is everybody.
    network: Annotated[str, AfterValidator(checked_network)]
    #: Where C-MOVE sends to when it names this AE title; empty: nowhere.
    move_host: str = ""
    #: The port for that.
    move_port: int = Field(default=104, ge=1, le=65_535)

    @property
    def addresses(self) -> IPv4Network | IPv6Network:
        """The network."""
        return ip_network(self.network)

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        if self.move_host and not self.ae_title:
            raise ValueError(_("“move_host” needs the peer's “ae_title”."))
        return self


class ServeSection(Section):
    """Our services over a vault: C-FIND, C-MOVE and C-GET SCP; QIDO-RS and WADO-RS."""

    #: The AE title that peers must call.
    ae_title: AETitle = "DCMVAULT"
    #: The address of this machine to listen on; “0.0.0.0”: all of them.
    host: str = "127.0.0.1"
    #: The port to listen on.
    dicom_port: int = Field(default=11_113, ge=1, le=65_535)
    #: Associations at once, at most.
    max_associations: int = Field(default=16, ge=1, le=256)
    #: Associations at once from one address, at most.
    max_associations_per_peer: int = Field(default=8, ge=1, le=256)
    #: Seconds without a word until an association is ended.
    idle_timeout_s: float = Field(default=60.0, ge=1, le=3600)
    #: Peers speak TLS, also those that C-MOVE sends to; then `tls_certificate_file` is needed.
    tls: bool = False
    #: TLS: path of our certificate (PEM, with its chain).
    tls_certificate_file: str = ""
    #: TLS: path of the private key (PEM); empty: it is in the file of the certificate.
    tls_key_file: str = ""
    #: TLS: what opens the private key.
    tls_key_passphrase: SecretReference = ""
    #: TLS: path of the certificates (PEM) that sign our peers'. A peer must show one then; empty:
    #: peers need no certificate.
    tls_ca_file: str = ""
    #: Who may ask. Empty: this machine only.
    peers: tuple[ServePeerSection, ...] = ()
    #: The port of QIDO-RS and WADO-RS; 0: they are not offered.
    web_port: int = Field(default=0, ge=0, le=65_535)
    #: Bearer tokens that let in over HTTP, by a name for the journal.
    web_tokens: dict[str, SecretReference] = Field(default_factory=dict)
    #: Origins (“https://viewer.example.org”) whose web pages may read answers (CORS).
    web_origins: tuple[Annotated[str, AfterValidator(_checked_origin)], ...] = ()

    @property
    def is_web_guarded(self) -> bool:
        """Whether HTTP may be offered: here only, or to who shows a token or a certificate."""
        return ip_address(self.host).is_loopback or bool(self.web_tokens) or bool(self.tls_ca_file)

    @model_validator(mode="after")
    def _is_safe_and_whole(self) -> Self:
        try:
            is_private = ip_address(self.host).is_loopback
        except ValueError:
            raise ValueError(_("“host” is an IP address of this machine, or “0.0.0.0”.")) from None
        if not (is_private or self.peers):
            raise ValueError(
                _(
                    "Other machines can connect: say who may ask, in [[serve.peers]] "
                    "(network = “0.0.0.0/0” is everybody)."
                )
            )
        if self.tls and not self.tls_certificate_file:
            raise ValueError(_("TLS needs our certificate: “tls_certificate_file”."))
        for option in ("tls_certificate_file", "tls_key_file", "tls_key_passphrase", "tls_ca_file"):
            if getattr(self, option) and not self.tls:
                raise ValueError(_("“%s” needs “tls = true”.") % option)
        if self.web_port and not self.is_web_guarded:
            raise ValueError(unguarded_web())
        for name, reference in self.web_tokens.items():
            if not reference or not _TOKEN_NAME.fullmatch(name):
                raise ValueError(_("“web_tokens” has a name and a reference for each token."))
        return self


def unguarded_web() -> str:
    """Say what is missing where other machines can connect over HTTP."""
    return _(
        "Other machines can connect: over HTTP “web_tokens”, or “tls” with “tls_ca_file”, must "
        "say who may ask."
    )
