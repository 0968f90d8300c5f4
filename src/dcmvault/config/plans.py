"""Plans: what is backed up from where to where, under one name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dcmvault.config.options import Section
from dcmvault.config.reverification import EvidenceAge, age_s
from dcmvault.config.routing_section import RoutingSection
from dcmvault.model.evidence import Level
from dcmvault.model.job import Priority
from dcmvault.model.plan import Strategy

#: Words of the configuration and the command line, weakest or lowest first.
LEVEL_WORDS = tuple(level.word for level in Level if level is not Level.NONE)
PRIORITY_WORDS = tuple(priority.name.lower() for priority in Priority)
STRATEGY_WORDS = tuple(strategy.value for strategy in Strategy)

#: Names or addresses, at least one.
_Places = Annotated[tuple[str, ...], Field(min_length=1)]


class PlanSection(Section):
    """What `dcmvault run NAME` does: each source in turn to every destination."""

    #: Configured names, or addresses.
    sources: _Places
    #: Configured names, or addresses.
    destinations: _Places
    #: The level asked of every destination; empty: each destination's own.
    level: Literal["", "sent", "present", "complete", "committed", "proven"] = ""
    strategy: Literal["full", "incremental", "differential", "smart"] = "incremental"
    #: Place in the destinations' queues.
    priority: Literal["low", "normal", "high", "urgent", "emergency"] = "normal"
    #: Files that are not DICOM are backed up too.
    include_other_files: bool = False
    #: Studies that go to each destination in one run, at most; 0: all that are due.
    max_studies: int = Field(default=0, ge=0)
    #: Which destinations get which study.
    routing: RoutingSection = RoutingSection()
    #: It is overdue when it did not succeed for so long (“26h”, “2d”); empty: as its schedule says.
    expected_every: EvidenceAge = ""

    @property
    def period_s(self) -> int:
        """How often it is to succeed (seconds); 0: that is not said."""
        return age_s(self.expected_every) if self.expected_every else 0
