"""Progress on stderr: a bar, plain lines, or one JSON object per line."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from dcmvault.cli.output import tell
from dcmvault.cli.pace import Pace, Standing
from dcmvault.i18n import format_bytes, format_duration, format_number
from dcmvault.i18n import gettext as _
from dcmvault.model.report import RunState
from dcmvault.ports.catalogue import RunProgress

#: Takes the counters of a run, and whether this process does the work.
Watch = Callable[[RunProgress, bool], None]

_PLAIN_EVERY_S = 5.0
_JSON_EVERY_S = 1.0


@contextmanager
def shown(kind: str) -> Iterator[Watch]:
    """Show progress as `auto`, `plain`, `json` or `none` asks; the bar goes away at the end."""
    if kind == "auto":
        dumb = os.environ.get("TERM", "") == "dumb"
        kind = "bar" if sys.stderr.isatty() and not dumb else "plain"
    if kind == "bar":
        with _bar() as watch:
            yield watch
    elif kind == "json":
        yield JsonLines(tell)
    elif kind == "plain":
        yield PlainLines(tell)
    else:
        yield lambda _progress, _working: None


def sentence(progress: RunProgress, standing: Standing) -> str:
    """Say in one line where a run stands."""
    if progress.state in {RunState.PENDING, RunState.PLANNING}:
        if not progress.scanned:
            return _("Looking at the source")
        return _("Looking at the source: %s files listed") % format_number(progress.scanned)
    share = 100 * standing.done // standing.items if standing.items else 100
    parts = [
        _("%(done)s of %(items)s instances (%(share)d %%)")
        % {
            "done": format_number(standing.done),
            "items": format_number(standing.items),
            "share": share,
        }
    ]
    if standing.items and standing.done >= standing.items > progress.settled:
        return ", ".join([*parts, _("verifying")])
    if standing.instances_per_s > 0:
        parts.append(_("%s instances/s") % format_number(standing.instances_per_s))
    if standing.bytes_per_s > 0:
        parts.append(f"{format_bytes(standing.bytes_per_s)}/s")
    if standing.eta_s is not None:
        parts.append(_("%s left") % format_duration(standing.eta_s))
    if progress.failed:
        parts.append(_("%s failed") % format_number(progress.failed))
    return ", ".join(parts)


def _following() -> str:
    return _("Another process does this work; following it.")


class PlainLines:
    """A line every few seconds, and when the state of the run changes."""

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._pace = Pace()
        self._next = 0.0
        self._state: RunState | None = None
        self._working: bool | None = None
        self._last = ""

    def __call__(self, progress: RunProgress, working: bool) -> None:
        """Take in the counters of now; write when it is time."""
        now = self._clock()
        standing = self._pace.observe(now, progress)
        if working != self._working:
            if not working:
                self._write(_following())
            self._working = working
        if progress.state == self._state and now < self._next:
            return
        line = sentence(progress, standing)
        if line != self._last and (progress.scanned or progress.items):
            self._write(line)
            self._last = line
        self._state = progress.state
        self._next = now + _PLAIN_EVERY_S


class JsonLines:
    """One JSON object a second, and one at every change of the run's state."""

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._pace = Pace()
        self._next = 0.0
        self._state: RunState | None = None

    def __call__(self, progress: RunProgress, working: bool) -> None:
        """Take in the counters of now; write when it is time."""
        now = self._clock()
        standing = self._pace.observe(now, progress)
        if progress.state == self._state and now < self._next:
            return
        self._state = progress.state
        self._next = now + _JSON_EVERY_S
        self._write(
            json.dumps(
                {
                    "event": "progress",
                    "state": progress.state.value,
                    "working": working,
                    "scanned": progress.scanned,
                    "items": progress.items,
                    "settled": progress.settled,
                    "sent": progress.sent,
                    "failed": progress.failed,
                    "bytes": progress.bytes,
                    "settled_bytes": progress.settled_bytes,
                    "instances_per_s": round(standing.instances_per_s, 3),
                    "bytes_per_s": round(standing.bytes_per_s),
                    "eta_s": None if standing.eta_s is None else round(standing.eta_s, 1),
                }
            )
        )


@contextmanager
def _bar() -> Iterator[Watch]:
    pace = Pace()
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress_bar:
        task = progress_bar.add_task("", total=None)

        def watch(progress: RunProgress, working: bool) -> None:
            standing = pace.observe(time.monotonic(), progress)
            line = sentence(progress, standing)
            progress_bar.update(
                task,
                description=line if working else f"{line} — {_following()}",
                total=standing.items or None,
                completed=standing.done,
            )

        yield watch
