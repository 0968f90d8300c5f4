"""The section `[audit]`: the journal of who did what, and the collector that gets a copy."""

from __future__ import annotations

import re
from typing import Literal, Self, cast

from pydantic import Field, model_validator

from dcmvault.config.peer_sections import TlsSection
from dcmvault.i18n import gettext as _

_COLLECTOR = re.compile(
    r"(tls|tcp|udp)://(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+))(?::([0-9]{1,5}))?/?"
)
#: Registered for syslog over TLS (RFC 5425), TCP (RFC 6587) and UDP (RFC 5426).
_PORTS = {"tls": 6514, "tcp": 601, "udp": 514}

TransportName = Literal["tls", "tcp", "udp"]


class AuditSection(TlsSection):
    """The audit journal."""

    #: Where DICOM audit messages go, too: “tls://host:6514”, “tcp://host:601” or “udp://host:514”;
    #: empty: nowhere.
    collector: str = ""
    #: How this site is called in audit messages.
    site: str = Field(default="", max_length=200)
    #: Seconds until a collector must answer.
    timeout_s: float = Field(default=5.0, gt=0, le=60)
    #: Messages that wait for a collector that is away, at most; the journal keeps all of them.
    most_waiting: int = Field(default=100_000, ge=100)
    #: Size in MiB at which the next file of the journal is begun.
    rotate_mib: int = Field(default=16, ge=1, le=1024)

    @model_validator(mode="after")
    def _is_an_address(self) -> Self:
        if self.collector:
            found = _COLLECTOR.fullmatch(self.collector)
            if found is None or not 0 < int(found[4] or 1) < 65_536:
                raise ValueError(
                    _("Write “collector” as tls://host:6514, tcp://host:601 or udp://host:514.")
                )
        self._require_fitting_tls(speaks_tls=self.collector.startswith("tls:"), place="tls://")
        return self

    @property
    def place(self) -> tuple[TransportName, str, int] | None:
        """Transport, host and port of the collector; None where there is none."""
        found = _COLLECTOR.fullmatch(self.collector)
        if found is None:
            return None
        transport = cast(TransportName, found[1])
        return transport, found[2] or found[3], int(found[4] or _PORTS[transport])
