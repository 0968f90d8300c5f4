"""What a destination is asked before anything is sent to it."""

from __future__ import annotations

import pytest

from dcmvault.errors import AssociationLostError, DestinationError, DestinationUnreachableError
from dcmvault.model.identifiers import DestinationId, JobId, RunId
from dcmvault.model.job import Job, JobState, Priority
from dcmvault.pipeline.presence import Presence

_JOB = Job(
    JobId("j"),
    RunId("r"),
    DestinationId(1),
    "1.2",
    "1.3",
    JobState.IN_PROGRESS,
    Priority.NORMAL,
    1,
    1,
    1,
)


class _Asked:
    def __init__(self, *answers: frozenset[str] | DestinationError) -> None:
        self._answers = list(answers)

    def instances(self, study_instance_uid: str, series_instance_uid: str = "") -> frozenset[str]:
        answer = self._answers.pop(0)
        if isinstance(answer, DestinationError):
            raise answer
        return answer


def test_an_association_that_ends_over_a_question_had_nothing_in_flight() -> None:
    # Else it would pass for an instance's own fate, and the batch be begun again for ever.
    with pytest.raises(DestinationUnreachableError) as raised:
        Presence().instances(_Asked(AssociationLostError("gone", hint="look")), _JOB)
    assert not isinstance(raised.value, AssociationLostError)
    assert (raised.value.message, raised.value.hint) == ("gone", "look")


def test_what_cannot_be_asked_is_not_there() -> None:
    assert Presence().instances(_Asked(DestinationError("no query")), _JOB) == frozenset()


def test_a_series_is_asked_for_once() -> None:
    presence, asked = Presence(), _Asked(frozenset({"1.2"}), frozenset())
    assert presence.instances(asked, _JOB) == presence.instances(asked, _JOB) == {"1.2"}
    presence.forget([_JOB])
    assert presence.instances(asked, _JOB) == frozenset()
