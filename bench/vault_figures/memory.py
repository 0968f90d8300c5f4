"""Figures of memory: the peak of whole processes with one very large file."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.vault_figures import corpora
from bench.vault_figures.children import Measured
from bench.vault_figures.contenders import Contender, Dcmvault, Restic
from bench.vault_figures.table import Row
from bench.vault_figures.workplace import Workplace

_ASKED_MB = 300.0


def giants(work: Workplace) -> Iterator[Row]:
    """Native frames, small and large, and a fragment for each of many compressed frames."""
    kinds: tuple[tuple[str, int, Callable[[Path, int], None]], ...] = (
        ("512 x 512 frames", work.giant_bytes, corpora.native_giant),
        # Encoding takes long, and memory reaches its peak soon: a quarter will do.
        ("2048 x 2048", work.giant_bytes // 4, partial(corpora.native_giant, side=2048)),
        ("fragments", work.giant_bytes, corpora.encapsulated_giant),
    )
    for kind, size, make in kinds:
        source = work.place("giant")
        make(source / "giant.dcm", size)
        ours, restic = Dcmvault(work.place("ours"), "balanced"), Restic(work.place("restic"))
        steps: tuple[tuple[str, Callable[[Contender], Measured]], ...] = (
            ("backup", lambda one: one.backup(work.place("giant"), watch_memory=True)),
            ("restore", lambda one: one.restore(work.place("restored"), watch_memory=True)),
        )
        for one in (ours, restic):
            one.make()
        for what, step in steps:
            mine = step(ours)
            if what == "restore":
                _compare(source, work.place("restored"))
            theirs = step(restic)
            shutil.rmtree(work.place("restored"), ignore_errors=True)
            yield Row(
                f"peak memory, {what} of {size / 1e9:.1f} GB, {kind}",
                f"{mine.wall_s:.1f} s",
                f"restic {theirs.peak_bytes / 1e6:.0f} MB, {theirs.wall_s:.1f} s",
                mine.peak_bytes / 1e6,
                _ASKED_MB,
                " MB",
            )
        shutil.rmtree(source)


def _compare(source: Path, restored: Path) -> None:
    (original,) = corpora.files_of(source)
    found = [path for path in corpora.files_of(restored) if path.name == original.name]
    if len(found) != 1 or not filecmp.cmp(original, found[0], shallow=False):
        raise SystemExit("What was restored is not what was backed up.")
