"""What is measured, as monitoring systems fetch it."""

from __future__ import annotations

from typing import Protocol


class Metrics(Protocol):
    """Gives figures as text."""

    def render(self) -> str:
        """Return the present figures in Prometheus' text format (version 0.0.4); no patient data.

        Called by several threads, often; cheap.
        """
        ...
