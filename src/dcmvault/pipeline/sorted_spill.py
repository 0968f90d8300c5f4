"""Rows in the order of their keys, however many: sorted in parts on disk, and merged."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from dcmvault.scratch import scratch_folder

#: Rows that are sorted in memory at once: some hundred bytes each.
_AT_ONCE = 200_000

Row = Sequence[object]


class SortedSpill:
    """Takes rows in any order and gives them back by key; a context that ends with its files.

    The files lie in a private folder of TMPDIR. Keys are text, rows lists that JSON can hold.
    """

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._at_once = at_once
        self._until_end = ExitStack()
        self._folder = self._until_end.enter_context(scratch_folder())
        self._parts: list[Path] = []
        self._waiting: list[str] = []
        self.count = 0

    def add(self, key: str, row: Row) -> None:
        """Take a row."""
        # A tab sorts before everything that a key can have then.
        name = "".join(char if char > " " else "?" for char in key)
        self._waiting.append(f"{name.encode('ascii', 'backslashreplace').decode()}\t{_text(row)}\n")
        self.count += 1
        if len(self._waiting) >= self._at_once:
            self._write()

    def rows(self) -> Iterator[tuple[str, list[object]]]:
        """Yield every row with its key (in ASCII), in ascending order of keys."""
        self._waiting.sort()
        with ExitStack() as stack:
            parts: list[Iterator[str]] = [
                iter(stack.enter_context(part.open(encoding="ascii"))) for part in self._parts
            ]
            for line in heapq.merge(*parts, iter(list(self._waiting))):
                key, _tab, row = line.partition("\t")
                yield key, json.loads(row)

    def _write(self) -> None:
        path = self._folder / f"part-{len(self._parts)}"
        self._waiting.sort()
        with path.open("w", encoding="ascii") as file:
            file.writelines(self._waiting)
        self._parts.append(path)
        self._waiting = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._until_end.close()


def _text(row: Row) -> str:
    return json.dumps(row, separators=(",", ":"))
