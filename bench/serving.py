"""The figures of a vault that answers as a PACS: `python -m bench.serving`.

C-FIND: a real vault of 100,000 studies, of one tiny image each, is made through the vault's own
writer, and `dcmvault serve` answers from it in a process of its own. A client of ours asks by name
wildcard, by range of dates and by both, for what a viewer's list of studies shows, and takes the
time of the first answer and of the last. Asked: 95 of 100 queries within 200 ms, first answers
within 100 ms. It is asked as soon as the service says for the very first time that it answers, and
again when it has looked into all studies once; how long that takes is told.

The service keeps what it saw of studies: it is stopped, started again, and asked at once.

C-MOVE and C-GET: 600 CT slices lie in a vault of the default profile and in an Orthanc, once slices
of a real CT (one slice, shifted otherwise in each), once noise, which no vault makes small and
which costs most to decode. The same receivers fetch the study from both, in turn: DCMTK's getscu
and movescu with TCP_NODELAY=1, and our own C-GET. Medians of the whole process count, of ours that
of reading. The first time is that of a service just started, which has to decode all slices; it
keeps them in memory for a while, and again is what the next one who asks waits. Asked: to DCMTK's
receivers, on which OsiriX and Horos are built, the speed of Orthanc as it is shipped. Two harder
comparisons are told beside it: an Orthanc with TCP_NODELAY=1, which Debian's does not have, and our
own receiver, for which no Orthanc stalls. Such an Orthanc sends files as they lie there, as fast
as memory; what is decoded for the first time is bound by libjxl, 130 MB/s and core.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

from bench.delivery_figures.contenders import versions
from bench.serving_figures.many_studies import DAYS, FAMILY_NAMES, make_vault, study_date
from bench.serving_figures.retrieval import OURS, SLICES, Retrieval, compared
from bench.serving_figures.service import serving

from dcmvault.dicom.association import open_association
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.command import encode_identifier
from dcmvault.dicom.file_meta import IMPLICIT_VR_LITTLE_ENDIAN
from dcmvault.dicom.find import FIND_PROPOSAL, STUDY_ROOT_FIND, find_request

_STUDIES = 100_000
_LIST_MS, _FIRST_MS, _RATIO = 200.0, 100.0, 1.0
_QUERIES = 60
#: Of a hundredth of a second each, in one second.
_IDLE_TICKS = 3
#: What a viewer's list of studies asks for; of these only Study ID, the referring physician and
#: the number of instances stand in no list of the vault.
_COLUMNS = (
    (0x0008, 0x0030),
    (0x0008, 0x0050),
    (0x0008, 0x0061),
    (0x0008, 0x0090),
    (0x0008, 0x1030),
    (0x0010, 0x0020),
    (0x0010, 0x0030),
    (0x0020, 0x000D),
    (0x0020, 0x0010),
    (0x0020, 0x1208),
)


def main() -> None:
    """Measure, print, and exit with status 1 where a figure is not reached."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("--studies", type=int, default=_STUDIES)
    parser.add_argument("--runs", type=int, default=3, help="of each receiver")
    parser.add_argument(
        "--vault", type=Path, help="a vault that an earlier run made, or is to make"
    )
    parser.add_argument("--only", choices=("find", "retrieve"))
    parser.add_argument("--slices", choices=tuple(SLICES), help="only these, of C-MOVE and C-GET")
    options = parser.parse_args()
    _require_peers()
    print(versions())
    reached = []
    with tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as work:
        if options.only != "retrieve":
            reached += _find_figures(
                Path(work), options.vault or Path(work, "many"), options.studies
            )
        if options.only != "find":
            for kind in [options.slices] if options.slices else SLICES:
                reached += _retrieval_figures(Path(work, kind), kind, options.runs)
    sys.exit(0 if all(reached) else 1)


def _verdict(what: str, measured: str, asked: str, *, reached: bool) -> bool:
    print(f"{what}: {measured}, asked {asked}: {'REACHED' if reached else 'NOT REACHED'}")
    return reached


def _require_peers() -> None:
    programs = ("dcmsend", "getscu", "movescu", "Orthanc")
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        print(f"Not installed: {', '.join(missing)}. On Debian and Ubuntu:", file=sys.stderr)
        print("    sudo apt-get install -y dcmtk orthanc", file=sys.stderr)
        raise SystemExit(2)


# C-FIND


def _find_figures(work: Path, vault: Path, studies: int) -> list[bool]:
    if not vault.exists():
        began = time.perf_counter()
        make_vault(vault, studies)
        print(f"a vault of {studies} studies was made in {time.perf_counter() - began:.0f} s")
    home = work / "home-find"
    with serving(home, vault) as (port, process):
        reached = _find_verdicts(", the very first time", *_ask("the very first time", port))
        began = time.perf_counter()
        _wait_until_idle(process)
        print(f"all studies were looked into {time.perf_counter() - began:.0f} s later")
        reached += _find_verdicts("", *_ask("", port))
    with serving(home, vault) as (port, process):
        reached += _find_verdicts(", just started again", *_ask("just started again", port))
    return reached


