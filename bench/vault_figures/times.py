"""Figures of time: first backup, second backup, restore; tools take turns, caches are warm."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.vault_figures import corpora
from bench.vault_figures.children import Measured
from bench.vault_figures.contenders import Contender, Dcmvault, Restic
from bench.vault_figures.table import Row, megabytes, seconds
from bench.vault_figures.workplace import Workplace

#: How long restic shall be busy with the larger corpus.
_LARGER_S = 9.0
#: restic derives its key and writes its index in about this time, whatever the corpus.
_RESTIC_START_S = 0.9


def first_backup(work: Workplace) -> Iterator[Row]:
    """The corpus as it is, and one so large that starting up counts little."""
    ours, restic = Dcmvault(work.place("ours"), "fast"), Restic(work.place("restic"))
    size = corpora.warm(work.corpus)
    times = _by_turns([ours, restic], work.runs, lambda one: _first(one, work.corpus))
    yield _row(f"time of first backup, fast, {megabytes(size)}", ours, restic, times, 2.0)
    larger = work.place("larger")
    copies = work.scale or _copies(work.corpus, size, _least(times[restic.name]))
    corpora.multiply(work.corpus, larger, copies)
    size = corpora.warm(larger)
    times = _by_turns([ours, restic], work.runs, lambda one: _first(one, larger))
    yield _row(f"time of first backup, fast, {megabytes(size)}", ours, restic, times, 2.0)
    shutil.rmtree(larger)


def restore(work: Workplace) -> Iterator[Row]:
    """All of the corpus out of a vault with the default profile."""
    ours, restic = Dcmvault(work.place("ours"), "balanced"), Restic(work.place("restic"))
    for one in (ours, restic):
        _first(one, work.corpus)
    times = _by_turns([ours, restic], work.runs, lambda one: _restore(one, work))
    yield _row("time of restore, balanced", ours, restic, times, 3.0)


def unchanged(work: Workplace) -> Iterator[Row]:
    """Many small instances, nothing changed."""
    source = work.place("many")
    corpora.small_instances(source, work.instances)
    ours, restic = Dcmvault(work.place("ours"), "fast"), Restic(work.place("restic"))
    first = [f"{one.name} {_first(one, source).wall_s:.1f} s" for one in (ours, restic)]
    print(f"{work.instances:,} instances, first backup: {', '.join(first)}")
    times = _by_turns([ours, restic], work.runs, lambda one: one.backup(source))
    yield _row(f"time of second backup, {work.instances:,} unchanged", ours, restic, times, 1.5)
    shutil.rmtree(source)


def _copies(corpus: Path, size: int, restic_s: float) -> int:
    rate = size / max(restic_s - _RESTIC_START_S, 0.1)
    return max(round(_LARGER_S * rate / corpora.rotatable_bytes(corpus)), 1)


def _least(taken: Sequence[Measured]) -> float:
    return min(one.wall_s for one in taken)


def _first(contender: Contender, source: Path) -> Measured:
    contender.make()
    return contender.backup(source)


def _restore(contender: Contender, work: Workplace) -> Measured:
    target = work.place("restored")
    taken = contender.restore(target)
    shutil.rmtree(target)
    return taken


def _by_turns(
    contenders: Sequence[Contender], runs: int, step: Callable[[Contender], Measured]
) -> dict[str, list[Measured]]:
    times: dict[str, list[Measured]] = {one.name: [] for one in contenders}
    for _ in range(runs):
        for one in contenders:
            times[one.name].append(step(one))
    return times


def _row(
    what: str, ours: Contender, peer: Contender, times: dict[str, list[Measured]], asked: float
) -> Row:
    ratio = _least(times[ours.name]) / _least(times[peer.name])
    beside = f"{peer.name} {seconds(times[peer.name])}"
    return Row(what, seconds(times[ours.name]), beside, ratio, asked)
