"""The matrix of studies and destinations: counted beside the flow, and asked by pages."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Protocol

from dcmvault.model.identifiers import DestinationId
from dcmvault.model.study_matrix import (
    MatchedStudies,
    SavedView,
    StudyLine,
    StudyOrder,
    StudyPage,
    StudyPlace,
    StudyQuery,
)


class StudyMatrix(Protocol):
    """Questions about studies and their copies, answered from counts.

    Counts follow changes: a change is noted in its own transaction, and `recount` takes note. A
    study that was never counted is in no answer; `StudyPage.uncounted` says how many wait.
    """

    def page(
        self,
        query: StudyQuery,
        *,
        order: StudyOrder = StudyOrder.DATE,
        descending: bool = True,
        place: StudyPlace | None = None,
        limit: int = 50,
    ) -> StudyPage:
        """Return some studies. A place stays where it is, whatever is added or removed."""
        ...

    def matched(self, query: StudyQuery) -> MatchedStudies:
        """Count what a query means."""
        ...

    def named(self, query: StudyQuery, source: str = "", at: str = "") -> Iterator[Sequence[str]]:
        """Yield the Study Instance UIDs of what matches, some hundred at a time, in order.

        Only those that a source has now, or of which a destination has anything; both by address.
        """
        ...

    def lines(
        self, query: StudyQuery, *, order: StudyOrder = StudyOrder.DATE, descending: bool = True
    ) -> Iterator[StudyLine]:
        """Yield all studies that match, in order; what changes meanwhile may be in it or not."""
        ...

    def modalities(self) -> Sequence[str]:
        """List the modalities that there are."""
        ...

    def recount(self, now: datetime, *, instances: int = 20_000) -> int:
        """Count studies that changed anew, about so many instances; return how many wait still.

        A large study is not counted again at once, however often it changes. Several processes
        may do so at the same time.
        """
        ...

    def know_holds(self, destination_id: DestinationId, study_uids: Collection[str]) -> None:
        """Write down which studies a vault keeps under legal hold: these, and no others."""
        ...


class ViewBook(Protocol):
    """Saved views, each account's own."""

    def views(self, account: str) -> list[SavedView]:
        """List an account's views by name."""
        ...

    def save_view(self, view: SavedView) -> None:
        """Write a view, over one of the same name; ValueError beyond 100 of one account."""
        ...

    def remove_view(self, account: str, name: str) -> None:
        """Remove a view; nothing happens where there is none."""
        ...
