"""The figures of the vault, beside restic and borg: `python -m bench.vault [--only NAME]`.

Whole processes on the same files, by turns, with warm caches, fresh repositories, the same
passphrase and state folders of their own. Of repeated times the least counts (the median stands
behind it). Without a corpus: the DICOM files that come with the installed packages; many of them
are one image in many transfer syntaxes, and what is asked of the first backup's size is asked of
a corpus of whole studies. Needs restic, borg and dcmcjpls (DCMTK); exits with status 2, and the
line that installs them, where one is missing.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.vault_figures import corpora, memory, sizes, times
from bench.vault_figures.contenders import require_peers, versions
from bench.vault_figures.table import Row, print_table
from bench.vault_figures.workplace import Workplace

_FIGURES: Mapping[str, Callable[[Workplace], Iterator[Row]]] = {
    "size": sizes.first_backup,
    "headers": sizes.corrected_headers,
    "jpeg-ls": sizes.received_again,
    "first": times.first_backup,
    "restore": times.restore,
    "unchanged": times.unchanged,
    "memory": memory.giants,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, help="folder of DICOM files")
    parser.add_argument(
        "--only", choices=_FIGURES, action="append", help="this figure (may be repeated)"
    )
    parser.add_argument("--runs", type=int, default=3, help="repetitions of what is timed")
    parser.add_argument(
        "--scale", type=int, default=0, help="copies in the larger corpus of `first`"
    )
    parser.add_argument("--instances", type=int, default=100_000, help="files of `unchanged`")
    parser.add_argument("--giant", type=float, default=2.0, help="gigabytes of `memory`")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    require_peers()
    print(versions())
    print(f"Python {platform.python_version()}, {platform.platform()}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as folder:
        corpus = Path(folder) / "corpus"
        corpora.copy_corpus(options.corpus, corpus)
        work = Workplace(
            folder=Path(folder),
            corpus=corpus,
            runs=options.runs,
            scale=options.scale,
            instances=options.instances,
            giant_bytes=int(options.giant * 1e9),
        )
        for name in options.only or _FIGURES:
            print(f"-- {name}", flush=True)
            for row in _FIGURES[name](work):
                print(row.line(), flush=True)
                rows.append(row)
    print()
    print_table(rows)


if __name__ == "__main__":
    main()
