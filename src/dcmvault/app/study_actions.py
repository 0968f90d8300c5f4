"""What is done to all studies that a query means: each can be counted first, and then be done.

A query that leaves out nothing but sources and dates becomes one run for each source; any other is
named study by study, some hundred in a run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dcmvault.app.backup import Started, make_request, start
from dcmvault.app.queue import prioritise_jobs
from dcmvault.app.restore_report import RestoreRequest
from dcmvault.app.restore_targets import is_peer
from dcmvault.app.restore_to_peer import peer_restore
from dcmvault.app.vault_access import readable_section, vault_section
from dcmvault.app.vault_retention import hold_many, release_many
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import DcmvaultError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.job import Priority
from dcmvault.model.plan import RunKind, RunRequest, Strategy
from dcmvault.model.selection import EVERYTHING, Selection
from dcmvault.model.study_matrix import MatchedStudies, StudyQuery

#: A run's request names its studies, and is read at every step.
_STUDIES_PER_RUN = 500


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A part of a bulk action that cannot be done, and why."""

    source: str
    studies: int
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class BulkRuns:
    """Runs that a bulk action takes: asked for if `started`, else only counted."""

    matched: MatchedStudies
    requests: tuple[RunRequest, ...]
    left_out: tuple[LeftOut, ...] = ()
    started: tuple[Started, ...] = ()


@dataclass(frozen=True, slots=True)
class BulkChange:
    """What a bulk action changes besides: of `matched` studies, `changed` ones or their jobs."""

    matched: MatchedStudies
    changed: int


def back_up_studies(
    workplace: Workplace, query: StudyQuery, destinations: Sequence[str] = (), *, dry_run: bool
) -> BulkRuns:
    """Back up now what is due of these studies.

    To these destinations (names or addresses), else to those of the plans that have the source,
    else to all that it was ever sent to.
    """
    return _runs(
        workplace,
        query,
        dry_run=dry_run,
        kind=RunKind.BACKUP,
        destinations=destinations,
        level=None,
    )


def verify_studies(
    workplace: Workplace,
    query: StudyQuery,
    destinations: Sequence[str],
    level: Level | None,
    *,
    dry_run: bool,
) -> BulkRuns:
    """Look for evidence of a level again; UsageError where a destination cannot give it."""
    return _runs(
        workplace,
        query,
        dry_run=dry_run,
        kind=RunKind.VERIFY,
        destinations=destinations,
        level=level,
    )


def restore_studies(
    workplace: Workplace,
    query: StudyQuery,
    source: str,
    target: str,
    level: Level | None = None,
    *,
    dry_run: bool,
) -> BulkRuns:
    """Restore from a vault or another place that can be read to a PACS or a DICOMweb service.

    UsageError for another target: `restore_request` makes what `restore` takes.
    """
    if not is_peer(workplace.settings, target):
        raise UsageError(_("%s is no PACS and no DICOMweb service.") % target)
    matched = workplace.catalogue.matrix.matched(query)
    requests = tuple(
        peer_restore(workplace, RestoreRequest(source, target, chosen), level).request
        for chosen in _selections(workplace, query, at=_held_at(workplace, source))
    )
    return _done(workplace, BulkRuns(matched, requests), dry_run=dry_run)


def restore_request(
    workplace: Workplace, query: StudyQuery, source: str, target: str
) -> tuple[MatchedStudies, RestoreRequest]:
    """Make what `restore` takes, for a folder or a ZIP file; UsageError where nothing matches."""
    at = _held_at(workplace, source)
    uids = tuple(uid for some in workplace.catalogue.matrix.named(query, at=at) for uid in some)
    if not uids:
        raise UsageError(_("No study matches, or the source has none of them."))
    return workplace.catalogue.matrix.matched(query), RestoreRequest(
        source, target, Selection(uids)
    )


def hold_studies(
    workplace: Workplace, query: StudyQuery, vault: str, reason: str, *, dry_run: bool
) -> BulkChange:
    """Put the studies that a vault has under legal hold; it needs a reason."""
    if not reason.strip():
        raise UsageError(_("A legal hold needs a reason."), hint=_("Name the case."))
    matched, uids = _at_vault(workplace, query, vault)
    if dry_run or not uids:
        return BulkChange(matched, len(uids))
    return BulkChange(matched, hold_many(workplace, vault, uids, reason.strip()))


def release_studies(
    workplace: Workplace, query: StudyQuery, vault: str, *, dry_run: bool
) -> BulkChange:
    """End the legal holds that a vault has of these studies."""
    matched, uids = _at_vault(workplace, replace(query, held=True), vault)
    if dry_run or not uids:
        return BulkChange(matched, len(uids))
    return BulkChange(matched, release_many(workplace, vault, uids))


