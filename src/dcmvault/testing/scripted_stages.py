"""Stages of durable runs that follow a script and write down what was asked of them."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dcmvault.errors import SourceUnavailableError
from dcmvault.model.identifiers import DestinationId, JobId, RunId
from dcmvault.model.job import MAX_JOB_BYTES, Batch, Job, JobState, Priority
from dcmvault.ports.queue import StageInterruption

_SCHEMA = """
CREATE TABLE IF NOT EXISTS script (job TEXT PRIMARY KEY, run TEXT, text TEXT);
CREATE TABLE IF NOT EXISTS delivered (job TEXT, batch INTEGER, PRIMARY KEY (job, batch));
CREATE TABLE IF NOT EXISTS gate (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, run TEXT, job TEXT, text TEXT, pid INTEGER
);
"""
_GATE_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class ScriptedJob:
    """One job of the script."""

    job_id: str
    destination: int = 1
    priority: Priority = Priority.NORMAL
    batches: int = 1
    #: Seconds that a batch takes.
    takes_s: float = 0.0
    #: Ask to be enqueued again after so many seconds when this batch (from 1) is delivered.
    wait_after: int = 0
    wait_s: float = 0.0
    #: Deliver nothing until this gate is opened.
    gate: str = ""
    #: The defect to raise instead of delivering.
    defect: str = ""
    #: Small jobs that follow each other are delivered together.
    small: bool = False
    #: The planning (from 1) that finds the job; those before it have `finish` ask for another.
    planning: int = 1


@dataclass(frozen=True, slots=True)
class Event:
    """One call, as written down: `plan`, `start` and `end` of a batch, `finish`, `fail` ..."""

    kind: str
    run: str
    job: str
    text: str
    pid: int


class ScriptedStages:
    """RunStages over a SQLite file, which several processes may hold and which survives them.

    What a run does when no job was scripted for it: a run named `unavailable-...` fails with
    SourceUnavailableError when planned, one named `defect-...` with a defect; any other ends at
    once.
    """

    def __init__(self, path: Path, stopping: threading.Event | None = None) -> None:
        self._path = path
        self.stopping = stopping if stopping is not None else threading.Event()
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(_SCHEMA)

    def script(self, run_id: str, jobs: Sequence[ScriptedJob]) -> None:
        """Say which jobs a run will find."""
        with self._connection() as connection:
            connection.executemany(
                "INSERT INTO script VALUES (?, ?, ?)",
                [(job.job_id, run_id, json.dumps(asdict(job))) for job in jobs],
            )

    def open_gate(self, name: str) -> None:
        """Let the jobs behind this gate deliver."""
        with self._connection() as connection:
            connection.execute("INSERT OR IGNORE INTO gate VALUES (?)", (name,))

    def events(self, *kinds: str) -> list[Event]:
        """List what was asked so far, all of it or only these kinds."""
        with self._connection() as connection:
            rows = connection.execute("SELECT kind, run, job, text, pid FROM event ORDER BY number")
            return [event for row in rows if (event := Event(*row)).kind in kinds or not kinds]

    def delivered(self, job_id: str) -> int:
        """Count the job's delivered batches."""
        with self._connection() as connection:
            row = connection.execute("SELECT count(*) FROM delivered WHERE job = ?", (job_id,))
            return int(row.fetchone()[0])

    def plan(self, run_id: RunId) -> Sequence[Job]:
        """Return the jobs of this planning."""
        planning = 1 + sum(event.run == run_id for event in self.events("finish"))
        self._write("plan", run=run_id)
        if run_id.startswith("unavailable-"):
            raise SourceUnavailableError("The source is not mounted.", hint="Mount it.")
        if run_id.startswith("defect-"):
            raise ZeroDivisionError(run_id)
        return [
            _as_job(run_id, job)
            for job in self._scripted("run", run_id)
            if job.planning == planning
        ]

    def deliver(self, job_ids: Sequence[JobId]) -> Batch:
        """Deliver the next batch of the script of each job."""
        if len(job_ids) > 1:
            self._write("bundle", text=" ".join(job_ids))
        batches = {job_id: self._deliver(job_id) for job_id in job_ids}
        waiting = [job_id for job_id, batch in batches.items() if batch.wait_s is not None]
        return Batch(
            sum(batch.remaining for batch in batches.values()),
            max((batches[job_id].wait_s or 0.0 for job_id in waiting), default=None),
            tuple(waiting),
        )

    def _deliver(self, job_id: JobId) -> Batch:
        (job,) = self._scripted("job", job_id)
        batch = self.delivered(job_id) + 1
        self._write("start", job=job_id, text=str(batch))
        if job.defect:
            raise RuntimeError(job.defect)
        if batch > job.batches:
            return Batch(0)
        if job.gate and not self._pass_gate(job.gate):
            return Batch(job.batches - batch + 1)
        time.sleep(job.takes_s)
        with self._connection() as connection:
            connection.execute("INSERT OR IGNORE INTO delivered VALUES (?, ?)", (job_id, batch))
        self._write("end", job=job_id, text=str(batch))
        if batch == job.wait_after:
            return Batch(0, wait_s=job.wait_s)
        return Batch(job.batches - batch)

    def fail_job(self, job_id: JobId, message: str) -> None:
        """Write the failure down."""
        self._write("fail_job", job=job_id, text=message)

    def finish(self, run_id: RunId) -> bool:
        """Say whether all plannings of the script were done."""
        self._write("finish", run=run_id)
        plannings = [job.planning for job in self._scripted("run", run_id)]
        done = sum(event.run == run_id for event in self.events("finish"))
        return done >= max(plannings, default=1)

    def fail(self, run_id: RunId, code: str, message: str, hint: str) -> None:
        """Write the failure down."""
        self._write("fail", run=run_id, text=f"{code}: {message} {hint}")

    def _pass_gate(self, name: str) -> bool:
        while not self.stopping.is_set():
            with self._connection() as connection:
                if connection.execute("SELECT 1 FROM gate WHERE name = ?", (name,)).fetchone():
                    return True
            time.sleep(_GATE_LOOK_S)
        if name.startswith("interrupted-"):
            raise StageInterruption
        return False

    def _scripted(self, column: str, value: str) -> list[ScriptedJob]:
        statement = f"SELECT text FROM script WHERE {column} = ? ORDER BY rowid"  # noqa: S608
        with self._connection() as connection:
            rows = connection.execute(statement, (value,)).fetchall()
        return [_from_json(row[0]) for row in rows]

    def _write(self, kind: str, *, run: str = "", job: str = "", text: str = "") -> None:
        with self._connection() as connection:
            connection.execute(
                "INSERT INTO event (kind, run, job, text, pid) VALUES (?, ?, ?, ?, ?)",
                (kind, run, job, text, os.getpid()),
            )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=30)) as connection, connection:
            yield connection


def _from_json(text: str) -> ScriptedJob:
    fields = json.loads(text)
    return ScriptedJob(**{**fields, "priority": Priority(fields["priority"])})


def _as_job(run_id: RunId, job: ScriptedJob) -> Job:
    return Job(
        job_id=JobId(job.job_id),
        run_id=run_id,
        destination_id=DestinationId(job.destination),
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        state=JobState.QUEUED,
        priority=job.priority,
        instances=job.batches,
        bytes=0 if job.small else MAX_JOB_BYTES,
        attempt=1,
    )
