"""The section `[listener]`: where we take what is pushed to us, from whom, and how much of it."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from dcmvault.config.options import AETitle, SecretReference, Section
from dcmvault.config.places import state_folder
from dcmvault.i18n import gettext as _

#: An AE title, or nothing.
AnyAETitle = Annotated[str, StringConstraints(pattern=r"^[ -\[\]-~]{0,16}$", strip_whitespace=True)]


def checked_network(text: str) -> str:
    """Return an address or a network as it is written; ValueError for what is none."""
    try:
        return str(ip_network(text.strip(), strict=False))
    except ValueError:
        raise ValueError(_("Write an address, or a network such as “192.168.1.0/24”.")) from None


class ListenerPeerSection(Section):
    """Somebody who may send to us."""

    #: Its calling AE title; empty: any. A filter against mistakes, never authentication.
    ae_title: AnyAETitle = ""
    #: Its address, or its network such as “192.168.1.0/24”; “0.0.0.0/0” is everybody.
    network: Annotated[str, AfterValidator(checked_network)]
    #: Where it is told what storage commitment it has; empty: on the association on which it asks.
    report_host: str = ""
    #: The port for that.
    report_port: int = Field(default=104, ge=1, le=65_535)

    @property
    def addresses(self) -> IPv4Network | IPv6Network:
        """The network."""
        return ip_network(self.network)

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        if self.report_host and not self.ae_title:
            raise ValueError(_("“report_host” needs the peer's “ae_title”."))
        return self


class ListenerSection(Section):
    """Our storage service (C-STORE SCP), and its spool."""

    #: The AE title that peers must call.
    ae_title: AETitle = "DCMVAULT"
    #: The address of this machine to listen on; “0.0.0.0”: all of them.
    host: str = "127.0.0.1"
    #: The port to listen on.
    port: int = Field(default=11_112, ge=1, le=65_535)
    #: Where instances wait until they are backed up; empty: `spool` in the state folder.
    folder: str = ""
    #: Seconds without a new instance after which a study is backed up.
    settle_s: float = Field(default=60.0, ge=0, le=86_400)
    #: Days that instances stay in the spool, though every destination holds them.
    keep_days: float = Field(default=7.0, ge=0, le=36_500)
    #: Megabytes that the spool may hold; 0: as many as the disk has.
    budget_mb: int = Field(default=0, ge=0)
    #: Megabytes of the disk that stay free; what would need them is refused for now (A700).
    reserve_mb: int = Field(default=1024, ge=0)
    #: Associations at once, at most.
    max_associations: int = Field(default=16, ge=1, le=256)
    #: Associations at once from one address, at most.
    max_associations_per_peer: int = Field(default=8, ge=1, le=256)
    #: Seconds without a word until an association is ended.
    idle_timeout_s: float = Field(default=60.0, ge=1, le=3600)
    #: Peers speak TLS; then `tls_certificate_file` is needed.
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
    #: Who may send. Empty: this machine only.
    peers: tuple[ListenerPeerSection, ...] = ()

    @property
    def spool(self) -> Path:
        """The folder of the spool."""
        return Path(self.folder).expanduser() if self.folder else state_folder() / "spool"

    @model_validator(mode="after")
    def _is_safe_and_whole(self) -> Self:
        try:
            is_private = ip_address(self.host).is_loopback
        except ValueError:
            raise ValueError(_("“host” is an IP address of this machine, or “0.0.0.0”.")) from None
        if not (is_private or self.peers):
            raise ValueError(
                _(
                    "Other machines can connect: say who may send, in [[listener.peers]] "
                    "(network = “0.0.0.0/0” is everybody)."
                )
            )
        if self.tls and not self.tls_certificate_file:
            raise ValueError(_("TLS needs our certificate: “tls_certificate_file”."))
        for option in ("tls_certificate_file", "tls_key_file", "tls_key_passphrase", "tls_ca_file"):
            if getattr(self, option) and not self.tls:
                raise ValueError(_("“%s” needs “tls = true”.") % option)
        return self


class ListenerSourceSection(Section):
    """What the configured listener took: studies in its spool that have settled."""

    kind: Literal["listener"] = "listener"

    @property
    def path(self) -> None:
        """Its folder is an option of the listener."""
        return

    @property
    def address(self) -> str:
        """The canonical address."""
        return "listener:"
