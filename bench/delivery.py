"""The figures of delivery by DIMSE, beside DCMTK and pynetdicom: `python -m bench.delivery`.

In a network namespace of its own, whose loopback has the MTU of an Ethernet (a larger one adds
waits that no network has), so it needs root. Senders take turns; medians count. A peer's own time
is its whole process; ours is from the first connection to the last release, for a service does not
start anew for each study. Orthanc begins empty each time: it ignores what it has. Needs dcmsend
and Orthanc; exits with status 2, and the line that installs them, where one is missing.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.delivery_figures import files
from bench.delivery_figures.cap import worst_error_of_cap
from bench.delivery_figures.contenders import (
    Target,
    Took,
    dcmsend,
    helper,
    ours,
    raw_tcp,
    require_peers,
    storescu,
    versions,
)
from scripts.peer_processes import orthanc

_INSIDE = "DCMVAULT_BENCH_NAMESPACE"
_MTU = "1500"
_Send = Callable[[], Took]


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure: how many times a peer's rate ours is, or an amount."""

    what: str
    ours: str
    theirs: str
    value: float
    #: At least; at most where `unit` says that it is an amount.
    asked: float
    unit: str = ""

    def line(self) -> str:
        reached = self.value <= self.asked if self.unit else self.value >= self.asked
        value, asked = (f"{number:.3g}{self.unit or ' x'}" for number in (self.value, self.asked))
        verdict = "reached" if reached else "NOT REACHED"
        return f"{self.what:<52} {self.ours:>24} {self.theirs:>32} {value:>8} {asked:>8}  {verdict}"


@dataclass(frozen=True, slots=True)
class Work:
    """The files, and how often each is sent."""

    folder: Path
    runs: int
    slow_runs: int

    def corpus(self, name: str) -> Path:
        """Return a folder of files, made when it is first asked for."""
        place = self.folder / name
        if not place.exists():
            makers = {"CT": files.ct_slices, "small": files.small_files, "multi": files.multi_frame}
            makers[name](place)
            files.size_of(place)
        return place

    def quarters(self, name: str) -> list[Path]:
        """Return a corpus dealt out into four folders of links."""
        folders = [self.folder / f"{name}-{number}" for number in range(4)]
        if not folders[0].exists():
            for folder in folders:
                folder.mkdir()
            for number, path in enumerate(sorted(self.corpus(name).iterdir())):
                os.link(path, folders[number % 4] / path.name)
        return folders


def discarding(work: Work) -> Iterator[Row]:
    """Into a peer that keeps nothing: what the sender itself can do."""
    with helper("sink") as sink, helper("sink", "--raw") as raw:
        for name in ("CT", "multi"):
            corpus = work.corpus(name)
            mine, fast, plain = _by_turns(
                work.runs,
                partial(ours, sink, corpus, associations=1),
                partial(dcmsend, sink, corpus, tuned=True),
                partial(raw_tcp, raw, corpus),
            )
            yield _row(f"{name}, discarding, 1 association, beside raw TCP", mine, plain, 0.6)
            yield _row(f"{name}, discarding, beside dcmsend, no delay", mine, fast, 1.2)


def as_shipped(work: Work) -> Iterator[Row]:
    """Into Orthanc as Debian ships it, beside dcmsend as it is shipped."""
    for name in ("CT", "small"):
        send = partial(ours, folder=work.corpus(name))
        mine = [_into_orthanc(send, no_delay=False) for _ in range(work.runs)]
        slow = partial(_one_dcmsend, folder=work.corpus(name), tuned=False)
        theirs = [_into_orthanc(slow, no_delay=False) for _ in range(work.slow_runs)]
        yield _row(f"{name}, Orthanc, beside dcmsend, all as shipped", mine, theirs, 15)


def tuned(work: Work) -> Iterator[Row]:
    """Into Orthanc with TCP_NODELAY, beside dcmsend with it: one, and four at once."""
    for name in ("CT", "small"):
        senders: tuple[Callable[[Target], Took], ...] = (
            partial(ours, folder=work.corpus(name)),
            partial(_one_dcmsend, folder=work.corpus(name), tuned=True),
            partial(_four_dcmsend, folders=work.quarters(name)),
        )
        mine, one, four = _by_turns(work.runs, *(partial(_into_orthanc, s) for s in senders))
        yield _row(f"{name}, Orthanc no delay, beside one dcmsend", mine, one, 2)
        yield _row(f"{name}, Orthanc no delay, beside four dcmsend", mine, four, 0.9)
    corpus = work.corpus("CT")
    mine, theirs = _by_turns(
        work.runs,
        partial(_into_orthanc, partial(ours, folder=corpus, associations=1)),
        partial(_into_orthanc, partial(storescu, folder=corpus)),
    )
    yield _row("CT, Orthanc no delay, 1 association, pynetdicom", mine, theirs, 4)


