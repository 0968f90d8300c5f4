"""Which instances of one study are held: asked with nothing in any cache."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.dashboard_figures.archive import LARGE, LARGE_EACH, uid_of

from dcmvault.catalogue import open_catalogue

_TIMES = 20


def forget_files(folder: Path) -> None:
    """Have the system drop what it keeps of the files of a folder in memory."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def cold_questions(
    url: str, place: str, studies: int, forget: Callable[[], object]
) -> Iterator[float]:
    """Yield the milliseconds of each question, about another study of 500 instances each time."""
    for number in range(1, min(_TIMES, studies // LARGE_EACH) + 1):
        forget()
        catalogue = open_catalogue(url)
        try:
            began = time.perf_counter()
            found = catalogue.restores.known_copies(place, uid_of(number * LARGE_EACH))
            yield (time.perf_counter() - began) * 1000
            assert len(found) in (0, LARGE), len(found)
        finally:
            catalogue.close()
