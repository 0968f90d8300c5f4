"""Which commands are written down in the audit journal, and what of them: one table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import click

from dcmvault.config.audit_section import AuditSection
from dcmvault.config.load import load_settings
from dcmvault.config.places import config_path, state_folder
from dcmvault.errors import DcmvaultError
from dcmvault.model.audit import AuditKind, AuditOutcome

#: Parameters that name studies.
_STUDIES = ("studies", "study", "release_uid")
_UID = re.compile(r"[0-9.]{1,64}")
#: What stands before the host of an address, with a password in it.
_PASSWORD = re.compile(r"(://)[^/?#@]*:[^/?#@]*@")
_INTERRUPTED = 130
_UNEXPECTED = 1


@dataclass(frozen=True, slots=True)
class _Rule:
    """How one command is told: where it says what it is about, and what else is told of it.

    A command that changes something is told when it begins, too: what was begun and has no end
    was interrupted. Only values that can hold no patient data are told.
    """

    kind: AuditKind
    place: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    changes: bool = False
    #: Options with which nothing is done that is worth a line; and those without which nothing is.
    unless: tuple[str, ...] = ()
    only_with: str = ""


#: How commands call the vault that they are about.
_VAULT = ("vault", "address")


def _change(kind: AuditKind, *told: str) -> _Rule:
    """Tell a command that changes a vault."""
    return _Rule(kind, _VAULT, told, changes=True, unless=("dry_run", "listed"))


def _account(*told: str) -> _Rule:
    """Tell a command that changes who may come into the dashboard."""
    return _Rule(AuditKind.ACCOUNTS, (), ("name", *told))


_RULES: Mapping[str, _Rule] = {
    "backup": _Rule(AuditKind.RUN_ASKED, ("source",), ("to", "strategy", "level"), changes=True),
    "run": _Rule(AuditKind.RUN_ASKED, (), ("plan",), changes=True),
    "compare": _Rule(AuditKind.RUN_ASKED, ("a",), ("b",), changes=True, only_with="act"),
    "verify": _Rule(AuditKind.VERIFY, ("source",), ("at", "level", "sample"), changes=True),
    "restore": _Rule(
        AuditKind.RESTORE,
        ("source",),
        ("target", "series", "snapshot", "as_of", "drill_studies"),
        changes=True,
        unless=("dry_run",),
    ),
    "safe-to-delete": _Rule(AuditKind.SAFE_TO_DELETE, ("source",)),
    "manifest export": _Rule(AuditKind.EXPORT, ("place",)),
    "listen": _Rule(AuditKind.SERVICE_STARTED, changes=True),
    "serve": _Rule(AuditKind.SERVICE_STARTED, _VAULT, ("snapshot", "as_of"), changes=True),
    "forget": _change(AuditKind.FORGET, "snapshots"),
    "vault forget": _change(AuditKind.FORGET, "snapshots"),
    "vault prune": _change(AuditKind.PRUNE, "grace", "max_drop"),
    "vault repair": _change(AuditKind.REPAIR, "drop_lost"),
    "vault uncover": _change(AuditKind.UNCOVER),
    "vault init": _change(AuditKind.VAULT_MADE, "no_encryption"),
    "vault copy": _change(AuditKind.COPY, "target", "snapshot"),
    "vault hold": _change(AuditKind.HOLD, "release_uid"),
    "vault key add": _change(AuditKind.KEYS, "label"),
    "vault key remove": _change(AuditKind.KEYS, "slot"),
    "vault key rotate": _change(AuditKind.KEYS, "days", "gb"),
    "vault key recovery": _change(AuditKind.KEYS, "label"),
    "queue pause": _Rule(AuditKind.WORK_STEERED, ("destination",)),
    "queue resume": _Rule(AuditKind.WORK_STEERED, ("destination",)),
    "queue cancel": _Rule(AuditKind.WORK_STEERED, (), ("run_or_job",)),
    "queue finish": _Rule(AuditKind.WORK_STEERED, (), ("run",)),
    "queue skip": _Rule(AuditKind.WORK_STEERED, (), ("job",)),
    "queue slow": _Rule(AuditKind.WORK_STEERED, ("destination",), ("minutes", "end")),
    "queue exclude": _Rule(AuditKind.WORK_STEERED),
    "queue include": _Rule(AuditKind.WORK_STEERED),
    "schedule enable": _Rule(AuditKind.WORK_STEERED, (), ("name",)),
    "schedule disable": _Rule(AuditKind.WORK_STEERED, (), ("name",)),
    "queue prioritise": _Rule(AuditKind.WORK_STEERED, (), ("job", "priority")),
    "web user add": _account("role", "link"),
    "web user password": _account("remove_codes"),
    "web user role": _account("role"),
    "web user disable": _account("enable"),
    "web user remove": _account(),
    "web user link": _account(),
    "rules reset": _Rule(AuditKind.CONFIGURATION, changes=True),
    "state move": _Rule(AuditKind.STATE_MOVED, ("to",), changes=True),
    "config init": _Rule(AuditKind.CONFIGURATION, changes=True),
}
#: How the end of a service is called.
_ENDS: Mapping[AuditKind, AuditKind] = {AuditKind.SERVICE_STARTED: AuditKind.SERVICE_STOPPED}


@dataclass(slots=True)
class _Ended:
    """How the command ended, as far as is known."""

    exit_status: int = _UNEXPECTED
    code: str = ""


@contextmanager
def audited(context: click.Context) -> Iterator[_Ended]:
    """Write down a command that is in the table, whatever comes of it."""
    ended = _Ended()
    path = context.command_path.removeprefix("dcmvault ")
    rule = _RULES.get(path)
    values = context.params
    if rule is None or _is_not_worth_it(rule, values):
        yield ended
        return
    # Not for commands that are not told: it needs the configuration.
    from dcmvault.app.auditing import Auditing, cli_user, outcome_of  # noqa: PLC0415 - when needed

    auditing = Auditing(state_folder(), cli_user(), _section())
    auditing.note_configuration(config_path(state_folder()))
    place = next((text for name in rule.place if (text := _words(values.get(name)))), "")
    studies = _studies(values)
    told: dict[str, str | int | float] = {"command": path}
    told |= {name: text for name in rule.told if (text := _words(values.get(name)))}
    if rule.changes:
        auditing.note(rule.kind, AuditOutcome.BEGUN, place=place, studies=studies, details=told)
    try:
        yield ended
    except DcmvaultError as error:
        ended.exit_status, ended.code = error.exit_status, error.code
        raise
    except (KeyboardInterrupt, click.Abort):
        ended.exit_status, ended.code = _INTERRUPTED, "interrupted"
        raise
    finally:
        told |= {"exit_status": ended.exit_status, "code": ended.code}
        kind = _ENDS.get(rule.kind, rule.kind)
        outcome = outcome_of(ended.exit_status)
        auditing.note(kind, outcome, place=place, studies=studies, details=told)
        if path == "config init":
            auditing.note_configuration(config_path(state_folder()))
        auditing.forward()


def _is_not_worth_it(rule: _Rule, values: Mapping[str, object]) -> bool:
    if any(values.get(name) for name in rule.unless):
        return True
    return bool(rule.only_with) and not values.get(rule.only_with)


def _section() -> AuditSection:
    """Return what is configured; with a configuration that is wrong, the journal is as ever."""
    try:
        return load_settings(config_path(state_folder())).audit
    except DcmvaultError:
        return AuditSection()


def _words(value: object) -> str:
    if isinstance(value, tuple | list):
        return " ".join(map(_words, value))
    if value is None or value is False:
        return ""
    # A command is told before its address is refused for what should not be in it.
    return _PASSWORD.sub(r"\1***@", str(value))


def _studies(values: Mapping[str, object]) -> tuple[str, ...]:
    """Return the UIDs that were named; what is no UID may be somebody's name."""
    found = (_words(values.get(name)).split() for name in _STUDIES)
    return tuple(dict.fromkeys(uid for uids in found for uid in uids if _UID.fullmatch(uid)))