def prioritise_studies(
    workplace: Workplace, query: StudyQuery, priority: Priority, *, dry_run: bool
) -> BulkChange:
    """Move the waiting jobs of these studies in their queues; `changed` counts jobs."""
    catalogue = workplace.catalogue
    uids = {uid for some in catalogue.matrix.named(query) for uid in some}
    jobs = [
        job
        for job in catalogue.runs.jobs(limit=sys.maxsize)
        if job.study_instance_uid in uids and job.priority is not priority
    ]
    if not dry_run:
        prioritise_jobs(workplace, jobs, priority)
    return BulkChange(catalogue.matrix.matched(query), len(jobs))


def _runs(
    workplace: Workplace,
    query: StudyQuery,
    *,
    dry_run: bool,
    kind: RunKind,
    destinations: Sequence[str],
    level: Level | None,
) -> BulkRuns:
    matched = workplace.catalogue.matrix.matched(query)
    requests: list[RunRequest] = []
    left_out = []
    for source, studies in matched.by_source.items():
        if query.sources and source not in query.sources:
            continue
        try:
            requests += _requests_of(workplace, query, source, kind, destinations, level)
        except DcmvaultError as error:
            left_out.append(LeftOut(source, studies, error.message, error.hint))
    return _done(workplace, BulkRuns(matched, tuple(requests), tuple(left_out)), dry_run=dry_run)


def _requests_of(
    workplace: Workplace,
    query: StudyQuery,
    source: str,
    kind: RunKind,
    destinations: Sequence[str],
    level: Level | None,
) -> list[RunRequest]:
    section = workplace.source_section(source)
    where = destinations or _destinations_of(workplace, source)
    return [
        make_request(
            workplace.settings,
            kind=kind,
            source=section,
            destinations=[_named(workplace, one) for one in where],
            level=level,
            strategy=Strategy.INCREMENTAL,
            priority=Priority.URGENT,
            selection=chosen,
        )
        for chosen in _selections(workplace, query, source=source)
    ]


def _done(workplace: Workplace, bulk: BulkRuns, *, dry_run: bool) -> BulkRuns:
    if dry_run:
        return bulk
    return replace(bulk, started=tuple(start(workplace, one) for one in bulk.requests))


def _selections(
    workplace: Workplace, query: StudyQuery, *, source: str = "", at: str = ""
) -> Iterator[Selection]:
    """Cut what a query means into selections; one where words say it."""
    plain = StudyQuery(
        first_date=query.first_date, last_date=query.last_date, sources=query.sources
    )
    if query == plain and source:
        yield Selection(first_date=query.first_date, last_date=query.last_date)
        return
    if query == StudyQuery():
        yield EVERYTHING
        return
    waiting: list[str] = []
    for some in workplace.catalogue.matrix.named(query, source=source, at=at):
        waiting += some
        while len(waiting) >= _STUDIES_PER_RUN:
            yield Selection(tuple(waiting[:_STUDIES_PER_RUN]))
            del waiting[:_STUDIES_PER_RUN]
    if waiting:
        yield Selection(tuple(waiting))


def _destinations_of(workplace: Workplace, source: str) -> list[str]:
    """Return where a source goes by its plans, or went until now."""
    settings = workplace.settings
    found = [
        settings.destination(name).section.address
        for plan in settings.plans.values()
        if any(workplace.settings.source(one).address == source for one in plan.sources)
        for name in plan.destinations
    ]
    if not found:
        status = workplace.catalogue.status
        source_id = workplace.catalogue.sources.source(source)
        found = [one.destination for one in status.coverage(source_id)]
    return list(dict.fromkeys(found))


def _named(workplace: Workplace, name_or_address: str) -> str:
    """Return the configured name of a destination, so that it is used with its options."""
    for name, one in workplace.settings.destinations.items():
        if one.section.address == name_or_address:
            return name
    return name_or_address


def _held_at(workplace: Workplace, source: str) -> str:
    """Return the address of what is restored from, where it is a destination of ours."""
    section = readable_section(workplace.settings, source)
    known = workplace.catalogue.status.destinations().values()
    return section.address if section.address in known else ""


def _at_vault(
    workplace: Workplace, query: StudyQuery, vault: str
) -> tuple[MatchedStudies, list[str]]:
    address = vault_section(workplace.settings, vault).address
    matrix = workplace.catalogue.matrix
    uids = [uid for some in matrix.named(query, at=address) for uid in some]
    return matrix.matched(query), uids
