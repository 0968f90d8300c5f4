"""What the dashboard keeps in a catalogue, and asks of it, beside studies and work."""

from __future__ import annotations

from typing import Protocol

from dcmvault.ports.accounts import AccountBook, LinkBook, SessionBook
from dcmvault.ports.history import History
from dcmvault.ports.identities import IdentityBook
from dcmvault.ports.kept_counts import CountBook
from dcmvault.ports.notices import NewsCatalogue
from dcmvault.ports.restores import RestoreBook
from dcmvault.ports.schedules import QueueHolds, ScheduleBook, UnfinishedRuns


class DashboardCatalogue(Protocol):
    """Narrow ports, as opening a catalogue gives them."""

    @property
    def accounts(self) -> AccountBook:
        """Who may come in."""
        ...

    @property
    def identities(self) -> IdentityBook:
        """Who comes from a provider."""
        ...

    @property
    def sessions(self) -> SessionBook:
        """Who is in."""
        ...

    @property
    def links(self) -> LinkBook:
        """What leads in once."""
        ...

    @property
    def kept_counts(self) -> CountBook:
        """What took long to count."""
        ...

    @property
    def restores(self) -> RestoreBook:
        """Restores and drills."""
        ...

    @property
    def schedules(self) -> ScheduleBook:
        """Schedules."""
        ...

    @property
    def queue_holds(self) -> QueueHolds:
        """Queues in closed hours."""
        ...

    @property
    def unfinished(self) -> UnfinishedRuns:
        """Runs that have not ended."""
        ...

    @property
    def history(self) -> History:
        """What suggestions are made of."""
        ...

    @property
    def notices(self) -> NewsCatalogue:
        """What there is to tell."""
        ...
