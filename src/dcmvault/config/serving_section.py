"""The section `[serve]`: where a vault answers as a PACS, whom, and where C-MOVE may send to."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from dcmvault.config.listener_section import AnyAETitle, checked_network
from dcmvault.config.options import AETitle, SecretReference, Section
from dcmvault.i18n import gettext as _


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
    """Our query and retrieve service (C-FIND, C-MOVE and C-GET SCP) over a vault."""

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
        return self
