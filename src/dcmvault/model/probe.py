"""Probes: the rungs of the ladder from a name to a working service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProbeStep:
    """One rung: what was tried, how it went, and what to do if it failed, or will one day."""

    name: str  #: resolve | connect | tls | associate | echo | folder | write ...
    ok: bool
    detail: str
    duration_s: float
    hint: str = ""
