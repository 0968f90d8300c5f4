"""Writing down what a command did, and telling the collector: never in the way of the command."""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dcmvault.app.wiring.audit import FOLDER, audit_forwarding, audit_journal
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.audit_section import AuditSection
from dcmvault.errors import DcmvaultError
from dcmvault.model.audit import Actor, ActorKind, AuditEvent, AuditKind, AuditOutcome
from dcmvault.ports.audit import AuditJournal
from dcmvault.ports.clock import Clock

_log = logging.getLogger(__name__)

#: What the journal last saw of the configuration.
_SEEN = "configuration.json"
#: Characters of one detail.
_LONGEST_DETAIL = 1000
#: Seconds that a command waits for a collector at most.
_PATIENCE_S = 2.0


def cli_user() -> Actor:
    """Return who sits at this command line, as the system knows: behind sudo, who typed it."""
    name = os.environ.get("SUDO_USER", "")
    if not name or os.getuid() != 0:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            name = str(os.getuid())
    return Actor(ActorKind.CLI, name, socket.gethostname())


@dataclass(slots=True)
class Auditing:
    """The journal for one actor. Nothing here raises: work goes on without a journal."""

    home: Path
    actor: Actor
    section: AuditSection = field(default_factory=AuditSection)
    clock: Clock = field(default_factory=SystemClock)
    _wrote: bool = False

    @property
    def journal(self) -> AuditJournal:
        """The journal of the state folder."""
        return audit_journal(self.home, self.section.rotate_mib)

    def note(
        self,
        kind: AuditKind,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
        *,
        place: str = "",
        studies: tuple[str, ...] = (),
        details: Mapping[str, str | int | float] | None = None,
    ) -> bool:
        """Write an event down; False where it could not be."""
        event = AuditEvent(
            self.clock.now(), kind, self.actor, outcome, place, studies, details or {}
        )
        self._wrote = True
        return self.journal.record(event)

    def note_configuration(
        self, path: Path, *, noticed: str = "at a command", keys: tuple[str, ...] = ()
    ) -> None:
        """Write down that the configuration is another one than when this was last asked.

        `noticed` says how that is known, `keys` what differs, where that is known.
        """
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            digest = ""
        seen_in = self.journal_folder / _SEEN
        try:
            before = str(json.loads(seen_in.read_bytes())["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            before = ""
        if digest == before:
            return
        details = {"sha256": digest or "none", "before": before or "none", "noticed": noticed}
        if keys:
            details["keys"] = ", ".join(keys)[:_LONGEST_DETAIL]
        if self.note(AuditKind.CONFIGURATION, details=details):
            with suppress(OSError):
                descriptor = os.open(seen_in, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "w") as file:
                    json.dump({"sha256": digest}, file)

    @property
    def journal_folder(self) -> Path:
        """Where the journal is."""
        return self.home / FOLDER

    def forward(self) -> None:
        """Send what was written to the collector, if there is one; it waits where that fails.

        A name that is looked up, a peer that accepts and says nothing: each has a limit of its own,
        or none. So it is a thread that waits for them, and is left alone after `_PATIENCE_S`;
        what it had not remembered as sent is sent again.
        """
        if not self._wrote or self.section.place is None:
            return
        sender = threading.Thread(target=self._forward, name="audit-forwarding", daemon=True)
        sender.start()
        sender.join(_PATIENCE_S)
        if sender.is_alive():
            _log.warning("audit messages wait: the collector took too long")

    def _forward(self) -> None:
        patient = self.section.model_copy(
            update={"timeout_s": min(self.section.timeout_s, _PATIENCE_S)}
        )
        try:
            forwarding = audit_forwarding(self.home, patient)
            if forwarding is not None:
                forwarding.forward(_PATIENCE_S)
        except (DcmvaultError, OSError) as error:
            _log.warning("audit messages wait: %s", error)


def outcome_of(exit_status: int) -> AuditOutcome:
    """Return how it went, by the exit status of a command."""
    if exit_status == 0:
        return AuditOutcome.SUCCESS
    return AuditOutcome.MINOR_FAILURE if exit_status in {2, 3} else AuditOutcome.SERIOUS_FAILURE
