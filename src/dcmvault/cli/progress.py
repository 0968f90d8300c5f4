"""Progress on stderr: a bar, plain lines, or one JSON object per line."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from dcmvault.app.backup import Followed
from dcmvault.cli.output import tell
from dcmvault.cli.pace import Pace, Standing
from dcmvault.i18n import format_bytes, format_duration, format_number
from dcmvault.i18n import gettext as _
from dcmvault.model.plan import RunKind
from dcmvault.model.report import RunState
from dcmvault.ports.catalogue import RunProgress
from dcmvault.reports.escaping import visible

#: Takes where a run stands, about five times a second.
Watch = Callable[[Followed], None]

_PLAIN_EVERY_S = 5.0
_JSON_EVERY_S = 1.0
#: Characters of a bar, and the narrowest terminal that has room for one beside the figures.
_BAR_WIDTH = 24
_NARROW = 80


@contextmanager
def shown(kind: str, run_kind: RunKind = RunKind.BACKUP) -> Iterator[Watch]:
    """Show progress as `auto`, `plain`, `json` or `none` asks; the bar goes away at the end."""
    pace = Pace(delivers=run_kind.delivers)
    if kind == "auto":
        dumb = os.environ.get("TERM", "") == "dumb"
        kind = "bar" if sys.stderr.isatty() and not dumb else "plain"
    if kind == "bar":
        with _bar(pace) as watch:
            yield watch
    elif kind == "json":
        yield JsonLines(tell, pace)
    elif kind == "plain":
        yield PlainLines(tell, pace)
    else:
        yield lambda _standing: None


def sentence(progress: RunProgress, standing: Standing, *, retrying: bool = False) -> str:
    """Say in one line where a run stands."""
    if progress.state in {RunState.PENDING, RunState.PLANNING}:
        if not progress.scanned:
            return _("Looking at the source")
        return _("Looking at the source: %s files listed") % format_number(progress.scanned)
    if progress.state is RunState.CANCELLED:
        return _("The run was cancelled.")
    if not progress.items:
        return _("Nothing is due")
    share = 100 * standing.done // standing.items
    parts = [
        _("%(done)s of %(items)s instances (%(share)d %%)")
        % {
            "done": format_number(standing.done),
            "items": format_number(standing.items),
            "share": share,
        }
    ]
    if standing.done >= standing.items > progress.settled:
        return ", ".join([*parts, _("verifying")])
    if standing.eta_s is not None:
        parts.append(_("%s left") % format_duration(standing.eta_s))
    if standing.instances_per_s > 0:
        parts.append(_("%s instances/s") % _rate(standing.instances_per_s))
    if standing.bytes_per_s > 0:
        parts.append(f"{format_bytes(standing.bytes_per_s)}/s")
    if progress.failed:
        parts.append(_("%s failed") % format_number(progress.failed))
    if retrying:
        parts.append(_("waiting before the next attempt"))
    return ", ".join(parts)


def _rate(per_second: float) -> str:
    """Write a rate so that a slow one is not 0."""
    return format_number(per_second, 0 if per_second >= 9.95 else 1)


class _Notices:
    """What a waiting person must be told once: who works, and what is held up."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._working = True
        self._paused: frozenset[str] = frozenset()

    def look(self, run: Followed) -> None:
        """Write what is new since the last look."""
        if self._working and not run.working:
            self._write(_("Another process does this work; following it."))
        self._working = run.working
        paused = frozenset(run.paused)
        for destination in sorted(paused - self._paused):
            self._write(
                _("%(name)s is paused. To go on: dcmvault queue resume %(quoted)s")
                % {"name": visible(destination), "quoted": shlex.quote(visible(destination))}
            )
        for destination in sorted(self._paused - paused):
            self._write(_("%s is taken up again.") % visible(destination))
        self._paused = paused


class PlainLines:
    """A line every few seconds, and when the state of the run changes."""

    def __init__(
        self,
        write: Callable[[str], None],
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._clock = clock
        self._pace = pace
        self._notices = _Notices(write)
        self._next = 0.0
        self._state: RunState | None = None
        self._last = ""

    def __call__(self, run: Followed) -> None:
        """Take in the counters of now; write when it is time."""
        now, progress = self._clock(), run.progress
        standing = self._pace.observe(now, progress)
        self._notices.look(run)
        if progress.state == self._state and now < self._next:
            return
        line = sentence(progress, standing, retrying=run.retrying)
        if line != self._last and (progress.scanned or progress.items):
            self._write(line)
            self._last = line
        self._state = progress.state
        self._next = now + _PLAIN_EVERY_S


class JsonLines:
    """One JSON object a second, and one at every change of the run's state."""

    def __init__(
        self,
        write: Callable[[str], None],
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._clock = clock
        self._pace = pace
        self._next = 0.0
        self._state: RunState | None = None

    def __call__(self, run: Followed) -> None:
        """Take in the counters of now; write when it is time."""
        now, progress = self._clock(), run.progress
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
                    "working": run.working,
                    "paused": list(run.paused),
                    "retrying": run.retrying,
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
def _bar(pace: Pace) -> Iterator[Watch]:
    console = Console(stderr=True, highlight=False)
    # Figures wrap on a narrow terminal; there is no bar beside them then.
    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=False))
    bar = [BarColumn(_BAR_WIDTH)] if console.width >= _NARROW else []
    columns = (SpinnerColumn(), *bar, text)
    with Progress(*columns, console=console, transient=True) as progress_bar:
        task = progress_bar.add_task("", total=None)
        notices = _Notices(lambda line: progress_bar.console.print(line, markup=False))

        def watch(run: Followed) -> None:
            standing = pace.observe(time.monotonic(), run.progress)
            notices.look(run)
            progress_bar.update(
                task,
                description=sentence(run.progress, standing, retrying=run.retrying),
                total=standing.items or None,
                completed=standing.done,
            )

        yield watch
