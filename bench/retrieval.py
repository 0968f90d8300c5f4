"""The figures of retrieval from a PACS, beside DCMTK: `python -m bench.retrieval`.

600 CT slices of half a megabyte lie in an Orthanc. They are fetched by our C-GET, C-MOVE and
WADO-RS, and by DCMTK's getscu and movescu, as these are shipped and with TCP_NODELAY=1, which
Orthanc has in any case. A peer's time is its whole process; ours is that of reading all entries,
checks of what comes included; how long it took to list them is told, too. Medians count. Exits with
status 2, and the line that installs them, where a peer is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.delivery_figures import files
from bench.delivery_figures.contenders import versions
from scripts.peer_launch import free_port
from scripts.peer_processes import Orthanc, orthanc

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.peer_sections import DicomwebSourceSection, DimseSourceSection
from dcmvault.model.instance import InstanceFile
from dcmvault.ports.source import Source
from dcmvault.sources.dicomweb import DicomwebSource
from dcmvault.sources.query_retrieve import QueryRetrieveSource

_SLICES = 600
_ASKED = 2.0
_TUNED = {"TCP_NODELAY": "1"}
_MOVER = "MOVER"


def main() -> None:
    """Measure, print, and exit with status 1 where the figure is not reached."""
    parser = argparse.ArgumentParser(prog="python -m bench.retrieval", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of all but DCMTK as shipped")
    options = parser.parse_args()
    _require_peers()
    print(f"{versions()}; Orthanc has TCP_NODELAY=1")
    port = free_port()
    modalities = {"bench": [_MOVER, "127.0.0.1", port]}
    with (
        tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as work,
        orthanc(DicomModalities=modalities) as peer,
    ):
        folder = files.ct_slices(Path(work, "CT"), _SLICES)
        size = files.size_of(folder)
        _fill(peer, folder)
        print(f"{_SLICES} CT slices, {size / 1e6:.0f} MB")
        place = Path(work, "fetched")
        shipped = _median(1, lambda: _getscu(peer, place, {}))
        movescu = _median(1, lambda: _movescu(peer, place, port, {}))
        tuned = _median(options.runs, lambda: _getscu(peer, place, _TUNED))
        listing, ours = _ours(peer, options.runs, retrieve="get")
        _listing, by_move = _ours(peer, options.runs, retrieve="move", move_port=port)
        web_listing, by_web = _median_of(options.runs, lambda: _web(peer))
    rows = (
        ("getscu as shipped", shipped),
        ("movescu as shipped", movescu),
        ("getscu with TCP_NODELAY=1", tuned),
        ("ours, C-GET", ours),
        ("ours, C-MOVE", by_move),
        ("ours, WADO-RS", by_web),
    )
    for name, seconds in rows:
        print(f"{name:<28} {seconds:8.2f} s {size / seconds / 1e6:8.0f} MB/s")
    print(f"{'ours, listing before':<28} {listing:8.2f} s")
    print(f"{'ours, QIDO-RS before':<28} {web_listing:8.2f} s")
    print(f"beside getscu with TCP_NODELAY=1: {tuned / ours:.2f} x (told, not asked)")
    ratio = min(shipped, movescu) / ours
    web_ratio = min(shipped, movescu) / by_web
    web_verdict = "REACHED" if web_ratio >= _ASKED else "NOT REACHED"
    print(f"WADO-RS beside DCMTK as shipped: {web_ratio:.1f} x, asked {_ASKED:g} x: {web_verdict}")
    verdict = "REACHED" if ratio >= _ASKED else "NOT REACHED"
    print(f"retrieval beside DCMTK as shipped: {ratio:.1f} x, asked {_ASKED:g} x: {verdict}")
    sys.exit(0 if ratio >= _ASKED else 1)


def _require_peers() -> None:
    programs = ("dcmsend", "getscu", "movescu", "Orthanc")
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        print(f"Not installed: {', '.join(missing)}. On Debian and Ubuntu:", file=sys.stderr)
        print("    sudo apt-get install -y dcmtk orthanc", file=sys.stderr)
        raise SystemExit(2)


def _fill(peer: Orthanc, folder: Path) -> None:
    where = (peer.host, str(peer.dicom_port), "+sd", str(folder))
    _run(("dcmsend", "-aec", peer.ae_title, *where), _TUNED)
    if peer.statistics()["CountInstances"] != _SLICES:
        raise SystemExit("Orthanc did not take all slices")


def _median(runs: int, fetch: Callable[[], float]) -> float:
    return statistics.median(fetch() for _run in range(runs))


def _study(peer: Orthanc) -> str:
    (study,) = peer.rest("/studies?expand")
    return str(study["MainDicomTags"]["StudyInstanceUID"])


def _getscu(peer: Orthanc, place: Path, environment: dict[str, str]) -> float:
    return _dcmtk(("getscu",), peer, place, environment)


def _movescu(peer: Orthanc, place: Path, port: int, environment: dict[str, str]) -> float:
    command = ("movescu", "-aet", _MOVER, "-aem", _MOVER, "+P", str(port))
    return _dcmtk(command, peer, place, environment)


def _dcmtk(
    command: tuple[str, ...], peer: Orthanc, place: Path, environment: dict[str, str]
) -> float:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={_study(peer)}")
    where = ("-aec", peer.ae_title, peer.host, str(peer.dicom_port), "-S")
    began = time.perf_counter()
    _run((*command, *where, *keys, "-od", str(place)), environment)
    took = time.perf_counter() - began
    if len(list(place.iterdir())) != _SLICES:
        raise SystemExit(f"{command[0]} did not fetch all slices")
    return took


def _run(command: tuple[str, ...], environment: dict[str, str]) -> None:
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def _ours(peer: Orthanc, runs: int, **options: object) -> tuple[float, float]:
    """Return the median seconds of listing everything, and of fetching it."""
    section = DimseSourceSection.model_validate(
        {
            "host": peer.host,
            "port": peer.dicom_port,
            "called_ae_title": peer.ae_title,
            "calling_ae_title": _MOVER,
            "move_host": peer.host,
            **options,
        }
    )
    return _median_of(runs, lambda: QueryRetrieveSource(section))


def _web(peer: Orthanc) -> DicomwebSource:
    section = DicomwebSourceSection(url=f"{peer.http_url}/dicom-web")
    return DicomwebSource(section, SystemClock())


def _median_of(runs: int, make: Callable[[], Source]) -> tuple[float, float]:
    listing, fetching = [], []
    for _run_number in range(runs):
        source = make()
        began = time.perf_counter()
        entries = [one for study in source.studies() for one in source.entries(study)]
        listed = time.perf_counter()
        came = sum(isinstance(answer, InstanceFile) for answer in source.read(entries))
        ended = time.perf_counter()
        if came != _SLICES:
            raise SystemExit(f"{came} of {_SLICES} slices came")
        listing.append(listed - began)
        fetching.append(ended - listed)
    return statistics.median(listing), statistics.median(fetching)


if __name__ == "__main__":
    main()
