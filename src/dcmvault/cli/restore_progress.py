"""Progress of a restore on stderr: a bar, plain lines, or one JSON object per line."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dcmvault.app.restore_report import RestoreProgress, WatchRestore
from dcmvault.cli.output import tell
from dcmvault.cli.pace import Pace, Standing
from dcmvault.i18n import format_bytes, format_duration, format_number
from dcmvault.i18n import gettext as _
from dcmvault.model.report import RunState
from dcmvault.ports.catalogue import RunProgress

_PLAIN_EVERY_S = 5.0
_JSON_EVERY_S = 1.0
_BAR_WIDTH = 24


@contextmanager
def restore_shown(kind: str) -> Iterator[WatchRestore]:
    """Show progress as `auto`, `plain`, `json` or `none` asks; the bar goes away at the end."""
    if kind == "auto":
        dumb = os.environ.get("TERM", "") == "dumb"
        kind = "bar" if sys.stderr.isatty() and not dumb else "plain"
    if kind == "bar":
        with _bar() as watch:
            yield watch
    elif kind == "json":
        yield _Lines(_json_line, _JSON_EVERY_S)
    elif kind == "plain":
        yield _Lines(_sentence, _PLAIN_EVERY_S)
    else:
        yield lambda _progress: None


class _Pacing:
    """Rates of a restore, by the measure that runs are shown with."""

    def __init__(self) -> None:
        self._pace = Pace(delivers=False)

    def look(self, progress: RestoreProgress) -> Standing:
        run = RunProgress(
            state=RunState.RUNNING,
            items=progress.files,
            settled=progress.done,
            sent=0,
            failed=progress.failed,
            bytes=progress.bytes,
            settled_bytes=progress.done_bytes,
            scanned=0,
        )
        return self._pace.observe(time.monotonic(), run)


class _Lines:
    """A line every few seconds, and at the beginning and the end of the work."""

    def __init__(self, line: Callable[[RestoreProgress, Standing], str], every_s: float) -> None:
        self._line = line
        self._every_s = every_s
        self._pacing = _Pacing()
        self._next = time.monotonic() + every_s if line is _sentence else 0.0
        self._last: RestoreProgress | None = None

    def __call__(self, progress: RestoreProgress) -> None:
        standing = self._pacing.look(progress)
        ended = progress.planned and progress.done == progress.files
        now = time.monotonic()
        if progress == self._last or (now < self._next and not ended):
            return
        if ended and self._last is None and self._line is _sentence:
            return  # so short that the summary says it all
        self._last = progress
        self._next = now + self._every_s
        tell(self._line(progress, standing))


def _sentence(progress: RestoreProgress, standing: Standing) -> str:
    if not progress.planned:
        return _("Looking at what there is")
    text = _("%(done)s of %(files)s files (%(share)d %%)")
    if progress.reading_back:
        text = _("Reading back: %(done)s of %(files)s files (%(share)d %%)")
    parts = [
        text
        % {
            "done": format_number(progress.done),
            "files": format_number(progress.files),
            "share": 100 * progress.done_bytes // max(progress.bytes, 1),
        }
    ]
    if standing.eta_s is not None:
        parts.append(_("%s left") % format_duration(standing.eta_s))
    if standing.bytes_per_s > 0:
        parts.append(f"{format_bytes(standing.bytes_per_s)}/s")
    if progress.failed:
        parts.append(_("%s failed") % format_number(progress.failed))
    return ", ".join(parts)


def _json_line(progress: RestoreProgress, standing: Standing) -> str:
    return json.dumps(
        {
            "event": "progress",
            "state": _state(progress),
            "files": progress.files,
            "done": progress.done,
            "failed": progress.failed,
            "bytes": progress.bytes,
            "done_bytes": progress.done_bytes,
            "files_per_s": round(standing.instances_per_s, 3),
            "bytes_per_s": round(standing.bytes_per_s),
            "eta_s": None if standing.eta_s is None else round(standing.eta_s, 1),
        }
    )


def _state(progress: RestoreProgress) -> str:
    if progress.reading_back:
        return "reading_back"
    return "running" if progress.planned else "planning"


@contextmanager
def _bar() -> Iterator[WatchRestore]:
    from rich.console import Console  # noqa: PLC0415 - only where there is a terminal
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    text = TextColumn("{task.description}", markup=False)
    with Progress(
        SpinnerColumn(), BarColumn(_BAR_WIDTH), text, console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=None)
        pacing = _Pacing()

        def watch(progress: RestoreProgress) -> None:
            description = _sentence(progress, pacing.look(progress))
            total = progress.bytes if progress.planned else None
            bar.update(task, description=description, total=total, completed=progress.done_bytes)

        yield watch
