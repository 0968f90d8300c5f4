"""The daemon's life: one process with workers, duties, the listener and the API; begin and end."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dcmvault import __version__
from dcmvault.app.api_token import known_token, make_token, token_path
from dcmvault.app.live import LiveWatch
from dcmvault.app.metrics import WorkplaceMetrics
from dcmvault.app.overview import OverviewWatch
from dcmvault.app.serving_port import serving_on
from dcmvault.app.wiring.workplace import Workplace, only_daemon, open_workplace
from dcmvault.config.places import config_path
from dcmvault.config.settings import Settings
from dcmvault.config.web_section import WebSection
from dcmvault.daemon.coverage import Coverage
from dcmvault.daemon.duties import NEWS, RELOADING, duties_of
from dcmvault.daemon.listening import protecting
from dcmvault.daemon.loops import Loops
from dcmvault.daemon.reloading import Reloaded, Reloading, as_data
from dcmvault.web.api import build_api
from dcmvault.web.backstage import Backstage
from dcmvault.web.doors import Doors, doors_of
from dcmvault.web.event_stream import EventStream
from dcmvault.web.server import ApiPort

_log = logging.getLogger(__name__)

#: Seconds at the end: for instances in flight, then for requests and duties. With what the engine
#: takes to write down what ended, all is over within five.
_WORK_GRACE_S = 2.5
_SERVER_GRACE_S = 1.5
_DUTY_GRACE_S = 0.5


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that runs now."""

    address: str
    #: The token of the API where it was made just now: to be shown once. Else empty.
    token: str
    #: The link that makes the first account; empty once there is one.
    first_link: str
    #: Whether this process works already; else a command does, and is followed by this process.
    working: bool
    #: Where what is pushed to us is taken; 0 where no plan takes it.
    listener_port: int
    #: Has the configuration read anew; for signal handlers, too.
    reload: Callable[[], None]


@contextmanager
def running(
    home: Path, settings: Settings, tell: Callable[[Reloaded], None], web_port: int | None = None
) -> Iterator[Running]:
    """Run the daemon of a state folder (which exists) until the context is left.

    `tell` hears what became of a changed configuration. Unfinished work waits for the next start.
    DaemonRunningError where one runs already; else what opening folder and ports raises.
    """
    with ExitStack() as stack:
        stack.enter_context(only_daemon(home))
        workplace = stack.enter_context(open_workplace(home, settings))
        workplace.together.role = "serve"
        # What is loaded by now stays: the collector need not look at it again and again.
        gc.freeze()
        listening = stack.enter_context(protecting(workplace))
        stream = EventStream()
        reloading = Reloading(config_path(home), settings, workplace.adopt, tell, stream)
        coverage = Coverage(workplace)
        metrics = WorkplaceMetrics(lambda: workplace)
        about = _about(workplace, reloading)
        watch = LiveWatch(workplace)
        overview = OverviewWatch(workplace, coverage.standing)
        backstage = Backstage(
            workplace,
            metrics,
            stream,
            coverage.latest,
            about,
            doors_of(workplace),
            overview.look,
            watch.look,
        )
        port = settings.web.port if web_port is None else web_port
        token = make_token(home, workplace.clock.now())
        try:
            lets_in = known_token(home).lets_in
            takes = listening[0] if listening else None
            duties = duties_of(workplace, stream, coverage, reloading, watch, takes)
            loops = Loops(duties, workplace.clock)
            api = build_api(backstage, lets_in=lets_in, names=settings.web.names)
            server = ApiPort(api, settings.web, port)
        except BaseException:
            if token:  # which nobody has seen
                token_path(home).unlink(missing_ok=True)
            raise
        workplace.heard = partial(loops.hasten, NEWS)
        try:
            working = workplace.work()
            loops.start()

            def reload() -> None:
                reloading.ask()
                loops.hasten(RELOADING)

            listener_port = listening[1] if listening else 0
            stack.enter_context(serving_on(home, server.port))
            first_link = _first_link(backstage.doors, settings.web, server.port)
            yield Running(server.address, token, first_link, working, listener_port, reload)
        finally:
            _end(workplace, backstage, server, loops)


def _first_link(doors: Doors, web: WebSection, port: int) -> str:
    if doors.accounts.accounts():
        return ""
    token, _expires_at = doors.accounts.make_link()
    return f"{web.address(port)}/welcome/{token}"


def _end(workplace: Workplace, backstage: Backstage, server: ApiPort, loops: Loops) -> None:
    """Come to an end: no new requests, no new duties, streams closed, work rests."""
    server.ask_to_stop()
    backstage.background.close(0)
    backstage.events.close()
    left = loops.stop(_DUTY_GRACE_S)
    if left:
        _log.warning("duties that outlived the stop: %s", ", ".join(left))
    workplace.rest(_WORK_GRACE_S)
    if not server.stop(_SERVER_GRACE_S):
        _log.warning("requests outlived the stop")
    if not backstage.background.close(_DUTY_GRACE_S):
        _log.warning("work in the background outlived the stop")


def _about(workplace: Workplace, reloading: Reloading) -> Callable[[], Mapping[str, object]]:
    started_at = workplace.clock.now().isoformat(timespec="milliseconds")

    def about() -> Mapping[str, object]:
        return {
            "version": __version__,
            "process": os.getpid(),
            "started_at": started_at,
            "working": workplace.working,
            "configuration": as_data(reloading.last),
        }

    return about
