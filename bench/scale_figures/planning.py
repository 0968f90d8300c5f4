"""A run planned in a process of its own: `python -m bench.scale_figures.planning URL INSTANCES`.

Lists a source that is as it was, and asks what is due at each destination and what it holds, as a
run does. Prints one JSON object.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.scale_figures.filling import PLACES
from bench.scale_figures.made_source import MadeSource

from dcmvault.catalogue import open_catalogue
from dcmvault.model.evidence import Level
from dcmvault.model.plan import Strategy
from dcmvault.pipeline.selection import select_from


def plan(url: str, instances: int) -> dict[str, float]:
    """Plan once; return seconds by step."""
    taken: dict[str, float] = {}

    def timed(what: str, step: Callable[[], None]) -> None:
        began = time.perf_counter()
        step()
        taken[what] = taken.get(what, 0) + time.perf_counter() - began

    catalogue = open_catalogue(url)
    source = MadeSource(instances)
    source_id = catalogue.sources.source(source.name)

    def listing() -> None:
        counts = select_from(
            source,
            catalogue.sources,
            None,
            include_other_files=False,
            listed=lambda _entries: None,
            open_other=lambda _name: source,
        )
        if (counts.instances, counts.new, counts.changed) != (instances, 0, 0):
            raise SystemExit(f"The source did not stay as it was: {counts}")

    def held() -> None:
        if catalogue.plans.held_versions(source_id, place, Level.COMPLETE) != instances:
            raise SystemExit("Not all was held.")

    def due() -> None:
        found = catalogue.plans.due(
            source_id, place, strategy=Strategy.INCREMENTAL, level=Level.COMPLETE, run_id=None
        )
        if next(found, None) is not None:
            raise SystemExit("Something was due.")

    timed("listed", listing)
    for name, _keeps, _level in PLACES:
        place = catalogue.plans.destination(name)
        timed("held", held)
        timed("due", due)
    catalogue.close()
    return taken


def main() -> None:
    taken = plan(sys.argv[1], int(sys.argv[2]))
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps({"seconds": taken, "peak_bytes": int(peak[1]) << 10 if peak else 0}))


if __name__ == "__main__":
    main()
