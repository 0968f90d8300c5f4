"""One study of the catalogue, looked at closely."""

from __future__ import annotations

from typing import Protocol

from dcmvault.model.study_detail import (
    LedgerPage,
    LedgerPlace,
    Picture,
    StudyDetail,
    TimelineEvent,
)


class StudyDetails(Protocol):
    """Answers about single studies; none reads more than it shows, but for sums."""

    def detail(self, study_instance_uid: str) -> StudyDetail | None:
        """Return a study; None for one that is unknown or was not counted yet."""
        ...

    def ledger(
        self,
        study_instance_uid: str,
        *,
        series_instance_uid: str = "",
        problems_only: bool = False,
        after: LedgerPlace | None = None,
        limit: int = 100,
    ) -> LedgerPage:
        """Return some instances, of one series or all, with what is known of each copy.

        Problems are copies that are missing, damaged or a claim, and instances without any.
        """
        ...

    def picture(self, study_instance_uid: str, series_instance_uid: str) -> Picture | None:
        """Choose the instance that stands for a series: the middle one, in its newest content."""
        ...

    def timeline(self, study_instance_uid: str, limit: int = 200) -> list[TimelineEvent]:
        """List what happened, newest first."""
        ...
