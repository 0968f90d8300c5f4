"""What is worth telling is put into the outbox: runs that began and ended, plans that are late."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from dcmvault.app.lateness import expectations
from dcmvault.app.notice_facts import (
    addresses_of_plan,
    end_of_run,
    facts_of_request,
    facts_of_run,
    plan_of,
)
from dcmvault.config.notifications_section import ChannelSection
from dcmvault.config.settings import Settings
from dcmvault.model.identifiers import RunId
from dcmvault.model.notice import Event, Notice, Severity
from dcmvault.model.plan import RunRequest
from dcmvault.pipeline.notice_times import KEPT_FOR, NEWS_FOR
from dcmvault.ports.catalogue import RunCatalogue
from dcmvault.ports.notices import NewsCatalogue, NoticeBook
from dcmvault.ports.schedules import ScheduleBook

_SINCE = "since"
#: Marks of plans that are late.
OVERDUE = "overdue:"


@dataclass(frozen=True, slots=True)
class Announcer:
    """Posts what happened, each happening once, however often it is asked to.

    Without a configured channel it does nothing, and what happens then is never told later.
    """

    settings: Settings
    book: NoticeBook
    news: NewsCatalogue
    runs: RunCatalogue
    schedules: ScheduleBook

    @property
    def has_channels(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self.settings.notifications)

    def begin(self, now: datetime) -> datetime:
        """Note since when there are channels; return since when what happened is news."""
        since = self.book.marks().get(_SINCE)
        if since is None:
            self.book.mark(_SINCE, now)
        return max(since or now, now - NEWS_FOR)

    def announce(self, now: datetime) -> datetime | None:
        """Post what is news of runs and plans; return when a plan may become late."""
        if not self.has_channels:
            return None
        since = self.begin(now)
        for run_id in self.news.untold_runs(since):
            self.run_ended(run_id)
        self.news.forget_notices(now - KEPT_FOR)
        return self._lateness(now)

    def post(self, notice: Notice) -> None:
        """Post a notice for all channels that want it; harmless if it was posted before."""
        self.book.post(notice, list(channels_for(self.settings, notice)))

    def run_started(self, run_id: RunId, request: RunRequest, now: datetime) -> None:
        """Post that a run began."""
        if not self.has_channels:
            return
        self.begin(now)
        self.post(
            Notice(
                f"run_started:{run_id}",
                Event.RUN_STARTED,
                Severity.INFO,
                now,
                plan_of(self.settings, request),
                run_id,
                facts_of_request(self.settings, request),
            )
        )

    def run_ended(self, run_id: RunId) -> None:
        """Post how a run ended."""
        report = self.runs.report(run_id, studies=False)
        event, severity = end_of_run(report)
        plan = plan_of(self.settings, report.request)
        facts = facts_of_run(self.settings, report)
        facts["plan_exit_status"] = self._status_of_plan(plan, report.exit_status)
        ended_at = report.finished_at or report.started_at
        self.post(Notice(f"run_ended:{run_id}", event, severity, ended_at, plan, run_id, facts))

    def _status_of_plan(self, plan: str, status: int) -> int:
        """Return the worst status of the newest runs of a plan's sources: one is not the plan."""
        statuses = [status]
        if plan:
            sources, destinations = addresses_of_plan(self.settings, plan)
            for source in sources if len(sources) > 1 else ():
                if newest := self.news.latest_end(source, destinations):
                    statuses.append(self.runs.report(newest[0], studies=False).exit_status)
        return max(statuses)

    def _lateness(self, now: datetime) -> datetime | None:
        """Post plans that became late or are on time again; return when the next may be late."""
        marks = self.book.marks()
        for mark in marks:
            if mark.startswith(OVERDUE) and mark[len(OVERDUE) :] not in self.settings.plans:
                self.book.unmark(mark)
        expected = expectations(self.settings, self.book, self.news, self.schedules, now)
        deadlines = []
        for name in self.settings.plans:
            late_since = marks.get(OVERDUE + name)
            one = expected.get(name)
            if one is None or not one.is_missed(now):
                if late_since is not None:
                    last = one.last if one is not None else None
                    # Where it is only not expected any more, nothing good happened.
                    if last is not None and last > late_since:
                        self._post_lateness(Event.OVERDUE_CLEARED, name, late_since, last, now)
                    self.book.unmark(OVERDUE + name)
                if one is not None:
                    deadlines.append(one.until)
            elif late_since is None:
                self._post_lateness(Event.OVERDUE, name, one.until, one.last, now)
                self.book.mark(OVERDUE + name, one.until)
        return min(deadlines, default=None)

    def _post_lateness(
        self, event: Event, plan: str, since: datetime, last: datetime | None, now: datetime
    ) -> None:
        overdue = event is Event.OVERDUE
        self.post(
            Notice(
                f"{event.value}:{plan}:{since.isoformat()}",
                event,
                Severity.CRITICAL if overdue else Severity.INFO,
                now,
                plan,
                facts={
                    "severity": Severity.CRITICAL.value,
                    "last_success": None if last is None else last.isoformat(),
                    "expected_by": since.isoformat(),
                },
            )
        )


def channels_for(settings: Settings, notice: Notice) -> Iterable[str]:
    """Return the channels that a notice is for, by what each asks for."""
    return (name for name, one in settings.notifications.items() if wants(one, notice))


def wants(channel: ChannelSection, notice: Notice) -> bool:
    """Say whether a channel asks for such a notice. An end is told to whom its begin was told."""
    if notice.event.subscription.value not in channel.told_events:
        return False
    is_end = notice.event.subscription is not notice.event
    severity = Severity(str(notice.facts.get("severity", notice.severity))) if is_end else None
    if (severity or notice.severity).rank < Severity(channel.severity).rank:
        # The end of something critical is itself no more than information.
        return False
    if not channel.plans:
        return True
    return notice.plan in channel.plans or not (notice.plan or notice.event.is_about_a_run)


def notice_of_a_test(channel: str, now: datetime) -> Notice:
    """Make what `notify test` sends."""
    return Notice(
        f"test:{channel}:{now.isoformat()}",
        Event.TEST,
        Severity.INFO,
        now,
        facts={"channel": channel},
    )
