"""Where the time of a run went, and what held it up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Bottleneck(StrEnum):
    """What held a run, or its part at a destination, up. The words are stored and documented."""

    #: Of the run as a whole: listing the source, and comparing it with the catalogue.
    SCAN = "scan"
    #: Reading files: the source's disk, or the peer that gives them.
    READ = "read"
    #: Encoding for a vault.
    ENCODE = "encode"
    #: The vault's store.
    WRITE = "write"
    #: The destination takes long to answer.
    ANSWERS = "answers"
    #: The way to the destination: bytes leave slowly.
    NETWORK = "network"
    #: The limit that was configured.
    BANDWIDTH = "bandwidth"
    #: Evidence.
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Advice:
    """One rule that fitted, with its figures."""

    bottleneck: Bottleneck
    #: Share of the time of what it was measured in, at most 1: then it was all of it, or ran in
    #: several places at once.
    share: float
    seconds: float
    #: Which figure of which whole: `wait` of `wait + send`, for example.
    part: str
    whole: str
    #: What the figure must reach for the rule to fit.
    threshold: float


@dataclass(frozen=True, slots=True)
class DestinationPerformance:
    """One destination's part."""

    name: str
    #: Seconds by stage at this destination.
    stages: Mapping[str, float]
    instances: int
    transferred_bytes: int
    #: By the seconds of reading and delivering; None where nothing was sent.
    bytes_per_s: float | None
    advice: Advice | None


@dataclass(frozen=True, slots=True)
class Performance:
    """A run's analysis."""

    stages: Mapping[str, float]
    destinations: tuple[DestinationPerformance, ...]
    #: What held the run up as a whole: the largest of all that fitted.
    advice: Advice | None
    #: Where, if it was at a destination.
    destination: str = ""
