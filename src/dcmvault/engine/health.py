"""Whether this worker's work moves on, or its database takes nothing more (a full disk)."""

from __future__ import annotations

from collections import Counter

from sqlalchemy.exc import SQLAlchemyError

from dcmvault.engine.binding import Binding
from dcmvault.engine.ledger import Ledger

#: Looks, about a second apart, for which something may stand still; a busy database is no defect.
_PATIENT_LOOKS = 15
_EVERYTHING = "everything"


class Health:
    """Looks once per second for what should have moved: written ends, and work to be begun."""

    def __init__(self, ledger: Ledger, binding: Binding) -> None:
        self._ledger = ledger
        self._binding = binding
        self._looks: Counter[str] = Counter()
        self._ended_before: Counter[str] = Counter()

    def check(self) -> None:
        """Look once; the binding breaks down when something stood still for too long."""
        try:
            standing = {*self._binding.unwritten_ends(), *self._unbegun()}
        except SQLAlchemyError:
            self._note({*self._looks, _EVERYTHING})
            raise
        self._note(standing)

    def _unbegun(self) -> list[str]:
        """Name the queues that have work of which this worker neither does nor did any."""
        ended, self._ended_before = self._ended_before, Counter(self._binding.ended_in)
        return [
            queue
            for queue in self._ledger.claimable()
            if not self._binding.running_in[queue] and self._binding.ended_in[queue] == ended[queue]
        ]

    def _note(self, standing: set[str]) -> None:
        self._looks = Counter({name: self._looks[name] + 1 for name in standing})
        if any(looks > _PATIENT_LOOKS for looks in self._looks.values()):
            self._binding.break_down()
