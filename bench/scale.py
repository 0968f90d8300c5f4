"""What ten million instances and several hosts cost: `python -m bench.scale [--only plan]`.

`plan`: a catalogue that knows 10,000,000 files in 100,000 studies, all of them held at three
destinations (two vaults and a PACS), plans a run over a source that is as it was: every file is
listed and compared, and every destination is asked what is due and what it holds. On SQLite and on
PostgreSQL (started here, on loopback). The source is made up: walking folders is measured by
`bench.planning`. `study`: a folder with one study of 100,000 instances is backed up to a vault, as
are its first halves. Each is a process of its own; its wall time and peak memory count.

`hosts`: workers on one PostgreSQL send to two peers that keep nothing and cost little processor
time. What one worker can do is limited by what its host has: a link, and a core, of which its one
process uses little more than one. Hosts that share this machine's cores would have no more of them
for being two, so each gets a network namespace with a link of 100 Mbit/s, or 0.4 of a core: of
these two have twice as much, and what is lost of that is what working together costs. (How many
associations a peer takes is a limit of the peer, which is shared.) Counted is from the begin of the
first job to the end of the last, for a plan is made by one worker; the whole run stands beside it.
`takeover`:
a worker is killed in each of some runs, and a host cut off; the seconds until others have begun all
that it had begun, and what peers got twice though the catalogue knew that they had it. Both need
root.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.scale_figures.filling import fill
from bench.scale_figures.one_study import make_study
from bench.vault_figures.children import Measured, run
from bench.vault_figures.table import Row, megabytes, print_table
from scripts.peer_processes import postgresql

from dcmvault.catalogue import open_catalogue

_INSTANCES, _STUDY = 10_000_000, 100_000
_PLAN_S, _PLAN_MB, _STUDY_MB = 180, 600, 400
#: What twice as many instances may take in time, beside twice the time.
_LINEAR = 1.15
_DATABASES = ("sqlite", "postgresql")
_DCMVAULT = Path(sys.executable).with_name("dcmvault")


def _plan(work: Path, database: str, instances: int) -> Iterator[Row]:
    with ExitStack() as stack:
        if database == "postgresql":
            url = stack.enter_context(postgresql()).url()
        else:
            url = str(work / f"{instances}.sqlite3")
        catalogue = open_catalogue(url)
        if not catalogue.status.counts()["instances"]:
            fill(catalogue, instances)
        catalogue.close()
        command = [sys.executable, "-m", "bench.scale_figures.planning", url, str(instances)]
        measured = run(command, {})
    told = json.loads(measured.output)
    steps = ", ".join(f"{what} {seconds:.0f}" for what, seconds in told["seconds"].items())
    what = f"{instances:,} unchanged planned, {database}"
    # A part of the ten million may take its part of the time.
    asked = _PLAN_S * instances / _INSTANCES
    yield Row(f"{what}, s", steps, "", sum(told["seconds"].values()), asked, " s")
    peak = told["peak_bytes"]
    yield Row(f"{what}, peak memory", megabytes(peak), "", peak / 1e6, _PLAN_MB, " MB")


def _study(work: Path, instances: int) -> Iterator[Row]:
    taken: dict[int, Measured] = {}
    for number in (instances // 4, instances // 2, instances):
        folder = work / f"study-{number}"
        if not folder.exists():
            make_study(folder, number)
        taken[number] = _back_up(work / f"state-{number}", folder)
    whole, half = taken[instances], taken[instances // 2]
    told = ", ".join(f"{one.wall_s:.0f} s" for one in taken.values())
    yield Row(
        f"one study, {instances:,} instances, peak memory",
        ", ".join(f"{one.peak_bytes / 1e6:.0f}" for one in taken.values()),
        "",
        whole.peak_bytes / 1e6,
        _STUDY_MB,
        " MB",
    )
    yield Row(
        "time of all beside twice that of half", told, "", whole.cpu_s / half.cpu_s / 2, _LINEAR
    )


def _back_up(state: Path, folder: Path) -> Measured:
    vault = f"vault:{state / 'vault'}"
    environment = {
        "DCMVAULT_HOME": str(state / "home"),
        "DCMVAULT_PASSPHRASE": "bench",
        "DCMVAULT_LANG": "en",
    }
    run([_DCMVAULT, "vault", "init", vault], environment)
    command: list[str | Path] = [_DCMVAULT, "backup", folder, "--to", vault, "--progress", "none"]
    return run(command, environment, watch_memory=True)


def _hosts(what: str) -> Iterator[Row]:
    command = ["unshare", "--net", sys.executable, "-m", "bench.scale_figures.hosts", what]
    for row in json.loads(run(command, {}).output):
        yield Row(**row)


def main() -> int:
    """Measure, and say what was asked and reached; 1 where something was not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("plan", "study", "hosts", "takeover"))
    parser.add_argument("--database", choices=_DATABASES, help="one of them")
    parser.add_argument("--instances", type=int, default=_INSTANCES, help="that are planned")
    parser.add_argument("--study", type=int, default=_STUDY, help="instances of the large study")
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as folder:
        work = options.keep or Path(folder)
        work.mkdir(exist_ok=True)
        rows: list[Row] = []
        if options.only in (None, "plan"):
            for database in [options.database] if options.database else _DATABASES:
                rows += _plan(work, database, options.instances)
        if options.only in (None, "study"):
            rows += _study(work, options.study)
        if options.only in (None, "hosts"):
            rows += _hosts("throughput")
        if options.only in (None, "takeover"):
            rows += _hosts("takeover")
    print_table(rows)
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
