"""Back up again whenever sources change, until somebody stops it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from dcmvault.app.wiring.events import Events, source_events
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.model.plan import RunRequest
from dcmvault.pipeline.watching import Watch

#: Seconds between looks at what was announced.
_LOOK_S = 0.5


@dataclass(slots=True)
class _Watched:
    request: RunRequest
    watch: Watch
    events: Events | None
    exit_status: int = 0


def watch_and_back_up(
    workplace: Workplace,
    requests: Sequence[RunRequest],
    carry_out: Callable[[RunRequest], int],
    *,
    settle_s: float,
    rescan_s: float,
    stop: threading.Event,
) -> list[int]:
    """Carry each request out at once, and whenever its source changed and settled, until `stop`.

    `carry_out` returns an exit status; the last one of each request is returned. A source whose
    changes nobody announces is passed over every `rescan_s` seconds, as are all others. Between
    runs another process may work in the state folder.
    """
    with ExitStack() as stack:
        watched = []
        for request in requests:
            watch = Watch(settle_s, rescan_s)
            events = source_events(workplace, request.source, watch.announced)
            if events is not None:
                stack.callback(events.stop)
            watched.append(_Watched(request, watch, events))
        while not stop.is_set():
            due = [one for one in watched if one.watch.due_at() <= time.monotonic()]
            for one in due:
                # Listening begins before the pass: what changes during it is announced.
                if one.events is not None and not one.watch.has_announcements:
                    one.events.start()
                one.watch.begin(time.monotonic())
                one.exit_status = carry_out(one.request)
                if stop.is_set():
                    break
            if due:
                workplace.rest()
            stop.wait(_LOOK_S)
    return [one.exit_status for one in watched]
