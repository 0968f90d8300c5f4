"""The duty of following: what runs, queues and alerts do is announced to those who listen."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from dcmvault.app.as_data import (
    alert_event_data,
    live_data,
    progress_data,
    queue_data,
    run_data,
)
from dcmvault.app.live import LiveWatch
from dcmvault.app.status import recent_runs
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.model.identifiers import RunId
from dcmvault.model.report import RunState
from dcmvault.ports.events import Topic
from dcmvault.web.event_stream import EventStream

_LOOK = timedelta(seconds=1)
#: Runs that are looked at: those that go on are among the newest.
_RUNS = 50
#: Of runs that only got on, so many are told of in one look; others have their turn later.
_GOT_ON = 2
_GOING_ON = frozenset({RunState.PENDING, RunState.PLANNING, RunState.RUNNING})


class Following:
    """Looks at runs, queues and alerts, and announces what is not as it was."""

    def __init__(self, workplace: Workplace, stream: EventStream, watch: LiveWatch) -> None:
        self._workplace = workplace
        self._stream = stream
        self._watch = watch
        self._runs: dict[RunId, Mapping[str, object]] = {}
        self._open: set[RunId] = set()
        self._queues: dict[str, Mapping[str, object]] = {}
        self._lanes: Mapping[str, object] = {}
        #: When runs were looked at, or would have been.
        self._looked_at: datetime | None = None
        #: The last thing that is known to have become of an alert.
        self._alert_event = workplace.catalogue.alerts.last_alert_event()

    def __call__(self, now: datetime) -> datetime:
        """Announce what changed since the last look; runs and queues only while somebody listens.

        Runs that ended meanwhile are in the lists that a client asks for when it begins.
        """
        self._look_at_alerts()
        if self._stream.listeners:
            self._look_at_runs(self._looked_at or now)
            self._look_at_lanes()
        self._looked_at = now
        return now + _LOOK

    def _look_at_alerts(self) -> None:
        """Announce all of them, also to those who come back later: there are few."""
        for event in self._workplace.catalogue.alerts.alert_events(self._alert_event):
            self._stream.announce(Topic.ALERT, alert_event_data(event))
            self._alert_event = event.number

    def _look_at_runs(self, since: datetime) -> None:
        known = self._workplace.catalogue.runs
        got_on = []
        for run in recent_runs(self._workplace, _RUNS):
            goes_on = run.state in _GOING_ON
            # Some are over before they are seen to go on.
            is_news = run.finished_at is not None and run.finished_at >= since
            if not (goes_on or is_news or run.run_id in self._open):
                continue
            before = self._runs.get(run.run_id)
            data = {**run_data(run), "progress": progress_data(known.progress(run.run_id))}
            if not goes_on:
                self._open.discard(run.run_id)
                self._runs.pop(run.run_id, None)
                self._stream.announce(Topic.RUN, data)
            elif before is None or before["state"] != data["state"]:
                self._open.add(run.run_id)
                self._tell(run.run_id, data)
            elif before != data:
                got_on.append((run.run_id, data))
        # Those that were told of longest ago first: what is told is put at the end.
        turns = {run_id: turn for turn, run_id in enumerate(self._runs)}
        for run_id, data in sorted(got_on, key=lambda one: turns[one[0]])[:_GOT_ON]:
            self._tell(run_id, data)

    def _tell(self, run_id: RunId, data: Mapping[str, object]) -> None:
        self._runs.pop(run_id, None)
        self._runs[run_id] = data
        self._stream.announce(Topic.RUN, data)

    def _look_at_lanes(self) -> None:
        data = live_data(self._watch.look())
        moment = data.pop("at")
        if self._lanes != data:
            self._lanes = data
            self._stream.announce(Topic.LANE, {"at": moment, **data})
        for one in self._watch.queues:
            told = queue_data(one)
            if self._queues.get(one.destination) != told:
                self._queues[one.destination] = told
                self._stream.announce(Topic.QUEUE, told)
