"""Where long work on a vault stands, on stderr: a bar, plain lines, or one JSON object per line."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dcmvault.cli.output import tell
from dcmvault.i18n import format_bytes, format_duration, format_number
from dcmvault.i18n import gettext as _
from dcmvault.vault.phases import Phase, Told, to_nobody

_PLAIN_EVERY_S = 5.0
_JSON_EVERY_S = 1.0
_BAR_WIDTH = 24
#: Seconds of a phase that must have passed before its end is foretold.
_TELLING_S = 2.0


@contextmanager
def phases_shown(kind: str) -> Iterator[Told]:
    """Show progress as `auto`, `plain`, `json` or `none` asks; the bar goes away at the end."""
    if kind == "auto":
        dumb = os.environ.get("TERM", "") == "dumb"
        kind = "bar" if sys.stderr.isatty() and not dumb else "plain"
    if kind == "bar":
        with _bar() as told:
            yield told
    elif kind == "json":
        yield _Lines(_json_line, _JSON_EVERY_S, at_once=True)
    elif kind == "plain":
        # Work of a few seconds needs no lines.
        yield _Lines(_spoken_line, _PLAIN_EVERY_S, at_once=False)
    else:
        yield to_nobody


def sentence(phase: Phase, done: int, total: int) -> str:
    """Say in one line what is being done."""
    figures = {"done": format_number(done), "total": format_number(total)}
    match phase:
        case Phase.LOOKING:
            return _("Looking at what is needed")
        case Phase.REMOVING:
            return _("Removing packs: %(done)s of %(total)s") % figures
        case Phase.REWRITING:
            return _("Rewriting packs that are mostly waste: %(done)s of %(total)s") % figures
        case Phase.READING:
            return _("Reading: %(done)s of %(total)s") % {
                "done": format_bytes(done),
                "total": format_bytes(total),
            }
        case Phase.COPYING:
            return _("Copying objects: %(done)s of %(total)s") % figures


class _Pacing:
    """Tells from the pace since a phase began how long it still takes."""

    def __init__(self) -> None:
        self._phase: Phase | None = None
        self._began = 0.0
        self._first = 0

    def left_s(self, phase: Phase, done: int, total: int) -> float | None:
        """Return seconds; None while there is nothing to tell them from."""
        now = time.monotonic()
        if phase is not self._phase:
            self._phase, self._began, self._first = phase, now, done
        covered, elapsed = done - self._first, now - self._began
        if covered <= 0 or elapsed < _TELLING_S or done >= total:
            return None
        return (total - done) * elapsed / covered


def _with_left(text: str, left_s: float | None) -> str:
    if left_s is None:
        return text
    return f"{text}, " + _("%s left") % format_duration(left_s)


def _spoken_line(phase: Phase, done: int, total: int, left_s: float | None) -> str:
    return _with_left(sentence(phase, done, total), left_s)


def _json_line(phase: Phase, done: int, total: int, left_s: float | None) -> str:
    return json.dumps(
        {
            "event": "progress",
            "phase": phase.value,
            "done": done,
            "total": total,
            "eta_s": None if left_s is None else round(left_s, 1),
        }
    )


class _Lines:
    """A line every few seconds, and where a phase begins."""

    def __init__(
        self,
        line: Callable[[Phase, int, int, float | None], str],
        every_s: float,
        *,
        at_once: bool,
    ) -> None:
        self._line = line
        self._every_s = every_s
        self._next = 0.0 if at_once else time.monotonic() + every_s
        self._phase: Phase | None = None
        self._pacing = _Pacing()

    def __call__(self, phase: Phase, done: int, total: int) -> None:
        left_s = self._pacing.left_s(phase, done, total)
        now = time.monotonic()
        if now < self._next and (phase is self._phase or self._phase is None):
            return
        self._phase = phase
        self._next = now + self._every_s
        tell(self._line(phase, done, total, left_s))


@contextmanager
def _bar() -> Iterator[Told]:
    from rich.console import Console  # noqa: PLC0415 - only where there is a terminal
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    text = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), BarColumn(_BAR_WIDTH), text)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        pacing = _Pacing()

        def told(phase: Phase, done: int, total: int) -> None:
            description = _spoken_line(phase, done, total, pacing.left_s(phase, done, total))
            bar.update(task, description=description, total=total or None, completed=done)

        yield told
