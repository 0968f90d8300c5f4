"""kill -9 of the daemon at any moment: work resumes, nothing is sent twice needlessly."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import StartDcmvault, StartOrthanc
from tests.integration.daemon_world import DaemonProcess, configure

from dcmvault.testing.dicom_files import make_study

pytestmark = pytest.mark.peers

STUDIES, PER_STUDY = 6, 100
INSTANCES = STUDIES * PER_STUDY
#: Instances in flight at once at most: jobs of a destination times what a batch may hold back.
IN_FLIGHT = 4

#: Instances of a job that travels alone.
EACH = 60

#: Orthanc writes down each C-STORE, also of what it has already.
_WITNESS = """
function ReceivedInstanceFilter(dicom, origin, info)
  local log = io.open("%s", "a")
  log:write(dicom.SOPInstanceUID .. "\\n")
  log:close()
  return true
end
"""


class Witness:
    """An Orthanc that notes what it is sent."""

    def __init__(self, start: StartOrthanc, folder: Path) -> None:
        self._log = folder / "received.log"
        self._log.touch()
        script = folder / "witness.lua"
        script.write_text(_WITNESS % self._log)
        self.orthanc: Orthanc = start(LuaScripts=[str(script)])
        self.address = f"dicom://ORTHANC@127.0.0.1:{self.orthanc.port}"

    def received(self) -> list[str]:
        """Return the SOP Instance UIDs of all C-STOREs so far, in order."""
        return self._log.read_text().split()


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("daemon") / "studies"
    for number in range(STUDIES):
        make_study(folder / str(number), key=f"daemon-{number}", instances=PER_STUDY, rows=128)
    return folder


def _kill_at(daemon: DaemonProcess, witness: Witness, moment: int) -> None:
    """Kill when so many instances came, or when the run ended before."""
    while len(witness.received()) < moment:
        if daemon.get("/api/runs?limit=1")["runs"][0]["finished_at"]:
            break
        time.sleep(0.01)
    daemon.kill()


def _killed_again_and_again(
    start: StartDcmvault, witness: Witness, home: Path, studies: Path, kills: int, seed: int
) -> None:
    chance = random.Random(seed)
    configure(home, destination=witness.address, plans={"all": (studies, "normal")})
    daemon = DaemonProcess(start)
    (started,) = daemon.post("/api/plans/all/runs")["runs"]
    run = f"/api/runs/{started['run']}"
    pauses: list[float] = []
    twice: list[int] = []
    for moment in sorted(chance.randrange(INSTANCES) for _ in range(kills)):
        _kill_at(daemon, witness, moment)
        before = len(witness.received())
        daemon = DaemonProcess(start, token=daemon.token)
        back = time.monotonic()
        assert daemon.told["working"]
        while len(witness.received()) == before and not daemon.get(run)["run"]["finished_at"]:
            time.sleep(0.01)
        pauses.append(time.monotonic() - back)
        twice.append(len(witness.received()) - len(set(witness.received())))
    ended = daemon.wait_for(run, lambda answer: answer["run"]["finished_at"])
    assert (ended["run"]["state"], ended["summary"]["exit_status"]) == ("finished", 0)
    received = Counter(witness.received())
    assert len(received) == INSTANCES
    assert sum(received.values()) - INSTANCES <= kills * IN_FLIGHT, (seed, twice)
    print(f"work resumed {max(pauses):.1f} s after the daemon said that it runs, at the latest")
    daemon.stop()


def test_ten_kills(
    start_dcmvault: StartDcmvault,
    start_orthanc: StartOrthanc,
    home: Path,
    tmp_path: Path,
    studies: Path,
) -> None:
    witness = Witness(start_orthanc, tmp_path)
    _killed_again_and_again(start_dcmvault, witness, home, studies, kills=10, seed=7)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_kills(
    start_dcmvault: StartDcmvault,
    start_orthanc: StartOrthanc,
    home: Path,
    tmp_path: Path,
    studies: Path,
    seed: int,
) -> None:
    witness = Witness(start_orthanc, tmp_path)
    _killed_again_and_again(start_dcmvault, witness, home, studies, kills=10, seed=100 + seed)


def test_a_pause_survives_and_priorities_hold(
    start_dcmvault: StartDcmvault, start_orthanc: StartOrthanc, home: Path, tmp_path: Path
) -> None:
    """Three jobs each, two at a time: the third urgent one is before all others, too."""
    witness = Witness(start_orthanc, tmp_path)
    plans, uids = {}, {}
    for name, priority in (("first", "low"), ("later", "low"), ("sooner", "urgent")):
        made = [
            one
            for number in range(3)
            for one in make_study(
                tmp_path / name / str(number), key=f"{name}-{number}", instances=EACH
            )
        ]
        uids[name] = {one.sop_instance_uid for one in made}
        plans[name] = (tmp_path / name, priority)
    configure(home, destination=witness.address, plans=plans)
    daemon = DaemonProcess(start_dcmvault)
    daemon.post("/api/plans/first/runs")
    daemon.wait_for("/api/runs/latest", lambda answer: answer["run"]["finished_at"])
    assert set(witness.received()) == uids["first"]
    daemon.post("/api/queue/pause", {"destination": "there"})
    daemon.post("/api/plans/later/runs")
    daemon.wait_for("/api/queue", lambda answer: len(answer["jobs"]) == 3)
    daemon.post("/api/plans/sooner/runs")
    daemon.wait_for("/api/queue", lambda answer: answer["queues"][0]["waiting"] == 6)
    daemon.kill()

    daemon = DaemonProcess(start_dcmvault, token=daemon.token)
    assert daemon.get("/api/queue")["queues"][0]["paused"]
    jobs = daemon.get("/api/queue")["jobs"]
    assert [job["priority"] for job in jobs] == ["urgent"] * 3 + ["low"] * 3
    assert set(witness.received()) == uids["first"]
    daemon.post("/api/queue/resume", {"destination": "there"})
    daemon.wait_for("/api/runs", lambda answer: all(run["finished_at"] for run in answer["runs"]))
    received = witness.received()
    assert len(received) == 9 * EACH
    first_low = next(number for number, uid in enumerate(received) if uid in uids["later"])
    assert len(uids["sooner"] & set(received[:first_low])) >= 2 * EACH
    daemon.stop()
