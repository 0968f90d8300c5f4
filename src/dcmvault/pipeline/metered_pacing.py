"""Bytes counted where they are paced: whoever sends asks there, byte for byte, before they go."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from dcmvault.model.job import Priority
from dcmvault.ports.metering import Meter
from dcmvault.ports.pacing import Pacer, Pacing

#: Without a limit nothing is cut: as much as any sender has in hand at once, or more.
_UNCUT = 1 << 30


@dataclass(frozen=True, slots=True)
class MeteredPacing:
    """Implements `ports.pacing.Pacing`: what goes is counted, and limited if there is a limit."""

    meter: Meter
    destination: str
    limits: Pacing | None

    def pacer(self, priority: Priority) -> Pacer:
        """Return what paces work of this priority."""
        inner = None if self.limits is None else self.limits.pacer(priority)
        return _MeteredPacer(self.meter, self.destination, inner)

    def joint_pacer(self) -> Pacer:
        """Return what paces bytes that belong to several deliveries."""
        inner = None if self.limits is None else self.limits.joint_pacer()
        return _MeteredPacer(self.meter, self.destination, inner)

    def at_work(self, priority: Priority) -> AbstractContextManager[None]:
        """Say that a delivery of this priority is at work, until the context is left."""
        return nullcontext() if self.limits is None else self.limits.at_work(priority)


@dataclass(frozen=True, slots=True)
class _MeteredPacer:
    meter: Meter
    destination: str
    inner: Pacer | None

    @property
    def piece(self) -> int:
        return _UNCUT if self.inner is None else self.inner.piece

    def take(self, size: int) -> None:
        if self.inner is not None:
            self.inner.take(size)
        self.meter.moved(self.destination, size)
