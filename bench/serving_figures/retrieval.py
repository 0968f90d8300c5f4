"""A CT fetched from a vault and from Orthanc, by the same receivers in turn."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.delivery_figures import files
from bench.serving_figures.service import PASSPHRASE, serving
from scripts.peer_launch import free_port
from scripts.peer_processes import Orthanc, orthanc

from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.model.instance import InstanceFile
from dcmvault.sources.query_retrieve import QueryRetrieveSource

#: What a study is made of, by its name.
SLICES: Mapping[str, Callable[[Path], Path]] = {
    "real slices": files.real_ct_slices,
    "noise": files.ct_slices,
}
#: Our own receiver, among DCMTK's.
OURS = "our own C-GET"
_TUNED = {"TCP_NODELAY": "1"}
_MOVER = "MOVER"
#: Seconds per run, by where it was fetched from.
Times = Mapping[str, list[float]]
#: Fetches the study from a port and an AE title; returns seconds.
_Fetch = Callable[[int, str], float]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A study in a folder and in a vault."""

    work: Path
    folder: Path
    count: int
    size: int

    @classmethod
    def of(cls, work: Path, make: Callable[[Path], Path]) -> Retrieval:
        """Make the files, and a vault that holds them."""
        folder = make(work / "CT")
        environment = {**os.environ, "DCMVAULT_HOME": str(work / "home"), **PASSPHRASE}
        dcmvault = (sys.executable, "-m", "dcmvault")
        vault = f"vault:{work / 'vault'}"
        _run((*dcmvault, "vault", "init", vault), environment)
        _run((*dcmvault, "backup", str(folder), "--to", vault), environment)
        return cls(work, folder, len(list(folder.iterdir())), files.size_of(folder))


def compared(retrieval: Retrieval, runs: int) -> Iterator[tuple[str, Times]]:
    """Yield for each receiver what it took; each run starts a service of ours anew."""
    port = free_port()
    modalities = {"bench": [_MOVER, "127.0.0.1", port]}
    with ExitStack() as stack:
        tuned = stack.enter_context(orthanc(DicomModalities=modalities))
        shipped = stack.enter_context(orthanc(no_delay=False, DicomModalities=modalities))
        for peer in (tuned, shipped):
            _fill(peer, retrieval)
        (study,) = tuned.rest("/studies?expand")
        uid = str(study["MainDicomTags"]["StudyInstanceUID"])
        for name, fetch in _receivers(retrieval, uid, port).items():
            times: dict[str, list[float]] = {
                "Orthanc, as shipped": [],
                "Orthanc": [],
                "us, the first time": [],
                "us, again": [],
            }
            for _run_number in range(runs):
                times["Orthanc, as shipped"].append(fetch(shipped.dicom_port, shipped.ae_title))
                times["Orthanc"].append(fetch(tuned.dicom_port, tuned.ae_title))
                with _ours(retrieval, port) as (ours, _process):
                    times["us, the first time"].append(fetch(ours, "DCMVAULT"))
                    times["us, again"].append(fetch(ours, "DCMVAULT"))
            yield name, times


def _ours(retrieval: Retrieval, port: int) -> AbstractContextManager[tuple[int, int]]:
    configuration = (
        f'[[serve.peers]]\nae_title = "{_MOVER}"\nnetwork = "127.0.0.1"\n'
        f'move_host = "127.0.0.1"\nmove_port = {port}\n[[serve.peers]]\nnetwork = "127.0.0.1"\n'
    )
    return serving(retrieval.work / "home", retrieval.work / "vault", configuration, tells=False)


def _receivers(retrieval: Retrieval, uid: str, port: int) -> Mapping[str, _Fetch]:
    place = retrieval.work / "fetched"
    keys = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid}")
    move = ("movescu", "-aet", _MOVER, "-aem", _MOVER, "+P", str(port))

    def dcmtk(command: Sequence[str], where: int, title: str) -> float:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        peer = ("-aec", title, "127.0.0.1", str(where))
        began = time.perf_counter()
        _run((*command, *keys, "-od", str(place), *peer), {**os.environ, **_TUNED})
        took = time.perf_counter() - began
        if len(list(place.iterdir())) != retrieval.count:
            raise SystemExit(f"{command[0]} did not fetch all slices")
        return took

    return {
        "getscu": lambda where, title: dcmtk(("getscu",), where, title),
        "movescu": lambda where, title: dcmtk(move, where, title),
        OURS: lambda where, title: _by_us(retrieval.count, where, title),
    }


def _by_us(count: int, where: int, title: str) -> float:
    section = DimseSourceSection.model_validate(
        {
            "host": "127.0.0.1",
            "port": where,
            "called_ae_title": title,
            "calling_ae_title": "BENCH",
            "retrieve": "get",
        }
    )
    source = QueryRetrieveSource(section)
    entries = [one for study in source.studies() for one in source.entries(study)]
    began = time.perf_counter()
    came = sum(isinstance(answer, InstanceFile) for answer in source.read(entries))
    took = time.perf_counter() - began
    if came != count:
        raise SystemExit(f"{came} of {count} slices came")
    return took


def _fill(peer: Orthanc, retrieval: Retrieval) -> None:
    where = (peer.host, str(peer.dicom_port), "+sd", str(retrieval.folder))
    _run(("dcmsend", "-aec", peer.ae_title, *where), {**os.environ, **_TUNED})
    if peer.statistics()["CountInstances"] != retrieval.count:
        raise SystemExit("Orthanc did not take all slices")


def _run(command: tuple[str, ...], environment: Mapping[str, str]) -> None:
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
