"""Routing: which of a plan's destinations get which study."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dcmvault.model.classification import Conditions


class RoutingMode(StrEnum):
    """How the studies that are meant are spread over several destinations."""

    #: Every destination gets every study.
    MIRROR = "mirror"
    #: The first that can be reached gets it; the first of all gets it later in any case.
    FAILOVER = "failover"
    #: Each study goes to one of them, always the same one.
    LOAD_BALANCE = "load-balance"


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """Where studies go of which the conditions hold."""

    conditions: Conditions
    #: Addresses of destinations of the run, the first one first.
    to: tuple[str, ...]
    mode: RoutingMode = RoutingMode.MIRROR


@dataclass(frozen=True, slots=True)
class Routing:
    """The first rule that holds says where a study goes; else all destinations, by `mode`."""

    mode: RoutingMode = RoutingMode.MIRROR
    rules: tuple[RoutingRule, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether every destination gets everything."""
        return self.mode is RoutingMode.MIRROR and not self.rules


MIRROR = Routing()


@dataclass(frozen=True, slots=True)
class Diversion:
    """A study that went elsewhere, and why."""

    study_instance_uid: str
    destination: str
    instead_of: str
    why: str
