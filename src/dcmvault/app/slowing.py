"""Going slow for a while: a limit that holds from now on, survives restarts, and ends by itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from dcmvault.app.names import Names
from dcmvault.app.queue import destination_id_of
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.window_rates import rate_table
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.alert import Subject, SubjectKind
from dcmvault.model.identifiers import DestinationId
from dcmvault.model.live import Slowed
from dcmvault.model.sample import Figure

#: What is meant where nobody says for how long, and the longest.
HOUR = timedelta(hours=1)
_LONGEST = timedelta(days=7)
#: Slow is a quarter of what is usual: of the limit, else of the fastest minute of the last day.
_PART = 4
_PAST = timedelta(days=1)
#: Where neither is known; and never less than that (bytes per second).
_UNKNOWN = 1_000_000.0
_LEAST = 64_000.0


def go_slow(
    workplace: Workplace,
    destination: str,
    bytes_per_s: float | None = None,
    length: timedelta = HOUR,
) -> Slowed:
    """Limit what goes to a destination for a while, beside its usual limits; return the limit.

    In force within about a second, also in another process that works. Without a rate it is a
    quarter of the usual one. UsageError for a destination that was never sent to, and for what
    is no length or no rate.
    """
    if not timedelta(0) < length <= _LONGEST:
        raise UsageError(_("Going slow takes from a moment to seven days."))
    if bytes_per_s is not None and bytes_per_s < 1:
        raise UsageError(_("A limit is a byte per second or more; to stop, pause."))
    destination_id = destination_id_of(workplace, destination)
    now = workplace.clock.now()
    rate = bytes_per_s or slow_rate(workplace, destination, destination_id, now)
    slowed = Slowed(rate, now + length)
    workplace.catalogue.slowed.set_slowed(destination_id, slowed)
    return slowed


def full_speed(workplace: Workplace, destination: str) -> None:
    """End such a limit before its time; harmless where there is none."""
    workplace.catalogue.slowed.set_slowed(destination_id_of(workplace, destination), None)


def slow_rate(
    workplace: Workplace, destination: str, destination_id: DestinationId, now: datetime
) -> float:
    """Return the bytes per second that are slow for a destination."""
    names = Names(workplace.settings, workplace.catalogue.status.destinations)
    # Who names it by its address means the configured one, with its limit.
    name = names.destination(destination_id)
    known = name in workplace.settings.destinations
    section = workplace.settings.destination(name if known else destination).section
    limits = [
        table.rate_at(now.astimezone())
        for table in (
            rate_table(workplace.settings, section),
            workplace.settings.bandwidth.table(),
        )
    ]
    usual = min((rate for rate in limits if rate), default=None)
    if usual is None:
        subject = Subject(SubjectKind.DESTINATION, name)
        past = workplace.catalogue.samples.samples(60, now - _PAST, now, subject)
        usual = max((one.figures.get(Figure.BYTES_PER_S, 0.0) for one in past), default=0.0)
    return max(usual / _PART if usual else _UNKNOWN, _LEAST)
