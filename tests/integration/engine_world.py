"""A durable engine with scripted stages, for tests."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from dcmvault.engine.client import DurableQueue
from dcmvault.engine.database import WorkDatabase
from dcmvault.engine.ledger import Ledger
from dcmvault.engine.worker import DurableWorker
from dcmvault.model.identifiers import RunId
from dcmvault.testing.scripted_stages import ScriptedJob, ScriptedStages

_PATIENCE_S = 60


def eventually(condition: Callable[[], object]) -> None:
    """Wait until `condition()` is true; a test that waits too long fails."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come"
        time.sleep(0.01)


class EngineWorld:
    """One database of durable work and one script, in a folder; workers here or elsewhere."""

    def __init__(self, folder: Path, address: Path | str, stack: ExitStack) -> None:
        self._address = address
        self._stack = stack
        self._stages_path = folder / "stages.sqlite"
        self.stages = ScriptedStages(self._stages_path)
        self.database = WorkDatabase(address)
        stack.callback(self.database.dispose)
        self.queue = DurableQueue(self.database)
        self.ledger = Ledger(self.database)
        self.worker = DurableWorker(self.database, self.stages, stopping=self.stages.stopping)
        stack.callback(self.worker.stop, grace_s=20)

    def submit(self, run_id: str, *jobs: ScriptedJob) -> None:
        """Script a run and submit it."""
        self.stages.script(run_id, jobs)
        self.queue.submit(RunId(run_id))

    def await_finish(self, run_id: str) -> None:
        """Wait until the run was asked to finish and its workflow is written down as ended."""
        eventually(lambda: self.ledger.ended([run_id]))
        assert self.runs("finish")[-1:] == [run_id] or run_id in self.runs("finish")

    def runs(self, kind: str) -> list[str]:
        """List the runs of the events of a kind, in order."""
        return [event.run for event in self.stages.events(kind)]

    def jobs(self, kind: str) -> list[str]:
        """List the jobs of the events of a kind, in order."""
        return [event.job for event in self.stages.events(kind)]

    def start_process(self) -> subprocess.Popen[str]:
        """Start a worker as a process and wait until it works."""
        process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("engine_worker_process.py")),
                str(self._address),
                str(self._stages_path),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        assert _stream(process.stdout).readline() == "working\n"
        return process


def stop_process(process: subprocess.Popen[str]) -> None:
    """Ask a worker process to stop, and expect that it does so by itself."""
    _stream(process.stdin).close()
    assert process.wait(_PATIENCE_S) == 0


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
