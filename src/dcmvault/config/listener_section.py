"""The section `[listener]`: where we take what is pushed to us, from whom, and how much of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from dcmvault.config.options import Section
from dcmvault.config.places import state_folder
from dcmvault.config.service_section import ServicePeerSection, ServiceSection
from dcmvault.i18n import gettext as _


class ListenerPeerSection(ServicePeerSection):
    """Somebody who may send to us."""

    #: Where it is told what storage commitment it has; empty: on the association on which it asks.
    report_host: str = ""
    #: The port for that.
    report_port: int = Field(default=104, ge=1, le=65_535)

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        if self.report_host and not self.ae_title:
            raise ValueError(_("“report_host” needs the peer's “ae_title”."))
        return self


class ListenerSection(ServiceSection):
    """Our storage service (C-STORE SCP), and its spool."""

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
    #: Who may send. Empty: this machine only.
    peers: tuple[ListenerPeerSection, ...] = ()

    @property
    def spool(self) -> Path:
        """The folder of the spool."""
        return Path(self.folder).expanduser() if self.folder else state_folder() / "spool"

    def _unguarded(self) -> str:
        return _(
            "Other machines can connect: say who may send, in [[listener.peers]] "
            "(network = “0.0.0.0/0” is everybody)."
        )


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
