"""Serve: a vault answers as a PACS, at present or at one of its snapshots. Nothing is written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dcmvault.app.vault_access import open_named_vault
from dcmvault.app.wiring.audit import access_journal, forwarding_audit
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.serving import (
    answering,
    answering_web,
    vault_archive,
    web_address,
)
from dcmvault.config.settings import Settings
from dcmvault.errors import DestinationError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.vault.choosing import Choice
from dcmvault.vault.state import VaultState

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """What is asked for: of the present, of a snapshot, or of an (aware) time."""

    vault: str
    snapshot: str = ""
    as_of: datetime | None = None
    #: None: as the configuration says.
    dicom_port: int | None = None
    web_port: int | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """A vault that answers now."""

    vault: str
    #: When it began.
    studies: int
    ae_title: str
    host: str
    dicom_port: int
    #: The root of QIDO-RS and WADO-RS; empty where they are not offered.
    web_address: str


@contextmanager
def serving(settings: Settings, request: ServeRequest, home: Path) -> Iterator[Serving]:
    """Let a vault answer until the context is left.

    Raises UsageError (no such snapshot), what opening a vault raises, StateError where the port
    cannot be had.
    """
    if request.snapshot and request.as_of is not None:
        raise UsageError(_("Name a snapshot or a time, not both."))
    section, vault = open_named_vault(settings, request.vault)

    def choose() -> VaultState:
        choice = Choice(vault, _pass_over)
        if request.snapshot:
            return choice.snapshot(request.snapshot)
        return choice.present() if request.as_of is None else choice.at(request.as_of)

    serve = settings.serve
    asked = {"dicom_port": request.dicom_port, "web_port": request.web_port}
    serve = serve.model_copy(
        update={name: port for name, port in asked.items() if port is not None}
    )
    offers_web = bool(serve.web_port) or request.web_port is not None
    follows = not request.snapshot and request.as_of is None
    journal, clock = access_journal(home, settings.audit), SystemClock()
    with (
        forwarding_audit(home, settings.audit),
        vault_archive(vault, choose, home, follows=follows) as archive,
        answering(serve, archive, journal, clock) as port,
        ExitStack() as stack,
    ):
        web = ""
        if offers_web:
            web_port = stack.enter_context(answering_web(serve, archive, journal, clock))
            web = web_address(serve, web_port)
        yield Serving(section.address, archive.studies, serve.ae_title, serve.host, port, web)


def _pass_over(key: str, error: DestinationError) -> None:
    _log.warning("not to be read: %s (%s)", key, error.message)
