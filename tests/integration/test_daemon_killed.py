"""kill -9 of the daemon at any moment: work resumes, nothing is sent twice needlessly."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
#: Jobs of a destination at once.
AT_ONCE = 2

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


class Studies(dict[str, str]):
    """A folder of studies: the Study Instance UID by the SOP Instance UID of each instance."""

    def __init__(self, folder: Path, studies: int, instances: int) -> None:
        super().__init__()
        self.folder = folder
        for number in range(studies):
            place, key = folder / str(number), f"{folder.name}-{number}"
            for one in make_study(place, key=key, instances=instances, rows=128):
                self[one.sop_instance_uid] = one.study_instance_uid


@dataclass(frozen=True, slots=True)
class Sources:
    """What is backed up: much that has time, little that has none, and one study elsewhere."""

    low: Studies
    urgent: Studies
    beside: Studies


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = tmp_path_factory.mktemp("daemon")
    return Sources(
        Studies(folder / "low", STUDIES, PER_STUDY),
        Studies(folder / "urgent", 3, EACH),
        Studies(folder / "beside", 1, 1),
    )


_CONFIGURATION = """
[retry]
wait_s = 0
[destinations.there]
address = "{address}"
[destinations.aside]
address = "{aside}"
[plans.low]
sources = ["{folder}/low"]
destinations = ["there"]
priority = "low"
[plans.urgent]
sources = ["{folder}/urgent"]
destinations = ["there"]
priority = "urgent"
[plans.beside]
sources = ["{folder}/beside"]
destinations = ["aside"]
[schedules.kept]
plan = "beside"
every = "7h"
[schedules.off]
plan = "beside"
every = "9h"
"""


class Campaign:
    """A daemon that is killed again and again at work, and what must be as it was after each."""

    def __init__(
        self, start: StartDcmvault, witness: Witness, home: Path, sources: Sources, seed: int
    ) -> None:
        self._start = start
        self._witness = witness
        self._sources = sources
        self.seed = seed
        self._chance = random.Random(seed)
        self.kills = 0
        #: Seconds from each start until something was sent.
        self.resumed_s: list[float] = []
        #: Whether a destination is paused, as somebody said last.
        self._paused = {"aside": False, "there": False}
        #: How much was sent when the urgent jobs were seen to wait.
        self._urgent_since: int | None = None
        (home / "config.toml").write_text(
            _CONFIGURATION.format(
                address=witness.address, folder=sources.low.folder.parent, aside=home / "aside"
            )
        )
        self.daemon = DaemonProcess(start)
        self.daemon.post("/api/plans/beside/runs")
        self.daemon.wait_for("/api/runs/latest", lambda answer: answer["run"]["finished_at"])
        self.daemon.post("/api/schedules/off/disable")
        told = self.daemon.wait_for(
            "/api/schedules", lambda answer: all(one["next_at"] for one in answer["schedules"])
        )
        self._schedules = told["schedules"]
        self.daemon.post("/api/plans/low/runs")

    def kill_at(self, moment: int) -> None:
        """Kill when so many instances came, or all has ended before; look what became of it."""
        while len(self._witness.received()) < moment and not self._all_ended():
            time.sleep(0.01)
        self._steer()
        self.daemon.kill()
        self.kills += 1
        if self._chance.random() < 0.2:
            self._kill_a_start()
        before = len(self._witness.received())
        began = time.monotonic()
        self.daemon = DaemonProcess(self._start, token=self.daemon.token)
        assert self.daemon.told["working"]
        self._look_at_what_was_kept(before)
        if self._paused["there"]:
            self._pause("there", is_paused=False)
            began = time.monotonic()
        while len(self._witness.received()) == before:
            if self._all_ended():
                return
            time.sleep(0.01)
        self.resumed_s.append(time.monotonic() - began)

    def begin_urgent(self) -> None:
        """Ask for what has no time, and wait until its jobs are in the queue."""
        self.daemon.post("/api/plans/urgent/runs")
        self.daemon.wait_for("/api/queue", lambda answer: "urgent" in _priorities(answer))
        self._urgent_since = len(self._witness.received())

    def end(self) -> None:
        """Let all end; nothing is lost, nothing was sent twice but what was in flight."""
        self._pause("aside", is_paused=False)
        runs = self.daemon.wait_for(
            "/api/runs", lambda answer: all(run["finished_at"] for run in answer["runs"])
        )["runs"]
        assert [run["state"] for run in runs] == ["finished"] * 3
        for run in runs:
            summary = self.daemon.get(f"/api/runs/{run['run']}")["summary"]
            assert summary["exit_status"] == 0, summary
        self.daemon.stop()
        received = Counter(self._witness.received())
        assert received.keys() == self._sources.low.keys() | self._sources.urgent.keys()
        twice = sum(received.values()) - len(received)
        assert twice <= self.kills * IN_FLIGHT, self.seed
        self._look_at_the_order()
        print(
            f"{self.kills} kills, {twice} instances sent twice; work went on after"
            f" {statistics.median(self.resumed_s):.1f} s, {max(self.resumed_s):.1f} s at most"
        )

    def _all_ended(self) -> bool:
        return all(run["finished_at"] for run in self.daemon.get("/api/runs")["runs"])

    def _steer(self) -> None:
        """Have the last word about a destination right before the end."""
        chance = self._chance.random()
        if chance < 0.5:
            self._pause("aside", is_paused=not self._paused["aside"])
        elif chance < 0.7:
            self._pause("there", is_paused=True)

    def _pause(self, destination: str, *, is_paused: bool) -> None:
        word = "pause" if is_paused else "resume"
        self.daemon.post(f"/api/queue/{word}", {"destination": destination})
        self._paused[destination] = is_paused

    def _kill_a_start(self) -> None:
        """Kill one that is starting, at any moment of that."""
        process = self._start("serve", "--web-port", "0", "--json")
        time.sleep(self._chance.random() * 3)
        process.kill()
        process.communicate()
        self.kills += 1

    def _look_at_what_was_kept(self, before: int) -> None:
        assert self.daemon.get("/api/schedules")["schedules"] == self._schedules, self.seed
        answer = self.daemon.get("/api/queue")
        paused = {
            "there" if one["destination"].startswith("dicom:") else "aside": one["paused"]
            for one in answer["queues"]
        }
        assert paused == self._paused
        order = [["urgent", "low"].index(word) for word in _priorities(answer)]
        assert order == sorted(order), self.seed
        if self._paused["there"]:
            # Long enough for whoever looks at the queue.
            time.sleep(1.5)
            assert len(self._witness.received()) == before, self.seed

    def _look_at_the_order(self) -> None:
        """Only what was at work when the urgent jobs came went on before the last of them."""
        received, low, urgent = self._witness.received(), self._sources.low, self._sources.urgent
        begun: dict[str, int] = {}
        for number, uid in enumerate(received):
            if uid in urgent:
                begun.setdefault(urgent[uid], number)
        before_the_last = received[self._urgent_since : max(begun.values())]
        overtaken = {low[uid] for uid in before_the_last if uid in low}
        assert len(overtaken) <= AT_ONCE, self.seed


def _priorities(answer: Any) -> list[str]:
    return [job["priority"] for job in answer["jobs"]]


def _killed_again_and_again(campaign: Campaign, kills: int) -> None:
    chance = random.Random(campaign.seed)
    urgent = chance.randrange(kills // 2)
    for number, moment in enumerate(sorted(chance.randrange(INSTANCES) for _ in range(kills))):
        if number == urgent:
            campaign.begin_urgent()
        campaign.kill_at(moment)
    campaign.end()


def test_ten_kills(
    start_dcmvault: StartDcmvault,
    start_orthanc: StartOrthanc,
    home: Path,
    tmp_path: Path,
    sources: Sources,
) -> None:
    witness = Witness(start_orthanc, tmp_path)
    campaign = Campaign(start_dcmvault, witness, home, sources, seed=7)
    _killed_again_and_again(campaign, kills=10)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_kills(
    start_dcmvault: StartDcmvault,
    start_orthanc: StartOrthanc,
    home: Path,
    tmp_path: Path,
    sources: Sources,
    seed: int,
) -> None:
    witness = Witness(start_orthanc, tmp_path)
    campaign = Campaign(start_dcmvault, witness, home, sources, seed=100 + seed)
    _killed_again_and_again(campaign, kills=10)


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
