"""What can be done to many studies at once: how each is called, what it asks, and what does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import HTTPException

from dcmvault.app.study_actions import (
    BulkChange,
    BulkRuns,
    back_up_studies,
    hold_studies,
    prioritise_studies,
    release_studies,
    verify_studies,
)
from dcmvault.app.study_exclusions import exclude_studies, include_studies
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import UsageError
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import AuditKind
from dcmvault.model.evidence import Level
from dcmvault.model.job import Priority
from dcmvault.model.study_matrix import MatchedStudies, StudyQuery
from dcmvault.web.backstage import Backstage
from dcmvault.web.pages.places_offered import vaults
from dcmvault.web.pages.study_asking import LEVELS, Asked
from dcmvault.web.visitors import Visitor


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asks for, to which studies."""

    workplace: Workplace
    query: StudyQuery
    by: str
    level: Level | None = None
    #: The configured name of a vault.
    vault: str = ""
    reason: str = ""
    priority: Priority = Priority.URGENT

    @property
    def destinations(self) -> list[str]:
        """The destination that was filtered by, if any."""
        return [self.query.destination] if self.query.destination else []


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that can be done."""

    name: str
    #: The command that does the same.
    command: str
    kind: AuditKind
    title: Callable[[], str]
    #: Asks whether to do it to so many studies.
    question: Callable[[int], str]
    #: Says what comes of it.
    about: Callable[[], str]
    do: Callable[..., BulkRuns | BulkChange]
    asks_level: bool = False
    asks_vault: bool = False
    asks_reason: bool = False
    asks_priority: bool = False


def order_of(
    behind: Backstage, by: Visitor, what: Asked, deed: Deed, fields: Mapping[str, str]
) -> Order:
    """Read what was typed; UsageError for what lacks."""
    level, vault = fields.get("level", ""), fields.get("vault", "")
    reason, priority = fields.get("reason", "").strip(), fields.get("priority", "")
    if deed.asks_level and level and level not in LEVELS:
        raise HTTPException(422)
    if deed.asks_vault and vault not in vaults(behind.workplace.settings):
        raise UsageError(_("No vault is named."), hint=_("Choose one of the configured vaults."))
    if deed.asks_reason and not reason:
        raise UsageError(_("This needs a reason."), hint=_("Say it for those who wonder later."))
    known = {str(int(one)): one for one in Priority}
    if deed.asks_priority and priority not in known:
        raise HTTPException(422)
    return Order(
        behind.workplace,
        what.query,
        by.name,
        {one.word: one for one in Level}[level] if deed.asks_level and level else None,
        vault if deed.asks_vault else "",
        reason,
        known.get(priority, Priority.URGENT),
    )


def vaults_of(behind: Backstage, matched: MatchedStudies) -> list[tuple[str, str]]:
    """List the configured vaults, each with how many of these studies it has."""
    settings = behind.workplace.settings
    found = []
    for name in vaults(settings):
        configured = settings.destinations.get(name)
        count = matched.by_destination.get(configured.section.address, 0) if configured else 0
        studies = ngettext("%s study", "%s studies", count) % format_number(count)
        found.append((name, f"{name} ({studies})"))
    return found


def _back_up(order: Order, *, dry_run: bool) -> BulkRuns:
    return back_up_studies(order.workplace, order.query, order.destinations, dry_run=dry_run)


def _verify(order: Order, *, dry_run: bool) -> BulkRuns:
    return verify_studies(
        order.workplace, order.query, order.destinations, order.level, dry_run=dry_run
    )


def _hold(order: Order, *, dry_run: bool) -> BulkChange:
    if not order.vault:
        matched = order.workplace.catalogue.matrix.matched(order.query)
        return BulkChange(matched, matched.studies)
    return hold_studies(order.workplace, order.query, order.vault, order.reason, dry_run=dry_run)


def _release(order: Order, *, dry_run: bool) -> BulkChange:
    if not order.vault:
        matched = order.workplace.catalogue.matrix.matched(order.query)
        return BulkChange(matched, matched.studies)
    return release_studies(order.workplace, order.query, order.vault, dry_run=dry_run)


def _exclude(order: Order, *, dry_run: bool) -> BulkChange:
    return exclude_studies(order.workplace, order.query, order.reason, order.by, dry_run=dry_run)


def _include(order: Order, *, dry_run: bool) -> BulkChange:
    return include_studies(order.workplace, order.query, dry_run=dry_run)


def _prioritise(order: Order, *, dry_run: bool) -> BulkChange:
    return prioritise_studies(order.workplace, order.query, order.priority, dry_run=dry_run)


_EVERY = (
    Deed(
        "backup",
        "backup",
        AuditKind.RUN_ASKED,
        lambda: _("Back up now"),
        lambda n: (
            ngettext("Back up %s study now?", "Back up %s studies now?", n) % format_number(n)
        ),
        lambda: _(
            "What is new or changed is sent, and everything that is sent is verified. An"
            " unfinished run is continued. What is excluded stays out."
        ),
        _back_up,
    ),
    Deed(
        "verify",
        "verify",
        AuditKind.RUN_ASKED,
        lambda: _("Verify"),
        lambda n: ngettext("Verify %s study?", "Verify %s studies?", n) % format_number(n),
        lambda: _("Destinations are asked again for evidence of every instance."),
        _verify,
        asks_level=True,
    ),
    Deed(
        "hold",
        "vault hold",
        AuditKind.HOLD,
        lambda: _("Legal hold"),
        lambda n: (
            ngettext("Put %s study under legal hold?", "Put %s studies under legal hold?", n)
            % format_number(n)
        ),
        lambda: _("Nothing of them is forgotten or pruned in the vault until they are released."),
        _hold,
        asks_vault=True,
        asks_reason=True,
    ),
    Deed(
        "release",
        "vault hold",
        AuditKind.HOLD,
        lambda: _("End legal hold"),
        lambda n: (
            ngettext("End the legal hold of %s study?", "End the legal hold of %s studies?", n)
            % format_number(n)
        ),
        lambda: _("The rules of the vault apply to them again. Those under no hold stay as is."),
        _release,
        asks_vault=True,
    ),
    Deed(
        "exclude",
        "queue exclude",
        AuditKind.WORK_STEERED,
        lambda: _("Exclude"),
        lambda n: (
            ngettext("Exclude %s study from backups?", "Exclude %s studies from backups?", n)
            % format_number(n)
        ),
        lambda: _(
            "From the next run on nothing of them is sent, and they do not count as protected."
            " Copies that there are stay. It can be undone."
        ),
        _exclude,
        asks_reason=True,
    ),
    Deed(
        "include",
        "queue include",
        AuditKind.WORK_STEERED,
        lambda: _("Include again"),
        lambda n: (
            ngettext(
                "Include %s study in backups again?", "Include %s studies in backups again?", n
            )
            % format_number(n)
        ),
        lambda: _("From the next run on they are backed up as others are."),
        _include,
    ),
    Deed(
        "prioritise",
        "queue prioritise",
        AuditKind.WORK_STEERED,
        lambda: _("Prioritise"),
        lambda n: (
            ngettext("Move what waits of %s study?", "Move what waits of %s studies?", n)
            % format_number(n)
        ),
        lambda: _("Only work that waits now is moved in its queue; rules learn from it."),
        _prioritise,
        asks_priority=True,
    ),
)
#: By the last part of its address.
DEEDS: Mapping[str, Deed] = {one.name: one for one in _EVERY}
