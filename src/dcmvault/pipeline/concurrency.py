"""Concurrency: how many deliveries a destination gets at once, from what more of them brought.

A pure function of samples, so that it can be tested on made-up links. More deliveries hide the
waits for answers, until the peer or the line is full; from then on they only cost the peer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

#: Goodput of one more delivery that is worth a further one, as a share of what there was: at first
#: not less than before, later as much of an equal share as this.
_NO_WORSE = 0.97
_WORTH = 0.25
#: Goodput that falls to this share of what it was: the line or the peer is not what it was.
_CHANGED = 0.6
#: Samples for which a number is kept before a larger one is tried again: at first, and at most.
_PATIENCE = 12
_LONGEST_PATIENCE = 96
#: Samples that a smaller number is judged by: one too few costs more than one too many.
_FOR_FEWER = 2
#: Of a sample, in what is remembered of its number of deliveries.
_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """What a number of simultaneous deliveries moved, over a while in which it did not change."""

    deliveries: int
    #: Per second: bytes, and for each instance what its overhead is worth in bytes.
    goodput: float


class _Phase(Enum):
    """What the next samples are for."""

    #: Up from the start, as long as it gets no worse.
    CLIMBING = auto()
    #: Down, as long as fewer bring as much as the best.
    LOWERING = auto()
    #: Nothing is tried for a while.
    RESTING = auto()
    #: One more, to stay only if it pays.
    TRYING = auto()


@dataclass(slots=True)
class ConcurrencyController:
    """Raises the number of deliveries while that pays, and lowers it in trouble."""

    #: At first; people know their network when they say it, and nobody has to.
    start: int
    #: Never more.
    most: int
    target: int = field(init=False)
    _phase: _Phase = _Phase.CLIMBING
    _goodput: dict[int, float] = field(default_factory=dict)
    #: Samples of the present number, since it was the target.
    _seen: int = 0
    _patience: int = _PATIENCE
    #: Trouble came at this number.
    _ceiling: int | None = None

    def __post_init__(self) -> None:
        self.target = max(1, min(self.start, self.most))

    def observe(self, sample: Sample) -> int:
        """Take a sample of `target` deliveries (others are passed over); return the next target."""
        here = self.target
        if sample.deliveries != here or sample.goodput <= 0:
            return here
        before = self._goodput.get(here)
        if before is not None and sample.goodput < _CHANGED * before:
            # Another line, or a busier peer: what was learned at other numbers is not true now.
            self._goodput = {here: sample.goodput}
            self._enter(_Phase.CLIMBING, here)
            return here
        known = sample.goodput if before is None else before + _SHARE * (sample.goodput - before)
        self._goodput[here] = known
        self._seen += 1
        if self._phase is _Phase.CLIMBING:
            self._climb(known)
        elif self._phase is _Phase.LOWERING:
            self._lower(known)
        elif self._phase is _Phase.TRYING:
            self._judge(known)
        elif self._seen >= self._patience:
            self._patience = min(self._patience * 2, _LONGEST_PATIENCE)
            self._go(_Phase.TRYING, here + 1)
        return self.target

    def trouble(self) -> int:
        """Lower the target: an association was refused or lost, or the peer is out of room."""
        if self._phase is _Phase.RESTING and self._ceiling is not None and not self._seen:
            return self.target  # of the same event: several deliveries end at once
        self._ceiling = self.target
        self._enter(_Phase.RESTING, max(1, self.target // 2))
        return self.target

    def _climb(self, known: float) -> None:
        is_worse = known < _NO_WORSE * max(self._goodput.values())
        if is_worse or not self._go(_Phase.CLIMBING, self.target + 1):
            self._go_lower()

    def _lower(self, known: float) -> None:
        if self._seen < _FOR_FEWER:
            return
        if known < _NO_WORSE * max(self._goodput.values()):
            self._enter(_Phase.RESTING, self.target + 1)
        else:
            self._go_lower()

    def _judge(self, known: float) -> None:
        below = self._goodput.get(self.target - 1, 0.0)
        if known < below * (1 + _WORTH / (self.target - 1)):
            self._enter(_Phase.RESTING, self.target - 1)
        else:
            self._patience = _PATIENCE
            self._go(_Phase.TRYING, self.target + 1)

    def _go_lower(self) -> None:
        """Try one fewer, unless that was seen to bring less."""
        fewer = self.target - 1
        best = max(self._goodput.values())
        if fewer < 1 or self._goodput.get(fewer, best) < _NO_WORSE * best:
            self._enter(_Phase.RESTING, self.target)
        else:
            self._enter(_Phase.LOWERING, fewer)

    def _go(self, phase: _Phase, target: int) -> bool:
        """Try more, if that is allowed; else rest."""
        highest = self.most if self._ceiling is None else max(1, self._ceiling - 1)
        if target > highest:
            # Whatever the trouble was, it may be over by the next time.
            self._ceiling = None
            self._enter(_Phase.RESTING, self.target)
            return False
        self._goodput.pop(target, None)
        self._enter(phase, target)
        return True

    def _enter(self, phase: _Phase, target: int) -> None:
        self._phase, self.target, self._seen = phase, target, 0
