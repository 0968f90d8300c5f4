"""Concurrency: how many deliveries a destination gets at once, from what more of them brought.

A pure function of samples, so that it can be tested on made-up links. More deliveries hide the
waits for answers, until the peer or the line is full; from then on they only cost the peer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: A further delivery pays when goodput grows by this much of what an equal share would bring.
_WORTH = 0.25
#: Fewer deliveries are as good when they bring this share of what one more did.
_AS_GOOD = 0.97
#: Goodput that falls to this share of what it was: the line or the peer is not what it was.
_CHANGED = 0.6
#: Samples for which a number is kept before a larger one is tried again: at first, and at most.
_PATIENCE = 12
_LONGEST_PATIENCE = 96
#: Of a sample, in what is remembered of its number of deliveries.
_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """What a number of simultaneous deliveries moved, over a while in which it did not change."""

    deliveries: int
    #: Per second: bytes, and for each instance what its overhead is worth in bytes.
    goodput: float


@dataclass(slots=True)
class ConcurrencyController:
    """Raises the number of deliveries while that pays, and lowers it in trouble."""

    #: At first; people know their network when they say it, and nobody has to.
    start: int
    #: Never more.
    most: int
    target: int = field(init=False)
    _goodput: dict[int, float] = field(default_factory=dict)
    _patience: int = _PATIENCE
    _resting: int = 0
    _lowering: bool = False
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
            self._resting = 0
            return here
        known = sample.goodput if before is None else before + _SHARE * (sample.goodput - before)
        self._goodput[here] = known
        if self._resting > 0:
            self._resting -= 1
            return here
        if self._lowering:
            self._go_on_lowering(known)
            return self.target
        below = self._goodput.get(here - 1)
        if below is not None and known < below * (1 + _WORTH / (here - 1)):
            self.target = here - 1
            # Perhaps fewer yet do as well: where people began with too many.
            self._lowering = True
        else:
            self._step_up()
        return self.target

    def trouble(self) -> int:
        """Lower the target: an association was refused or lost, or the peer is out of room."""
        self._ceiling = self.target
        self.target = max(1, self.target // 2)
        self._lowering = False
        self._rest()
        return self.target

    def _step_up(self) -> None:
        highest = self.most if self._ceiling is None else max(1, self._ceiling - 1)
        if self.target < highest:
            self.target += 1
            self._goodput.pop(self.target, None)
        else:
            self._rest()
            self._ceiling = None

    def _go_on_lowering(self, known: float) -> None:
        above = self._goodput.get(self.target + 1)
        if above is not None and known < _AS_GOOD * above:
            self.target += 1
        elif self.target > 1 and self._goodput.get(self.target - 1, known) >= _AS_GOOD * known:
            self.target -= 1
            return
        self._lowering = False
        self._rest()

    def _rest(self) -> None:
        self._resting = self._patience
        self._patience = min(self._patience * 2, _LONGEST_PATIENCE)