def _find_verdicts(when: str, first: float, last: float, answers: list[int]) -> list[bool]:
    print(f"answers to a query: {statistics.median(answers):.0f} (median), {max(answers)} (most)")
    return [
        _verdict(
            f"C-FIND, p95 of all answers{when}",
            f"{last:.0f} ms",
            "200 ms",
            reached=last <= _LIST_MS,
        ),
        _verdict(
            f"C-FIND, p95 of the first answer{when}",
            f"{first:.0f} ms",
            "100 ms",
            reached=first <= _FIRST_MS,
        ),
    ]


def _ask(what: str, port: int) -> tuple[float, float, list[int]]:
    """Ask all queries; return p95 of the first and of the last answer in ms, and their numbers."""
    measured: dict[str, list[tuple[float, float, int]]] = {}
    for kind, keys in _queries():
        measured.setdefault(kind, []).append(_query(port, keys))
    for kind, rows in measured.items():
        first, last = (_p95([row[at] for row in rows]) for at in (0, 1))
        print(f"{kind:<28} first {first:6.0f} ms, all {last:6.0f} ms (p95) {what}")
    every = [row for rows in measured.values() for row in rows]
    return _p95([r[0] for r in every]), _p95([r[1] for r in every]), [r[2] for r in every]


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


def _queries() -> Iterator[tuple[str, Mapping[tuple[int, int], str]]]:
    rng = Random(3)
    name, day = (0x0010, 0x0010), (0x0008, 0x0020)
    for _number in range(_QUERIES):
        start = rng.randrange(DAYS - 30)
        week = f"{study_date(start)}-{study_date(start + 6)}"
        month = f"{study_date(start)}-{study_date(start + 29)}"
        family = rng.choice(FAMILY_NAMES).upper()
        yield "name wildcard", {name: f"{family}^J*", day: ""}
        yield "name, anywhere in it", {name: f"*{family[1:]}^*O", day: ""}
        yield "range of dates, a week", {name: "", day: week}
        yield "name and a month", {name: f"{family[:3]}*", day: month}


def _identifier(keys: Mapping[tuple[int, int], str]) -> bytes:
    elements = dict.fromkeys(_COLUMNS, b"")
    elements |= {tag: value.encode() + b" " * (len(value) % 2) for tag, value in keys.items()}
    elements[0x0008, 0x0052] = b"STUDY "
    return encode_identifier((*tag, value) for tag, value in elements.items())


def _query(port: int, keys: Mapping[tuple[int, int], str]) -> tuple[float, float, int]:
    """Ask once, over an association that stands; return ms until the first and the last answer."""
    peer = Peer("127.0.0.1", port, "DCMVAULT", "BENCH")
    with open_association(peer, (FIND_PROPOSAL,)) as association:
        context_id = association.contexts.id_of(STUDY_ROOT_FIND, IMPLICIT_VR_LITTLE_ENDIAN)
        assert context_id is not None
        began = time.perf_counter()
        first, answers = 0.0, 0
        for answer in association.ask(find_request(context_id, _identifier(keys))):
            first = first or time.perf_counter() - began
            answers += not answer.is_last
            if answer.is_last and answer.status:
                raise SystemExit(f"a query ended with {answer.status:04X}")
        return first * 1000, (time.perf_counter() - began) * 1000, answers


def _wait_until_idle(process: int) -> None:
    """Wait until a process does nothing any more: then it has looked into all studies."""
    ticks, now = -1, _ticks(process)
    while now - ticks > _IDLE_TICKS:
        time.sleep(1)
        ticks, now = now, _ticks(process)


def _ticks(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# C-MOVE and C-GET


def _retrieval_figures(work: Path, kind: str, runs: int) -> list[bool]:
    retrieval = Retrieval.of(work, SLICES[kind])
    print(f"{kind}: {retrieval.count} CT slices, {retrieval.size / 1e6:.0f} MB, in {runs} runs")
    reached = []
    for name, times in compared(retrieval, runs):
        medians = {place: statistics.median(taken) for place, taken in times.items()}
        for place, seconds in medians.items():
            rate = retrieval.size / seconds / 1e6
            print(f"{kind}, {name:<14} from {place:<22} {seconds:6.2f} s {rate:6.0f} MB/s")
        for place in ("us, the first time", "us, again"):
            ratio = medians["Orthanc, as shipped"] / medians[place]
            what = f"{kind}, {name} from {place}, beside Orthanc as shipped"
            if name == OURS:
                print(f"{what}: {ratio:.2f} x (told, not asked)")
            else:
                reached.append(_verdict(what, f"{ratio:.2f} x", "1.0 x", reached=ratio >= _RATIO))
            tuned = medians["Orthanc"] / medians[place]
            print(f"    beside Orthanc with TCP_NODELAY=1: {tuned:.2f} x (told, not asked)")
    return reached


if __name__ == "__main__":
    main()
