"""Instances on the wire under a limit: every byte counted, evenly, at every destination."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from bench.delivery_figures.cap import worst_error_of_cap
from scripts.peer_processes import DicomPeer
from tests.conftest import RunDcmvault
from tests.integration.dimse_story import file_of, kinds_of, sop_uids, study_files

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.model.bandwidth import RateTable
from dcmvault.model.identifiers import RunId
from dcmvault.model.instance import InstanceFile
from dcmvault.model.job import Priority
from dcmvault.model.snapshot import Origin
from dcmvault.pipeline.bandwidth import Bandwidth
from dcmvault.ports.pacing import Pacing
from dcmvault.testing.clock import FakeClock, SharedTime
from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.testing.peers import SimulatedPacs
from dcmvault.testing.recording_proxy import RecordingProxy

pytestmark = pytest.mark.peers

ORIGIN = Origin(RunId("20260131-020000-00000001"), "/data/images", Priority.URGENT)


class CountingPacing:
    """Lets bytes pass after a while, and remembers them and whose they were."""

    piece = 20_000

    def __init__(self, wait_s: float = 0.0) -> None:
        self.taken: list[int] = []
        self.priorities: list[Priority] = []
        self._wait_s = wait_s

    def pacer(self, priority: Priority) -> CountingPacing:
        self.priorities.append(priority)
        return self

    def joint_pacer(self) -> CountingPacing:
        return self

    def at_work(self, priority: Priority) -> AbstractContextManager[None]:
        self.priorities.append(priority)
        return nullcontext()

    def take(self, size: int) -> None:
        time.sleep(self._wait_s)
        self.taken.append(size)


def destination_behind(
    port: int, pacing: Pacing, called: str = "SIMULATED", dimse_timeout_s: float = 10
) -> DimseDestination:
    section = DimseDestinationSection(
        host="127.0.0.1", port=port, called_ae_title=called, dimse_timeout_s=dimse_timeout_s
    )
    return DimseDestination(section, FakeClock(), pacing)


def large_file(folder: Path, mebibytes: int) -> InstanceFile:
    path, uid = folder / "large.dcm", make_uid(folder, "large")
    make_instance(path, make_uid(1), make_uid(2), uid, rows=512, columns=512, frames=2 * mebibytes)
    return file_of(path)


def test_every_byte_but_the_negotiation_waits_for_its_turn(
    storescp: DicomPeer, tmp_path: Path
) -> None:
    files = [*study_files(tmp_path / "study", 3), large_file(tmp_path, 1)]
    pacing = CountingPacing()
    with RecordingProxy(storescp.port) as proxy:
        destination = destination_behind(proxy.port, pacing, storescp.ae_title)
        with destination.open(kinds_of(files), ORIGIN) as delivery:
            negotiated = sum(arrival.size for arrival in proxy.arrivals())
            for file in files:
                delivery.put(file)
            sent = sum(arrival.size for arrival in proxy.arrivals())
    assert sum(pacing.taken) == sent - negotiated
    # A piece with the headers of its PDUs, and of the command that goes with the first.
    assert max(pacing.taken) < pacing.piece + 1000
    assert pacing.priorities == [Priority.URGENT]
    assert len(list(storescp.storage.iterdir())) == len(files)


def test_waits_for_a_turn_are_not_taken_for_a_slow_peer(tmp_path: Path) -> None:
    file = large_file(tmp_path, 1)
    pacing = CountingPacing(wait_s=0.04)
    with SimulatedPacs() as pacs:
        destination = destination_behind(pacs.port, pacing, dimse_timeout_s=0.5)
        with destination.open(kinds_of([file]), ORIGIN) as delivery:
            delivery.put(file)
        assert pacs.held() == frozenset(sop_uids([file]))
    # In all many times what the peer may take for an answer.
    assert len(pacing.taken) * 0.04 > 2 * 0.5


def test_four_deliveries_of_mixed_sizes_use_all_of_a_limit_and_no_more(tmp_path: Path) -> None:
    """By a clock that goes on only when every sender waits for its turn."""
    clock = SharedTime(4)
    bandwidth = Bandwidth(RateTable(), clock, clock.sleep)
    pacing = bandwidth.pacing("pacs", RateTable(2e6))
    assert pacing is not None
    loads = [
        [large_file(tmp_path / "a", 6)],
        [large_file(tmp_path / "b", 2), *study_files(tmp_path / "b", 40, rows=128, columns=128)],
        study_files(tmp_path / "c", 12, rows=512, columns=512),
        study_files(tmp_path / "d", 160, rows=128, columns=128),
    ]
    with SimulatedPacs() as pacs, RecordingProxy(pacs.port, clock.monotonic) as proxy:
        destination = destination_behind(proxy.port, pacing)
        opened = threading.Barrier(4)

        def send(files: list[InstanceFile]) -> None:
            try:
                with destination.open(kinds_of(files), ORIGIN) as delivery:
                    opened.wait(30)
                    for file in files:
                        delivery.put(file)
            finally:
                clock.leave()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(send, loads))
        arrived = sum(arrival.size for arrival in proxy.arrivals())
        assert pacs.held() == {uid for files in loads for uid in sop_uids(files)}
    assert arrived / clock.monotonic() == pytest.approx(2e6, rel=0.03)


@pytest.mark.nightly
def test_a_cap_holds_within_5_percent_over_any_30_seconds(tmp_path: Path) -> None:
    assert worst_error_of_cap(tmp_path) <= 0.05


CONFIGURATION = """\
[bandwidth]
rate = "unlimited"

[destinations.there]
address = "{address}"
passphrase = "env:SECRET"

[destinations.there.bandwidth]
rate = "10 MB/s"
windows = [{{from = "00:00", to = "24:00", rate = "{rate} kB/s"}}]
"""


@pytest.mark.parametrize(("kind", "rate"), [("folder", 100), ("pacs", 100), ("vault", 30)])
def test_a_backup_keeps_the_limit_of_its_destination(
    kind: str, rate: int, run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    study_files(tmp_path / "study", 6, rows=160, columns=160)
    config = home / "config.toml"
    with SimulatedPacs() as pacs:
        address = {
            "folder": str(tmp_path / "copies"),
            "pacs": f"dicom://SIMULATED@127.0.0.1:{pacs.port}",
            "vault": f"vault:{tmp_path / 'vault'}",
        }[kind]
        env = {"SECRET": "open sesame", "DCMVAULT_PASSPHRASE": "open sesame"}
        if kind == "vault":
            made = run_dcmvault("vault", "init", address, env=env)
            assert made.returncode == 0, made.stderr
        text = CONFIGURATION.format(address=address, rate=rate)
        if kind != "vault":
            text = text.replace('passphrase = "env:SECRET"\n', "")
        config.write_text(text, "utf-8")
        done = run_dcmvault("backup", tmp_path / "study", "--to", "there", "--json", env=env)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["instances"]["stored"] == 6
    needed_s = summary["bytes"]["transferred"] / (rate * 1000)
    spent_s = summary["stages"]["deliver"] + summary["stages"].get("snapshot", 0)
    # A limit has no upper end that a busy machine could not miss; it has a lower one.
    assert spent_s >= needed_s - 0.5
    assert needed_s > 1.5
