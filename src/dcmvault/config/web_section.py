"""The section `[web]`: where the dashboard and the API are, and how they are guarded."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from dcmvault.config.oidc_section import OidcSection
from dcmvault.config.options import SecretReference, Section
from dcmvault.i18n import gettext as _

#: A host name as browsers send it (RFC 1123), without a port.
_HOST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62})(?:\.[a-z0-9](?:[a-z0-9-]{0,62}))*")
_TLS_OPTIONS = ("tls_key_file", "tls_key_passphrase")


def _checked_name(text: str) -> str:
    name = text.strip().lower().rstrip(".")
    if len(name) > 253 or not _HOST_NAME.fullmatch(name):
        raise ValueError(_("Write a host name without a port, such as “backup.example.org”."))
    return name


class WebSection(Section):
    """The daemon's API over HTTP; requests need its token, or a login."""

    #: The address of this machine to listen on; “0.0.0.0”: all of them.
    host: str = "127.0.0.1"
    #: The port to listen on.
    port: int = Field(default=8765, ge=1, le=65_535)
    #: Host names that clients use for this machine; addresses and “localhost” are always known.
    names: tuple[Annotated[str, AfterValidator(_checked_name)], ...] = ()
    #: TLS: path of our certificate (PEM, with its chain).
    tls_certificate_file: str = ""
    #: TLS: path of the private key (PEM); empty: it is in the file of the certificate.
    tls_key_file: str = ""
    #: TLS: what opens the private key.
    tls_key_passphrase: SecretReference = ""
    #: Other machines may connect without TLS: a proxy on the way encrypts, or nobody listens.
    allow_plain_http: bool = False

    #: Minutes without use after which somebody has to log in again.
    idle_minutes: int = Field(default=15, ge=1, le=1440)
    #: Hours after which somebody has to log in again in any case.
    session_hours: int = Field(default=12, ge=1, le=168)
    #: Where people log in, beside the passwords here.
    oidc: OidcSection | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return ip_address(self.host).is_loopback

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted."""
        return bool(self.tls_certificate_file)

    def address(self, port: int) -> str:
        """Return where a browser on this machine finds the dashboard."""
        listens = ip_address(self.host)
        if listens.is_unspecified:
            listens = ip_address("::1" if listens.version == 6 else "127.0.0.1")
        host = f"[{listens}]" if listens.version == 6 else str(listens)
        return f"{'https' if self.has_tls else 'http'}://{host}:{port}"

    @model_validator(mode="after")
    def _is_safe_and_whole(self) -> Self:
        try:
            is_loopback = self.is_loopback
        except ValueError:
            raise ValueError(_("“host” is an IP address of this machine, or “0.0.0.0”.")) from None
        if not (is_loopback or self.has_tls or self.allow_plain_http):
            raise ValueError(
                _(
                    "Other machines can connect, and the token would travel unencrypted: set "
                    "“tls_certificate_file”, or “allow_plain_http = true” behind a proxy that "
                    "encrypts."
                )
            )
        for option in _TLS_OPTIONS:
            if getattr(self, option) and not self.has_tls:
                raise ValueError(_("“%s” needs “tls_certificate_file”.") % option)
        return self
