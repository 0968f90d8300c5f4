"""What is worth knowing later: who did what, to what, and what came of it. No patient data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class AuditKind(StrEnum):
    """What happened. The words are stored, and documented; they never change."""

    RUN_ASKED = "run.asked"
    RUN_STARTED = "run.started"
    RUN_FINISHED = "run.finished"
    RESTORE = "restore"
    VERIFY = "verify"
    SAFE_TO_DELETE = "safe-to-delete"
    FORGET = "vault.forget"
    PRUNE = "vault.prune"
    REPAIR = "vault.repair"
    UNCOVER = "vault.uncover"
    VAULT_MADE = "vault.made"
    COPY = "vault.copied"
    HOLD = "vault.hold"
    KEYS = "keys.changed"
    CONFIGURATION = "configuration.changed"
    STATE_MOVED = "state.moved"
    WORK_STEERED = "work.steered"
    SERVICE_STARTED = "service.started"
    SERVICE_STOPPED = "service.stopped"
    #: A peer or a browser asked for something, and was answered or refused.
    ACCESS = "access"
    LOGIN = "login"
    LOGIN_FAILED = "login.failed"
    LOGOUT = "logout"
    #: Somebody had names of patients shown in the dashboard.
    REVEALED = "patients.revealed"
    ACCOUNTS = "accounts.changed"
    EXPORT = "data.exported"
    #: The journal itself was searched, exported, rotated, or mended after a crash.
    JOURNAL_USED = "journal.used"
    JOURNAL_ROTATED = "journal.rotated"
    JOURNAL_MENDED = "journal.mended"


class AuditOutcome(StrEnum):
    """How it went."""

    #: It begins; another line says how it ended. Without that line it was interrupted.
    BEGUN = "begun"
    SUCCESS = "success"
    #: Refused, or done for a part only.
    MINOR_FAILURE = "minor-failure"
    SERIOUS_FAILURE = "serious-failure"


class ActorKind(StrEnum):
    """By which door somebody came."""

    CLI = "cli"
    WEB = "web"
    PEER = "peer"
    #: dcmvault by itself: a schedule, a worker that goes on.
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it."""

    kind: ActorKind
    #: The user of this machine, the name that somebody logged in with, or an AE title (a label).
    name: str
    #: Host name or network address.
    address: str = ""
    #: The subject of a certificate that was shown.
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of the journal."""

    #: Aware.
    at: datetime
    kind: AuditKind
    actor: Actor
    outcome: AuditOutcome = AuditOutcome.SUCCESS
    #: A source, destination or vault, as it is named.
    place: str = ""
    study_instance_uids: tuple[str, ...] = ()
    #: Words, numbers and UIDs that say more.
    details: Mapping[str, str | int | float] = field(default_factory=dict)
