"""Our sender as a process: `python -m bench.delivery_figures.sender PORT FOLDER`.

The product's own path without its catalogue: files are listed, scanned, hashed and streamed over
associations whose number the product's controller chooses (or `--associations N` fixes). Prints
one JSON object: the seconds from the first connection to the last release, and the peak memory.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.config.sections import FolderSourceSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom.part10 import scan
from dcmvault.model.identifiers import RunId
from dcmvault.model.instance import InstanceFile, InstanceKind
from dcmvault.model.receipt import Receipt
from dcmvault.model.snapshot import Origin
from dcmvault.pipeline.concurrency import ConcurrencyController
from dcmvault.pipeline.lanes import KEPT_FILES, Files, LaneGate, Lanes
from dcmvault.ports.destination import Delivery
from dcmvault.sources.folder import FolderSource


def send(
    port: int, ae_title: str, folder: Path, *, fixed: int, most: int, window: int
) -> dict[str, object]:
    """Send a folder and say how long it took."""
    clock = SystemClock()
    section = DimseDestinationSection(
        host="127.0.0.1",
        port=port,
        called_ae_title=ae_title,
        max_associations=fixed or most,
        async_window=window,
    )
    destination = DimseDestination(section, clock)
    source = FolderSource(FolderSourceSection(path=folder))
    entries = [entry for study in source.studies() for entry in source.entries(study)]
    first = fixed or destination.first_deliveries
    gate = LaneGate(ConcurrencyController(first, fixed or most), clock)
    kinds: set[InstanceKind] = {scan(folder / entries[0].locator).kind}

    def files() -> Generator[tuple[None, InstanceFile | None]]:
        for answer in source.read(entries, kept=KEPT_FILES):
            assert isinstance(answer, InstanceFile)
            yield None, replace(answer, header=scan(answer.path))

    def open_delivery() -> Delivery:
        return destination.open(kinds, Origin(RunId("bench"), source.name))

    began, cpu = time.perf_counter(), time.process_time()
    lanes: Lanes[None] = Lanes(open_delivery, gate, threading.Event())
    failed: list[object] = []
    for delivered in lanes.deliver(Files(len(entries), files())):
        if not isinstance(delivered.came, Receipt):
            failed.append(delivered.came)
    destination.close_idle()
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    if failed:
        raise SystemExit(f"{len(failed)} of {len(entries)} instances were not sent: {failed[0]!r}")
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "associations": gate.controller.target,
        "peak_bytes": _peak(),
    }


def _peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10 if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ae-title", default="ANY-SCP")
    parser.add_argument("--associations", type=int, default=0, help="a fixed number")
    parser.add_argument("--most", type=int, default=4, help="at most so many, adaptive")
    parser.add_argument("--window", type=int, default=1, help="requests on their way on each")
    options = parser.parse_args()
    print(
        json.dumps(
            send(
                options.port,
                options.ae_title,
                options.folder,
                fixed=options.associations,
                most=options.most,
                window=options.window,
            )
        )
    )


if __name__ == "__main__":
    main()
