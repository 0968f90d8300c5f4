"""What is looked after now and then by who stays: certificates, plans, evidence, destinations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from dcmvault.app.alert_ends import with_reasons
from dcmvault.app.at_destinations import LastProbe
from dcmvault.app.known_status import known_status
from dcmvault.app.lateness import expectations
from dcmvault.app.monitoring import apply, thresholds_of
from dcmvault.app.names import Names
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.settings import Settings
from dcmvault.errors import DcmvaultError
from dcmvault.ports.destination import Probes
from dcmvault.telemetry import conditions
from dcmvault.telemetry.alerts import AlertMachine, Observation
from dcmvault.telemetry.certificates import ends_at

#: Between two looks; and between two looks at what takes longer and changes less.
EACH = timedelta(minutes=1)
_SELDOM = timedelta(hours=1)


class LookingAfter:
    """Raises and clears alerts of certificates, plans and evidence, as a function of the time."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._machine: AlertMachine | None = None
        self._seldom_at: datetime | None = None
        self._debts: list[Observation] = []

    def __call__(self, now: datetime) -> datetime:
        """Look once; return when to look again."""
        workplace = self._workplace
        alerts = workplace.catalogue.alerts
        if self._machine is None:
            mine = [one for one in alerts.open_alerts() if one.code in conditions.NOW_AND_THEN]
            self._machine = AlertMachine(mine)
        if self._seldom_at is None or not timedelta(0) <= now - self._seldom_at < _SELDOM:
            self._debts = list(_debts(workplace))
            self._seldom_at = now
        observations = [
            *_certificates(workplace.settings, now),
            *_overdue(workplace, now),
            *self._debts,
        ]
        try:
            changes = self._machine.look(now, observations, conditions.NOW_AND_THEN)
            settings = workplace.settings
            for change in with_reasons(changes, settings, certificate_files(settings)):
                apply(alerts, change)
        except BaseException:
            # What was not written down is found anew.
            self._machine = None
            raise
        return now + EACH


class Probing:
    """Tries whether destinations answer, one after the other, as a function of the time."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace

    def __call__(self, now: datetime) -> datetime:
        """Try each configured destination once; return when to try again."""
        workplace = self._workplace
        every_s = workplace.settings.monitoring.probe_every_s
        if not every_s:
            workplace.probed.forget()
            return now + _SELDOM
        known = {address: key for key, address in workplace.catalogue.status.destinations().items()}
        for name in workplace.settings.destinations:
            address = workplace.settings.destination(name).section.address
            # What was never delivered to can be no news.
            if address in known:
                began = workplace.clock.monotonic()
                failing = _failing_step(workplace, address)
                last = LastProbe(workplace.clock.now(), workplace.clock.monotonic() - began)
                workplace.probed.note(known[address], failing, last)
        return now + timedelta(seconds=every_s)


def _failing_step(workplace: Workplace, address: str) -> str:
    """Return the first step that fails on the way to a destination; empty if it answers."""
    try:
        destination = workplace.destination(address)
        if not isinstance(destination, Probes):
            return ""
        return next((step.name for step in destination.probe() if not step.ok), "")
    except DcmvaultError as error:
        return error.code


def _certificates(settings: Settings, now: datetime) -> Iterator[Observation]:
    limits = thresholds_of(settings.monitoring)
    for name, path in certificate_files(settings).items():
        end = ends_at(path)
        if end is not None:
            yield conditions.certificate(name, end, now, limits)


def certificate_files(settings: Settings) -> Mapping[str, Path]:
    """Return the files of our certificates, by the sections that name them."""
    sections: dict[str, object] = {
        name: section for name, section in settings if hasattr(section, "tls_certificate_file")
    }
    for name, source in settings.sources.items():
        sections[f"sources.{name}"] = source
    for name, destination in settings.destinations.items():
        sections[f"destinations.{name}"] = destination.section
    files = {name: getattr(one, "tls_certificate_file", "") for name, one in sections.items()}
    return {name: Path(file).expanduser() for name, file in files.items() if file}


def _overdue(workplace: Workplace, now: datetime) -> Iterator[Observation]:
    catalogue = workplace.catalogue
    notices = catalogue.notices
    expected = expectations(workplace.settings, notices, notices, catalogue.schedules, now)
    for name, one in expected.items():
        late_s = (now - one.until).total_seconds()
        yield conditions.run_overdue(name, late_s, one.last.isoformat() if one.last else "")


def _debts(workplace: Workplace) -> Iterator[Observation]:
    """Sum up what is owed at each destination whose evidence is not to grow too old."""
    if not any(one.oldest_s for one in workplace.settings.destinations.values()):
        return  # and nothing is counted, which takes a while where there is much
    names = Names(workplace.settings, workplace.catalogue.status.destinations)
    owed: dict[str, Counter[str]] = {}
    for view in known_status(workplace).views:
        for one in view.coverage:
            evidence = view.evidence[one.destination]
            if evidence.oldest_s:
                counts = owed.setdefault(names.destination(one.destination_id), Counter())
                counts["instances"] += evidence.debt.instances
                counts["studies"] += evidence.debt.studies
                counts["held"] += one.instances_held
    for name, counts in owed.items():
        yield conditions.verification_debt(
            name, counts["instances"], counts["studies"], counts["held"]
        )


def duties(workplace: Workplace) -> Mapping[str, Callable[[datetime], datetime]]:
    """Return what a process that stays does beside the work, by name."""
    return {"looking-after": LookingAfter(workplace), "probing": Probing(workplace)}
