"""Status, runs, queues, schedules and alerts as plain data, for `--json` and for the API."""

from __future__ import annotations

from datetime import datetime

from dcmvault.app.queue import JobView, QueueView
from dcmvault.app.schedules import ScheduleView
from dcmvault.app.status import EvidenceView, SourceView
from dcmvault.model.alert import Alert, AlertEvent
from dcmvault.model.live import Live
from dcmvault.ports.catalogue import RunProgress, RunRecord


def source_data(view: SourceView) -> dict[str, object]:
    """Return a source and its coverage."""
    source = view.source
    return {
        "name": source.name,
        "studies": source.studies,
        "instances": source.instances,
        "bytes": source.bytes,
        "studies_excluded": view.excluded,
        "last_seen_at": _time(source.last_seen_at),
        "destinations": [
            {
                "name": coverage.destination,
                "studies_protected": coverage.studies_protected,
                "studies": coverage.studies,
                "instances_held": coverage.instances_held,
                "instances": coverage.instances,
                "by_level": {level.word: count for level, count in coverage.by_level.items()},
                "coerced": coverage.coerced,
                "oldest_evidence_at": _time(coverage.oldest_evidence_at),
                **_evidence_data(view.evidence[coverage.destination]),
            }
            for coverage in view.coverage
        ],
    }


def _evidence_data(evidence: EvidenceView) -> dict[str, object]:
    owed = evidence.debt
    return {
        "facts": {
            level.word: {
                "instances": fact.instances,
                "oldest_at": _time(fact.oldest_at),
                "newest_at": _time(fact.newest_at),
            }
            for level, fact in evidence.facts.items()
        },
        "verification_debt": {
            "level": evidence.level.word,
            "reverify_after_s": evidence.oldest_s or None,
            "studies": owed.studies,
            "instances": owed.instances,
            "bytes": owed.bytes,
        },
    }


def run_data(run: RunRecord) -> dict[str, object]:
    """Return a run as a list shows it."""
    return {
        "run": run.run_id,
        "kind": run.request.kind.value,
        "state": run.state.value,
        "source": run.request.source,
        "destinations": [one.address for one in run.request.destinations],
        "created_at": _time(run.created_at),
        "finished_at": _time(run.finished_at),
    }


def progress_data(progress: RunProgress) -> dict[str, object]:
    """Return the counters of a run."""
    return {
        "state": progress.state.value,
        "items": progress.items,
        "settled": progress.settled,
        "sent": progress.sent,
        "failed": progress.failed,
        "bytes": progress.bytes,
        "settled_bytes": progress.settled_bytes,
        "scanned": progress.scanned,
    }


def queue_data(view: QueueView) -> dict[str, object]:
    """Return a destination's queue."""
    return {
        "destination": view.destination,
        "paused": view.state.paused,
        "concurrency": view.state.concurrency,
        "waiting": view.state.waiting,
        "running": view.state.running,
    }


def live_data(live: Live) -> dict[str, object]:
    """Return what goes on at destinations, small enough to be told each second."""
    return {
        "at": _time(live.at),
        "worked": live.is_worked,
        "transfers": len(live.transfers),
        "failures": sum(one.instances for one in live.failures),
        "runs": [
            {"run": run.run_id, "state": run.state, "settled": run.settled, "listed": run.scanned}
            for run in live.runs
        ],
        "lanes": [
            {
                "destination": lane.name,
                "bytes_per_s": round(lane.bytes_per_s),
                "limit_bytes_per_s": lane.limit_bytes_per_s,
                "slowed_until": _time(lane.slowed.until if lane.slowed else None),
                "associations": lane.associations,
                "waiting": lane.waiting,
                "running": lane.running,
                "instances_left": lane.instances_left,
                "bytes_left": lane.bytes_left,
                "eta_s": [round(lane.eta.least_s), round(lane.eta.most_s)] if lane.eta else None,
                "pause": lane.pause.value if lane.pause else None,
                "down_since": _time(lane.down_since),
            }
            for lane in live.lanes
        ],
    }


def job_data(view: JobView) -> dict[str, object]:
    """Return a job."""
    job = view.job
    return {
        "job": job.job_id,
        "run": job.run_id,
        "destination": view.destination,
        "study_instance_uid": job.study_instance_uid,
        "series_instance_uid": job.series_instance_uid,
        "state": job.state.value,
        "priority": job.priority.name.lower(),
        "instances": job.instances,
        "bytes": job.bytes,
        "attempt": job.attempt,
    }


def schedule_data(view: ScheduleView) -> dict[str, object]:
    """Return a configured schedule, and where it stands."""
    state, section = view.state, view.section
    return {
        "name": view.name,
        "plan": section.plan,
        "cron": section.cron,
        "every": section.every,
        "time_zone": section.time_zone,
        "window": section.window,
        "enabled": view.enabled,
        "next_at": _time(state.next_at if state else None),
        "last_due_at": _time(state.last_due_at if state else None),
        "waiting_since": _time(state.waiting_since if state else None),
        "last_runs": [
            {
                "run": run.run_id,
                "source": run.source,
                "due_at": _time(run.due_at),
                "ended": run.settled,
                "problem": run.problem,
            }
            for run in view.last_runs
        ],
    }


def alert_data(alert: Alert) -> dict[str, object]:
    """Return what is wrong, and since when; no address, and no patient data."""
    return {
        "code": alert.code.value,
        "kind": alert.subject.kind.value,
        "subject": alert.subject.name,
        "severity": alert.severity.value,
        "raised_at": _time(alert.raised_at),
        "figures": dict(alert.figures),
    }


def alert_event_data(event: AlertEvent) -> dict[str, object]:
    """Return what became of an alert, with the figures of that moment."""
    return {
        "change": event.change.value,
        "at": _time(event.at),
        **alert_data(event.alert),
        "figures": dict(event.figures),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
