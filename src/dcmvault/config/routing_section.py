"""The section `[plans.NAME.routing]`: which of a plan's destinations get which study."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dcmvault.config.conditions import ConditionsSection
from dcmvault.config.options import Section

_Mode = Literal["mirror", "failover", "load-balance"]
ROUTING_MODES = ("mirror", "failover", "load-balance")


class RoutingRuleSection(ConditionsSection):
    """Where studies go of which the conditions hold."""

    #: Some of the plan's destinations, as the plan names them, the first one first.
    to: Annotated[tuple[str, ...], Field(min_length=1)]
    #: How they are spread over these.
    mode: _Mode = "mirror"

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        self.require_a_condition()
        return self


class RoutingSection(Section):
    """The first rule that holds says where a study goes; else all destinations, by `mode`."""

    #: `mirror`: to all. `failover`: to the first that can be reached, and to the first of all
    #: later. `load-balance`: each study to one, always the same.
    mode: _Mode = "mirror"
    #: Other ways for some studies.
    rules: tuple[RoutingRuleSection, ...] = ()