def far_away(work: Work) -> Iterator[Row]:
    """Over a link of 100 Mbit/s with a round trip of 50 ms."""
    rate = 100e6 / 8
    with ExitStack() as stack:
        sink = stack.enter_context(helper("sink"))
        link = stack.enter_context(helper("link", str(sink.port), "--rate", str(rate)))
        corpus = work.corpus("CT")
        size = files.size_of(corpus)
        mine = [ours(link, corpus, most=8) for _ in range(work.slow_runs)]
        share = size / _median(mine) / rate
        yield Row("CT, 50 ms and 100 Mbit/s, share of the link", _said(mine), "", share, 0.9)
        small = work.corpus("small")
        mine = [ours(link, small, most=8) for _ in range(work.slow_runs)]
        theirs = [dcmsend(link, small, tuned=True) for _ in range(1)]
        yield _row("small, 50 ms and 100 Mbit/s, beside dcmsend", mine, theirs, 5)
        for name in ("CT", "small"):
            corpus = work.corpus(name)
            fixed = {n: [ours(link, corpus, associations=n)] for n in range(1, 9)}
            best = min(fixed, key=lambda n: _median(fixed[n]))
            mine = [ours(link, corpus, most=8) for _ in range(work.slow_runs)]
            yield _row(f"{name}, 50 ms, adaptive beside the best ({best})", mine, fixed[best], 0.95)


def memory(work: Work) -> Iterator[Row]:
    """Peak memory with one file of 2 GB."""
    place = work.folder / "giant"
    files.multi_frame(place, 1, 2_000_000_000)
    with helper("sink") as sink:
        took = ours(sink, place, associations=1)
    shutil.rmtree(place)
    peak_mb = took.peak_bytes / 1e6
    yield Row("peak memory, one file of 2 GB", _said([took]), "", peak_mb, 150, " MB")


def cap(work: Work) -> Iterator[Row]:
    """A limit of 2 MB/s over four associations with files of mixed sizes."""
    place = work.folder / "cap"
    place.mkdir()
    error = worst_error_of_cap(place)
    yield Row("cap of 2 MB/s, 4 associations, error in any 30 s", "", "", error * 100, 5, " %")


_FIGURES: Mapping[str, Callable[[Work], Iterator[Row]]] = {
    "discarding": discarding,
    "shipped": as_shipped,
    "tuned": tuned,
    "far": far_away,
    "cap": cap,
    "memory": memory,
}


def _into_orthanc(send: Callable[[Target], Took], *, no_delay: bool = True) -> Took:
    with orthanc(no_delay=no_delay) as peer:
        return send(Target(peer.dicom_port, peer.ae_title))


def _one_dcmsend(target: Target, folder: Path, *, tuned: bool) -> Took:
    return dcmsend(target, folder, tuned=tuned)


def _four_dcmsend(target: Target, folders: Sequence[Path]) -> Took:
    return dcmsend(target, *folders, tuned=True)


def _by_turns(runs: int, *senders: _Send) -> list[list[Took]]:
    taken: list[list[Took]] = [[] for _ in senders]
    for _ in range(runs):
        for send, times in zip(senders, taken, strict=True):
            times.append(send())
    return taken


def _median(taken: Sequence[Took]) -> float:
    return statistics.median(one.wall_s for one in taken)


def _said(taken: Sequence[Took]) -> str:
    number = taken[-1].associations
    return f"{_median(taken):.2f} s" + (f", {number} assoc." if number > 1 else "")


def _row(what: str, mine: Sequence[Took], theirs: Sequence[Took], asked: float) -> Row:
    return Row(
        what, _said(mine), f"{_median(theirs):.2f} s", _median(theirs) / _median(mine), asked
    )


def _enter_namespace() -> None:
    """Start anew in a network namespace, unless this is one already."""
    if os.environ.get(_INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up", "mtu", _MTU], check=True)
        return
    if os.geteuid() != 0:
        print("A network namespace of its own needs root: sudo make bench", file=sys.stderr)
        raise SystemExit(2)
    os.environ[_INSIDE] = "1"
    os.execvp(
        "unshare", ["unshare", "--net", sys.executable, "-m", "bench.delivery", *sys.argv[1:]]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=_FIGURES, action="append", help="may be repeated")
    parser.add_argument("--runs", type=int, default=5, help="repetitions")
    parser.add_argument("--slow-runs", type=int, default=2, help="of what takes minutes")
    options = parser.parse_args()
    require_peers()
    _enter_namespace()
    print(versions())
    print(f"Python {platform.python_version()}, {platform.platform()}")
    with tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as folder:
        work = Work(Path(folder), options.runs, options.slow_runs)
        for name in options.only or _FIGURES:
            print(f"-- {name}", flush=True)
            for row in _FIGURES[name](work):
                print(row.line(), flush=True)


if __name__ == "__main__":
    main()
