"""Progress of a comparison on stderr: a line every few seconds, or JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from dcmvault.app.compare import CompareProgress
from dcmvault.cli.output import tell
from dcmvault.i18n import format_number
from dcmvault.i18n import gettext as _

_EVERY_S = 5.0
_JSON_EVERY_S = 1.0


def compare_watch(kind: str) -> Callable[[CompareProgress], None]:
    """Return what shows progress as `auto`, `plain`, `json` or `none` asks."""
    if kind == "none":
        return lambda _progress: None
    if kind == "json":
        return _Lines(_json_line, _JSON_EVERY_S)
    return _Lines(_sentence, _EVERY_S)


class _Lines:
    def __init__(self, line: Callable[[CompareProgress], str], every_s: float) -> None:
        self._line = line
        self._every_s = every_s
        self._next = time.monotonic() + every_s

    def __call__(self, progress: CompareProgress) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every_s
            tell(self._line(progress))


def _sentence(progress: CompareProgress) -> str:
    figures = {"done": format_number(progress.done), "total": format_number(progress.total)}
    if progress.stage == "sample":
        return _("Reading the sample back: %(done)s of %(total)s studies") % figures
    words = figures | {"side": progress.stage.upper()}
    if progress.total:
        return _("Listing %(side)s: %(done)s places, %(total)s instances") % words
    return _("Comparing; %(side)s told of %(done)s studies so far") % words


def _json_line(progress: CompareProgress) -> str:
    return json.dumps(
        {
            "event": "progress",
            "stage": progress.stage,
            "done": progress.done,
            "total": progress.total,
        }
    )
