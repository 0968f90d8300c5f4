"""Presence: what a destination named when it was asked what it has, remembered for a run."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from dcmvault.errors import AssociationLostError, DestinationError, DestinationUnreachableError
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.job import Job
from dcmvault.ports.destination import Listable

_log = logging.getLogger(__name__)

#: Series whose answers are kept; jobs of one series follow each other.
_KEPT = 400

_Question = tuple[DestinationId, RunId, str, str]


@dataclass(slots=True)
class Presence:
    """Asks a destination once per run and series what it has; shared by threads.

    A long series is delivered in hundreds of batches, and each answer names all of it. What we
    deliver ourselves meanwhile stands in the catalogue. After a failure the fate of what was in
    flight is unknown: `forget` has the destination asked anew.
    """

    _answers: OrderedDict[_Question, frozenset[str]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def instances(self, destination: Listable, job: Job) -> frozenset[str]:
        """Return the SOP Instance UIDs there of the job's series; none where that cannot be asked.

        Raises DestinationUnreachableError.
        """
        question = _question(job)
        with self._lock:
            answer = self._answers.get(question)
        if answer is None:
            try:
                answer = destination.instances(job.study_instance_uid, job.series_instance_uid)
            except AssociationLostError as error:
                # Nothing was in flight; it is the destination that does not answer.
                raise DestinationUnreachableError(error.message, hint=error.hint) from error
            except DestinationUnreachableError:
                raise
            except DestinationError as error:
                _log.info("a destination cannot be asked what it has: %s", error.code)
                return frozenset()
            with self._lock:
                self._answers[question] = answer
                while len(self._answers) > _KEPT:
                    self._answers.popitem(last=False)
        return answer

    def forget(self, jobs: Iterable[Job]) -> None:
        """Forget the answers about these jobs' series."""
        with self._lock:
            for job in jobs:
                self._answers.pop(_question(job), None)


def _question(job: Job) -> _Question:
    return (job.destination_id, job.run_id, job.study_instance_uid, job.series_instance_uid)
