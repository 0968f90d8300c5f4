"""How exactly a cap holds: `python -m bench.delivery_figures.cap [--seconds 40]`.

Four associations send instances of mixed sizes under a limit of 2 MB/s to a simulated PACS. A
proxy before it writes down what comes and when. Printed is by how much any 30 s are off.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom.part10 import scan
from dcmvault.model.bandwidth import RateTable
from dcmvault.model.identifiers import RunId
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile
from dcmvault.model.snapshot import Origin
from dcmvault.pipeline.bandwidth import Bandwidth
from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.testing.peers import SimulatedPacs
from dcmvault.testing.recording_proxy import Arrival, RecordingProxy, worst_error

CAP_BYTES_PER_S = 2_000_000.0
WINDOW_S = 30.0
ASSOCIATIONS = 4
#: Frames of 512 by 512 pixels of 16 bits, or of 128 by 128 for none, in the order of sending.
_FRAMES = (0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 20, 0, 1, 0, 1, 0, 0, 6, 0, 0)


def worst_error_of_cap(folder: Path, seconds: float = 40.0) -> float:
    """Send for so long; return the worst relative error over any 30 s."""
    return worst_error(_send(_mixed_files(folder), seconds), CAP_BYTES_PER_S, WINDOW_S)


def _mixed_files(folder: Path) -> list[InstanceFile]:
    study, series = make_uid("cap", "study"), make_uid("cap", "series")
    files = []
    for number, frames in enumerate(_FRAMES):
        side = 512 if frames else 128
        path = folder / f"{number:02}.dcm"
        uid = make_uid("cap", number)
        make_instance(path, study, series, uid, rows=side, columns=side, frames=frames or 1)
        stat = path.stat()
        fingerprint = Fingerprint(stat.st_size, stat.st_mtime_ns, stat.st_ino)
        files.append(InstanceFile(InstanceEntry(path.name, fingerprint), path, scan(path)))
    return files


def _send(files: list[InstanceFile], seconds: float) -> list[Arrival]:
    """Send the files over and over; return what came while every association sent."""
    kinds = {file.header.kind for file in files if file.header is not None}
    turns, lock = itertools.cycle(files), threading.Lock()
    with SimulatedPacs() as pacs, RecordingProxy(pacs.port) as proxy:
        section = DimseDestinationSection(
            host="127.0.0.1",
            port=proxy.port,
            called_ae_title=pacs.ae_title,
            max_associations=ASSOCIATIONS,
        )
        bandwidth = Bandwidth(RateTable(), SystemClock(), time.sleep)
        pacing = bandwidth.pacing(section.address, RateTable(CAP_BYTES_PER_S))
        destination = DimseDestination(section, SystemClock(), pacing)
        origin = Origin(RunId("cap"), str(files[0].path.parent))
        ends = time.monotonic() + seconds

        def send() -> float:
            with destination.open(sorted(kinds), origin) as delivery:
                while time.monotonic() < ends:
                    with lock:
                        file = next(turns)
                    delivery.put(file)
            return time.monotonic()

        with ThreadPoolExecutor(ASSOCIATIONS) as pool:
            senders = [pool.submit(send) for _ in range(ASSOCIATIONS)]
            first_end = min(sender.result() for sender in senders)
        return [arrival for arrival in proxy.arrivals() if arrival.at_s < first_end]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.delivery_figures.cap", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="how long to send (> 30)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        error = worst_error_of_cap(Path(folder), options.seconds)
    print(
        f"cap {CAP_BYTES_PER_S / 1e6:g} MB/s, {ASSOCIATIONS} associations, mixed sizes:"
        f" worst error over any {WINDOW_S:g} s: {error:.2%} (must be within 5 %)"
    )


if __name__ == "__main__":
    main()
