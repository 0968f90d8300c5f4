"""Periods as people write them: from a date or time on, until another, or the last so long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from dcmvault.config.reverification import age_s
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _

_DATE = 10


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` on, and before `until`; aware, None where it is open."""

    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether no period was asked for."""
        return self.since is None and self.until is None

    @classmethod
    def asked(cls, since: str | None, until: str | None, last: str | None) -> Self:
        """Read what was asked; UsageError for what is no period."""
        if last:
            if since or until:
                raise UsageError(_("Write --last, or --since and --until."))
            try:
                seconds = age_s(last)
            except ValueError as error:
                raise UsageError(str(error)) from None
            now = datetime.now(UTC)
            return cls(now - timedelta(seconds=seconds), now)
        period = cls(_moment(since, ends=False), _moment(until, ends=True))
        if period.since and period.until and period.since >= period.until:
            raise UsageError(_("The period ends before it begins."))
        return period


def _moment(text: str | None, *, ends: bool) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            _("“%s” is neither a date nor a time.") % text,
            hint=_("Write it as 2026-01-31, 2026-01-31T18:00 or 2026-01-31T18:00+01:00."),
        ) from None
    try:
        if ends and len(text.strip()) == _DATE:
            found += timedelta(days=1)
        return found.astimezone(UTC)
    except (OverflowError, OSError, ValueError):
        raise UsageError(_("“%s” is neither a date nor a time.") % text) from None
