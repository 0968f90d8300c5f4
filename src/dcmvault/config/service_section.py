"""What sections of services of ours share: where they listen, whom they let in, and their TLS."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from dcmvault.config.options import AETitle, SecretReference, Section
from dcmvault.i18n import gettext as _

#: An AE title, or nothing.
AnyAETitle = Annotated[str, StringConstraints(pattern=r"^[ -\[\]-~]{0,16}$", strip_whitespace=True)]

#: Options that mean something with TLS only.
_TLS_OPTIONS = ("tls_certificate_file", "tls_key_file", "tls_key_passphrase", "tls_ca_file")


def _checked_network(text: str) -> str:
    """Return an address or a network as it is written; ValueError for what is none."""
    try:
        return str(ip_network(text.strip(), strict=False))
    except ValueError:
        raise ValueError(_("Write an address, or a network such as “192.168.1.0/24”.")) from None


class ServicePeerSection(Section):
    """Somebody who may use a service."""

    #: Its calling AE title; empty: any. A filter against mistakes, never authentication.
    ae_title: AnyAETitle = ""
    #: Its address, or its network such as “192.168.1.0/24”; “0.0.0.0/0” is everybody.
    network: Annotated[str, AfterValidator(_checked_network)]

    @property
    def addresses(self) -> IPv4Network | IPv6Network:
        """The network."""
        return ip_network(self.network)


class ServiceSection(Section):
    """A service that others connect to."""

    #: The AE title that peers must call.
    ae_title: AETitle = "DCMVAULT"
    #: The address of this machine to listen on; “0.0.0.0”: all of them.
    host: str = "127.0.0.1"
    #: Associations at once, at most.
    max_associations: int = Field(default=16, ge=1, le=256)
    #: Associations at once from one address, at most.
    max_associations_per_peer: int = Field(default=8, ge=1, le=256)
    #: Seconds without a word until an association is ended.
    idle_timeout_s: float = Field(default=60.0, ge=1, le=3600)
    #: Peers speak TLS, also those that we connect to; then `tls_certificate_file` is needed.
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
    #: Who may connect. Empty: this machine only.
    peers: tuple[ServicePeerSection, ...] = ()

    def _unguarded(self) -> str:
        """Say what is missing where other machines can connect, and nothing says who may."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _is_safe_and_whole(self) -> Self:
        try:
            is_private = ip_address(self.host).is_loopback
        except ValueError:
            raise ValueError(_("“host” is an IP address of this machine, or “0.0.0.0”.")) from None
        if not (is_private or self.peers):
            raise ValueError(self._unguarded())
        if self.tls and not self.tls_certificate_file:
            raise ValueError(_("TLS needs our certificate: “tls_certificate_file”."))
        for option in _TLS_OPTIONS:
            if getattr(self, option) and not self.tls:
                raise ValueError(_("“%s” needs “tls = true”.") % option)
        return self
