"""The sections `[classification]` and `[[rules]]`: which studies matter more than others."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from dcmvault.config.conditions import ConditionsSection
from dcmvault.config.options import Section
from dcmvault.i18n import gettext as _
from dcmvault.model.classification import ClassificationRule
from dcmvault.model.job import Priority

_PriorityWord = Literal["low", "normal", "high", "urgent", "emergency"]
#: A rule may move a study by so many steps.
_MOST_STEPS = 3


class RuleSection(ConditionsSection):
    """One rule: the first with a priority that fires decides; every raise is added."""

    #: What `--explain` calls it.
    name: str = Field(min_length=1, max_length=60)
    #: What the study gets.
    priority: _PriorityWord | None = None
    #: Instead of a priority: steps that are added to what another rule gave; negative ones lower.
    raises: int = Field(default=0, alias="raise", ge=-_MOST_STEPS, le=_MOST_STEPS)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if (self.priority is None) == (self.raises == 0):
            raise ValueError(_("A rule has either “priority” or “raise”."))
        self.require_a_condition()
        return self

    @property
    def rule(self) -> ClassificationRule:
        """The rule as a value."""
        priority = None if self.priority is None else Priority[self.priority.upper()]
        return ClassificationRule(self.name, self.conditions, priority, self.raises)


class ClassificationSection(Section):
    """How rules are put to work."""

    #: dcmvault's own rules follow those of the configuration.
    built_in: bool = True
    #: The priority of a study to which no rule gave one.
    otherwise: _PriorityWord = "normal"
    #: What people move in queues, and restore, moves studies like these by one step.
    learn: bool = True

    @property
    def otherwise_priority(self) -> Priority:
        """The priority of a study to which no rule gave one."""
        return Priority[self.otherwise.upper()]
