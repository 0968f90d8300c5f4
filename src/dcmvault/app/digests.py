"""Digests: how things stand, each day and each week, also when nothing happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from dcmvault.app.announcing import OVERDUE
from dcmvault.config.notifications_section import WEEKDAY_WORDS, ChannelSection
from dcmvault.config.settings import Settings
from dcmvault.model.notice import Event, Notice, Severity
from dcmvault.pipeline.notice_times import latest_moment, next_moment
from dcmvault.ports.notices import NewsCatalogue, NoticeBook

#: Marks: the moments of the newest digests, by kind and channel.
_DIGEST = "digest:"
#: How long after its moment a digest is still made: the machine may have slept over it.
_STILL_NEWS = {Event.DIGEST: timedelta(hours=20), Event.WEEKLY: timedelta(days=6)}
_PERIODS = {Event.DIGEST: timedelta(days=1), Event.WEEKLY: timedelta(weeks=1)}


@dataclass(frozen=True, slots=True)
class Digests:
    """Posts the digests whose time has come, each once for each channel that asks for it."""

    settings: Settings
    book: NoticeBook
    news: NewsCatalogue
    #: Figures that are not about runs, ready for JSON.
    well_being: Callable[[], Mapping[str, object]]
    #: Where days begin; None: where the machine is.
    zone: tzinfo | None = None

    def announce(self, now: datetime, since: datetime) -> datetime | None:
        """Post what is due at `now`, nothing of before `since`; return when the next will be."""
        following = []
        for name, channel in self.settings.notifications.items():
            for event in (Event.DIGEST, Event.WEEKLY):
                if event.value not in channel.told_events or _is_unasked_for(channel):
                    continue
                weekday = WEEKDAY_WORDS.index(channel.weekday) if event is Event.WEEKLY else None
                at, zone = channel.minute_of_day, self.zone
                moment = latest_moment(now, at, weekday=weekday, zone=zone)
                if since < moment and now - moment < _STILL_NEWS[event]:
                    self._post_digest(event, name, moment)
                following.append(next_moment(now, at, weekday=weekday, zone=zone))
        return min(following, default=None)

    def _post_digest(self, event: Event, channel: str, moment: datetime) -> None:
        mark = f"{_DIGEST}{event.value}:{channel}"
        if self.book.marks().get(mark) == moment:
            return
        facts = dict(self._figures(moment - _PERIODS[event]))
        is_well = not any(facts.get(name) for name in ("overdue", "alerts", "silent_channels"))
        is_well = is_well and facts.get("studies") == facts.get("studies_protected")
        severity = Severity.INFO if is_well else Severity.WARNING
        notice_id = f"{event.value}:{channel}:{moment.isoformat()}"
        self.book.post(Notice(notice_id, event, severity, moment, facts=facts), [channel])
        self.book.mark(mark, moment)

    def _figures(self, since: datetime) -> Mapping[str, object]:
        ends = self.news.ended_since(since)
        protection = self.news.protection()
        oldest = protection.oldest_unprotected
        counts = [one.facts.get("instances") for one in ends]
        late = [name[len(OVERDUE) :] for name in self.book.marks() if name.startswith(OVERDUE)]
        states = self.book.channel_states()
        return {
            "since": since.isoformat(),
            "runs": {
                "ok": sum(one.event is Event.RUN_OK for one in ends),
                "incomplete": sum(one.event is Event.RUN_INCOMPLETE for one in ends),
                "failed": sum(one.event is Event.RUN_FAILED for one in ends),
            },
            "stored": sum(int(one["stored"]) for one in counts if isinstance(one, dict)),
            "studies": protection.studies,
            "studies_protected": protection.studies - protection.unprotected,
            "oldest_unprotected": None if oldest is None else oldest.isoformat(),
            "overdue": sorted(name for name in late if name in self.settings.plans),
            "silent_channels": [
                one.channel
                for one in states
                if one.channel in self.settings.notifications
                and one.last_given_up_at is not None
                and one.last_given_up_at >= since
            ],
            **self.well_being(),
        }


def _is_unasked_for(channel: ChannelSection) -> bool:
    """Say whether a channel wants to hear of what is bad only, and names no events."""
    return not channel.events and channel.severity != Severity.INFO.value
