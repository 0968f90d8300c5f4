"""The audit journal for people: search, export, verify, rotate, and send what waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcmvault.app.auditing import Auditing, cli_user
from dcmvault.app.wiring.audit import (
    FOLDER,
    audit_forwarding,
    audit_journal,
    look_for,
    verified_journal,
)
from dcmvault.config.settings import Settings
from dcmvault.errors import StateError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import Actor, AuditKind
from dcmvault.model.journal import AuditQuery, JournalVerdict, KeptHead


@dataclass(frozen=True, slots=True)
class Sending:
    """What became of messages for the collector."""

    collector: str
    sent: int
    waiting: int
    skipped: int


@dataclass(frozen=True, slots=True)
class AuditDesk:
    """The journal of one state folder. What is done here is written down, too."""

    home: Path
    settings: Settings
    #: Who asks; None: whoever sits at the command line.
    actor: Actor | None = None

    def search(self, query: AuditQuery, *, exported_to: str = "") -> Iterator[Line]:
        """Yield the lines that fit, oldest first; StateError where the journal cannot be read."""
        self._note("export" if exported_to else "search", to=exported_to)
        try:
            for record, raw in look_for(self.home / FOLDER, query):
                yield Line(record, raw)
        except OSError as error:
            raise _unreadable(error) from None

    def newest(self, query: AuditQuery, count: int, before: int = 0) -> tuple[list[Line], bool]:
        """Return the newest lines that fit, newest first, and whether there are older ones.

        Only lines whose number is smaller than `before`, where that is given.
        """
        kept: deque[Line] = deque(maxlen=count + 1)
        for line in self.search(query):
            # Of a journal that somebody changed, numbers may be in any order.
            if not before or _number(line) < before:
                kept.append(line)
        lines = list(reversed(kept))
        return lines[:count], len(lines) > count

    def verify(self, kept: str = "") -> JournalVerdict:
        """Check the chain; `kept` is a head as `verify` printed it earlier (NUMBER:HASH)."""
        head = _head(kept)
        self._note("verify")
        try:
            return verified_journal(self.home / FOLDER, head)
        except OSError as error:
            raise _unreadable(error) from None

    def rotate(self) -> str:
        """Begin the next file; return its name."""
        auditing = self._auditing()
        try:
            name = audit_journal(self.home, self.settings.audit.rotate_mib).rotate(
                auditing.clock.now()
            )
        except OSError as error:
            raise _unreadable(error) from None
        self._note("rotate")
        return name

    def forward(self) -> Sending:
        """Send what waits; UsageError without a collector, CollectorError where it is away."""
        forwarding = audit_forwarding(self.home, self.settings.audit)
        if forwarding is None:
            raise UsageError(
                _("No collector is configured."),
                hint=_("Write one into the configuration: [audit], “collector”."),
            )
        sent = forwarding.forward()
        state = forwarding.state()
        return Sending(forwarding.collector.name, sent, forwarding.waiting(), state.skipped)

    def _auditing(self) -> Auditing:
        return Auditing(self.home, self.actor or cli_user(), self.settings.audit)

    def _note(self, action: str, to: str = "") -> None:
        details = {"action": action, **({"to": to} if to else {})}
        self._auditing().note(AuditKind.JOURNAL_USED, details=details)


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what it says, and its bytes as they lie in the journal."""

    record: Mapping[str, Any]
    raw: bytes


def _number(line: Line) -> int:
    number = line.record.get("seq")
    return number if isinstance(number, int) else 0


def _head(text: str) -> KeptHead | None:
    if not text:
        return None
    number, _colon, digest = text.strip().partition(":")
    if not number.isdecimal() or len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef"):
        raise UsageError(
            _("“%s” is no head of the journal.") % text,
            hint=_("`dcmvault audit verify` prints one: a number, a colon, and 64 digits."),
        )
    return KeptHead(int(number), digest.lower())


def _unreadable(error: OSError) -> StateError:
    return StateError(
        _("The audit journal cannot be used."), hint=error.strerror or type(error).__name__
    )
