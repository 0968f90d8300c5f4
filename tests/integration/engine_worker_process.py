"""A worker as a process: `ADDRESS STAGES`; works until its standard input ends."""

from __future__ import annotations

import sys
from pathlib import Path

from dcmvault.engine.database import WorkDatabase
from dcmvault.engine.worker import DurableWorker
from dcmvault.testing.scripted_stages import ScriptedStages


def main() -> None:
    address, stages_path = sys.argv[1:]
    stages = ScriptedStages(Path(stages_path))
    database = WorkDatabase(address if "://" in address else Path(address))
    worker = DurableWorker(database, stages, stopping=stages.stopping)
    worker.start()
    print("working", flush=True)
    sys.stdin.read()
    worker.stop(grace_s=30)
    database.dispose()


if __name__ == "__main__":
    main()
