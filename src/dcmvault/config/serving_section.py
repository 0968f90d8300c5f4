"""The section `[serve]`: where a vault answers as a PACS, whom, and where C-MOVE may send to.

Over HTTP it answers, too, where that is asked for.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from dcmvault.config.options import SecretReference
from dcmvault.config.service_section import ServicePeerSection, ServiceSection
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


class ServePeerSection(ServicePeerSection):
    """Somebody who may ask, and where it takes instances."""

    #: Where C-MOVE sends to when it names this AE title; empty: nowhere.
    move_host: str = ""
    #: The port for that.
    move_port: int = Field(default=104, ge=1, le=65_535)

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        if self.move_host and not self.ae_title:
            raise ValueError(_("“move_host” needs the peer's “ae_title”."))
        return self


class ServeSection(ServiceSection):
    """Our services over a vault: C-FIND, C-MOVE and C-GET SCP; QIDO-RS and WADO-RS."""

    #: The port to listen on.
    dicom_port: int = Field(default=11_113, ge=1, le=65_535)
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

    def _unguarded(self) -> str:
        return _(
            "Other machines can connect: say who may ask, in [[serve.peers]] "
            "(network = “0.0.0.0/0” is everybody)."
        )

    @model_validator(mode="after")
    def _has_a_guarded_web(self) -> Self:
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
