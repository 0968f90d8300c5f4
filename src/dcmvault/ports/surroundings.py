"""What an adapter may use of the process that it works in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dcmvault.ports.clock import Clock
from dcmvault.ports.pacing import Pacing


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Given to what makes an adapter, also to that of a plug-in."""

    clock: Clock
    #: Returns what `env:NAME` or `file:PATH` refers to; ConfigurationError if it leads nowhere.
    secret: Callable[[str], str]
    #: How fast may be sent; None: as fast as it goes.
    pacing: Pacing | None = None
    #: Whether copies were stored at this destination before: then its place must not be made anew.
    holds_copies: Callable[[], bool] | None = None
