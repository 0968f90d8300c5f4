"""What a pass over an Orthanc takes: `python -m bench.orthanc [INSTANCES]`.

A real Orthanc is filled with tiny CT instances (2,000 without an argument, 1,600 in a study).
Timed are whole processes: the first `backup --dry-run`, which lists everything; the backup to a
vault; dry runs for which the log of changes says that nothing is new, and such after that log was
cleared, so that everything is listed; and unchanged backups with the sidecar of instances, of
series, and without one. No value is asked.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench.planning import make_folder
from bench.vault_figures.children import Measured, run
from bench.vault_figures.table import seconds
from scripts.peer_processes import Orthanc, orthanc

_INSTANCES = 2_000
_DCMVAULT = Path(sys.executable).with_name("dcmvault")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class _Mirror:
    """dcmvault with a state folder and a vault of its own, and the Orthanc that it reads."""

    def __init__(self, work: Path, peer: Orthanc) -> None:
        self._peer = peer
        self._home = work / "home"
        self._vault = f"vault:{work / 'vault'}"
        self._environment = {
            "DCMVAULT_HOME": str(self._home),
            "DCMVAULT_PASSPHRASE": "bench",
            "DCMVAULT_LANG": "en",
        }
        self.keep_of("instances")
        run([_DCMVAULT, "vault", "init", self._vault], self._environment)

    def keep_of(self, sidecar: str) -> None:
        """Configure what the sidecar is about."""
        self._home.mkdir(exist_ok=True)
        address = f'address = "orthanc+{self._peer.http_url}"'
        configured = f'[sources.bench]\n{address}\nsidecar = "{sidecar}"\n'
        (self._home / "config.toml").write_text(configured, encoding="utf-8")

    def measure(self, what: str, times: int, *options: str, due: int = 0) -> None:
        """Run a backup some times, and print what it took."""
        before = self._orthanc_cpu_s()
        taken = [self._run(options, due) for _time in range(times)]
        theirs = (self._orthanc_cpu_s() - before) / times
        peak = max(one.peak_bytes for one in taken) / 1e6
        print(f"{what:<44} {seconds(taken):>26} {theirs:>12.2f} cpu {peak:>8.0f} MB", flush=True)

    def _run(self, options: tuple[str, ...], due: int) -> Measured:
        backup = (_DCMVAULT, "backup", "bench", "--to", self._vault)
        measured = run([*backup, "--json", *options], self._environment, watch_memory=True)
        told = json.loads(measured.output)
        selected = (told.get("instances") or told["destinations"][0])["selected"]
        if selected != due:
            raise SystemExit(f"{selected} instances were due, not {due}.")
        return measured

    def _orthanc_cpu_s(self) -> float:
        status = Path(f"/proc/{self._peer.process.pid}/stat").read_text(encoding="ascii")
        user, system = status.rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / _TICKS_PER_S


def main() -> None:
    """Measure and print; exit with status 2 where Orthanc is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.orthanc", description=__doc__)
    parser.add_argument("instances", type=int, nargs="?", default=_INSTANCES)
    parser.add_argument("--runs", type=int, default=3, help="of all that can be done again")
    arguments = parser.parse_args()
    if not shutil.which("Orthanc"):
        print("Orthanc is missing: sudo apt-get install -y orthanc", file=sys.stderr)
        raise SystemExit(2)
    with tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as work, orthanc() as peer:
        make_folder(Path(work, "folder"), arguments.instances)
        for path in sorted(Path(work, "folder").rglob("*.dcm")):
            peer.store(path.read_bytes())
        _measure(_Mirror(Path(work), peer), peer, arguments.instances, arguments.runs)


def _measure(mirror: _Mirror, peer: Orthanc, instances: int, runs: int) -> None:
    held = peer.statistics()
    count, studies = held["CountInstances"], held["CountStudies"]
    print(f"{count:,} instances in {studies} studies of Orthanc {peer.rest('/system')['Version']}")
    print(f"{'':<44} {'least (median), ours':>26} {'Orthanc':>16} {'peak':>11}")
    mirror.measure("first dry run", 1, "--dry-run", due=instances)
    mirror.measure("first backup", 1, due=instances)
    mirror.measure("unchanged by the log, dry run", runs, "--dry-run")
    for sidecar in ("instances", "series", "none"):
        mirror.keep_of(sidecar)
        mirror.measure(f"unchanged by the log, sidecar of {sidecar}", runs)
    peer.rest("/changes", method="DELETE")
    mirror.measure("unchanged, everything listed, dry run", runs, "--dry-run")


if __name__ == "__main__":
    main()
