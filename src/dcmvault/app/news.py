"""Who tells the news of an opened state folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, tzinfo

from dcmvault.app.alert_news import AlertReporter
from dcmvault.app.announcing import Announcer
from dcmvault.app.digests import Digests
from dcmvault.app.known_status import known_status
from dcmvault.app.messages import MessageWriter
from dcmvault.app.status import latest_drills
from dcmvault.app.telling import BuildNotifier, Teller
from dcmvault.app.wiring.notifiers import build_notifier
from dcmvault.app.wiring.workplace import Workplace


def teller_of(
    workplace: Workplace, *, build: BuildNotifier = build_notifier, zone: tzinfo | None = None
) -> Teller:
    """Make the teller of an opened state folder; nothing is told yet.

    `Teller.tell_due(now)` is a duty for a daemon. Days begin where `zone` says, else the machine.
    """
    settings, catalogue = workplace.settings, workplace.catalogue
    book = catalogue.notices
    announcer = Announcer(settings, book, book, catalogue.runs, catalogue.schedules)
    alerts = AlertReporter(catalogue.alerts, announcer.post)

    def figures() -> Mapping[str, object]:
        return {**well_being(workplace), "alerts": alerts.open_alerts()}

    return Teller(
        announcer,
        Digests(settings, book, book, figures, zone),
        alerts,
        book,
        MessageWriter(settings, catalogue.runs),
        workplace.clock,
        build,
    )


class NewsDuty:
    """Tells what is news, as a function of the time; by other settings once they are others."""

    def __init__(self, workplace: Workplace, *, build: BuildNotifier = build_notifier) -> None:
        self._workplace = workplace
        self._build = build
        self._settings = workplace.settings
        self._teller = teller_of(workplace, build=build)

    def __call__(self, now: datetime) -> datetime:
        """Tell what is due; return when to come again."""
        if self._settings is not self._workplace.settings:
            self._settings = self._workplace.settings
            self._teller = teller_of(self._workplace, build=self._build)
        return self._teller.tell_due(now)


@contextmanager
def telling(workplace: Workplace) -> Iterator[None]:
    """Tell news as they come while a command runs, and at the end what is left, for half a minute.

    What could not be told by then is told by the next command, or a daemon.
    """
    if not workplace.settings.notifications:
        yield
        return
    teller = teller_of(workplace)
    workplace.heard = teller.tell_soon
    try:
        yield
        teller.finish()
    finally:
        workplace.heard = None


def well_being(workplace: Workplace) -> Mapping[str, object]:
    """Return what verification is owed and when a restore was last proven, ready for JSON."""
    drills = [drill.drilled_at for drill in latest_drills(workplace) if drill.passed]
    return {
        "debt_studies": sum(
            evidence.debt.studies
            for view in known_status(workplace).views
            for evidence in view.evidence.values()
        ),
        "last_drill": max(drills).isoformat() if drills else None,
    }
