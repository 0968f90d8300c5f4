"""Figures of size: first backup, corrected headers, the same study in another transfer syntax."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.vault_figures import corpora
from bench.vault_figures.contenders import Borg, Contender, Dcmvault, Restic
from bench.vault_figures.table import Row, megabytes
from bench.vault_figures.workplace import Workplace


def first_backup(work: Workplace) -> Iterator[Row]:
    """Everything that the repository takes on disk, after one backup."""
    peers: list[Contender] = [Restic(work.place("restic")), Borg(work.place("borg"))]
    sizes = {peer.name: _stored(peer, work.corpus) for peer in peers}
    source = sum(path.stat().st_size for path in corpora.files_of(work.corpus))
    beside = f"restic {megabytes(sizes['restic'])}"
    print(f"source {megabytes(source)}, borg {megabytes(sizes['borg'])}, {beside}")
    for profile, asked in (("balanced", 0.60), ("small", 0.55)):
        lean = _stored(Dcmvault(work.place("ours"), profile, redundant=False), work.corpus)
        yield Row(
            f"size after first backup, {profile}, no parity",
            megabytes(lean),
            beside,
            lean / sizes["restic"],
            asked,
        )
        ours = Dcmvault(work.place("ours"), profile)
        whole = _stored(ours, work.corpus) - ours.ballast()
        yield Row(
            f"  with parity and triplicates (and {megabytes(ours.ballast())} ballast)",
            megabytes(whole),
            f"without {megabytes(lean)}",
            whole / lean,
            1.10,
        )


def corrected_headers(work: Workplace) -> Iterator[Row]:
    """What is added when name, id and description are corrected in every file of a study."""
    chosen = corpora.largest_study(work.corpus)
    study = work.place("study")
    shutil.rmtree(study, ignore_errors=True)
    study.mkdir()
    for number, path in enumerate(chosen):
        shutil.copyfile(path, study / f"{number:05}.dcm")
    restic = Restic(work.place("restic"))
    ours = [Dcmvault(work.place(f"ours-{name}"), name) for name in ("balanced", "fast")]
    contenders: list[Contender] = [restic, *ours]
    before = {one.name: _stored(one, study) for one in contenders}
    corrected = sum(corpora.correct_header(path) for path in corpora.files_of(study))
    growth = {}
    for one in contenders:
        one.backup(study)
        growth[one.name] = one.size() - before[one.name]
    for vault in ours:
        yield Row(
            f"growth: {corrected} of {len(chosen)} headers corrected, {vault.name}",
            f"{growth[vault.name] / 1e3:.1f} kB",
            f"restic {growth['restic'] / 1e3:.1f} kB",
            growth[vault.name] / growth["restic"],
            0.02,
        )
    shutil.rmtree(study)


def received_again(work: Workplace) -> Iterator[Row]:
    """What is added when native images come again as JPEG-LS."""
    native = work.place("native")
    number = corpora.native_images(work.corpus, native)
    encoders: tuple[tuple[str, Callable[[Path, Path], int]], ...] = (
        ("CharLS", corpora.encode_by_charls),
        ("dcmcjpls", corpora.encode_by_dcmtk),
    )
    for name, encode in encoders:
        source = work.place("source")
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        taken = encode(native, source / "again")
        _keep_same(native, source / "again", source / "first")
        hidden = work.place("hidden")
        (source / "again").rename(hidden)
        ours = Dcmvault(work.place("ours"), "balanced")
        ours.make()
        empty = ours.size()
        ours.backup(source)
        first = ours.size() - empty
        hidden.rename(source / "again")
        ours.backup(source)
        growth = ours.size() - empty - first
        yield Row(
            f"growth: {taken} of {number} images again as JPEG-LS ({name})",
            f"{growth / 1e3:.1f} kB",
            f"first {first / 1e3:.1f} kB",
            growth / first,
            0.05,
        )
        shutil.rmtree(source)


def _keep_same(native: Path, again: Path, target: Path) -> None:
    """Copy the native files of which there is a JPEG-LS version."""
    target.mkdir()
    for path in corpora.files_of(again):
        os.link(native / path.name, target / path.name)


def _stored(contender: Contender, source: Path) -> int:
    contender.make()
    contender.backup(source)
    return contender.size()
