"""What the API works with: the state folder that the daemon opened, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Protocol, cast

from fastapi import Depends, Request

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.model.live import Live
from dcmvault.model.overview import Overview
from dcmvault.ports.metrics import Metrics
from dcmvault.web.background import Background
from dcmvault.web.doors import Doors
from dcmvault.web.event_stream import EventStream


class OverviewLook(Protocol):
    """Looks at how everything is, once a second for all who ask."""

    def __call__(self, *, anew: bool = False) -> Overview:
        """Return it; with `anew` not what was seen before."""
        ...


class LiveLook(Protocol):
    """Looks at what goes on now, once a second for all who ask."""

    def __call__(self, *, anew: bool = False) -> Live:
        """Return it; with `anew` not what was seen before."""
        ...


@dataclass(frozen=True, slots=True)
class Backstage:
    """What is behind the API."""

    workplace: Workplace
    metrics: Metrics
    events: EventStream
    #: Sources with their coverage, JSON-able, and when they were counted: quick to ask for.
    coverage: Callable[[], tuple[Sequence[Mapping[str, object]], datetime]]
    #: What the daemon says of itself, JSON-able.
    about: Callable[[], Mapping[str, object]]
    doors: Doors
    #: How everything is, put together once a second for all who ask.
    overview: OverviewLook
    #: What goes on now; `anew` after something was steered.
    live: LiveLook
    #: Whoever makes this closes it.
    background: Background = field(default_factory=Background)


def _backstage(request: Request) -> Backstage:
    return cast(Backstage, request.app.state.backstage)


#: How a request gets it.
Behind = Annotated[Backstage, Depends(_backstage)]
