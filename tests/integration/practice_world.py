"""A practice and what happens to it in fourteen days; its daemon lives by a clock that is set."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from tests.integration.campaign_world import STEP, Days, Event, Gate, SetClock, WatchingDuty
from tests.integration.notify_world import USER, Mailbox

from dcmvault.app import monitoring_thread
from dcmvault.app.live import LiveWatch
from dcmvault.app.metrics import WorkplaceMetrics
from dcmvault.app.vault_keys import KeyRequest, add_key, keys_of, remove_key
from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.config.load import load_settings
from dcmvault.daemon.coverage import Coverage
from dcmvault.daemon.duties import NEWS, duties_of
from dcmvault.daemon.loops import Duty, Timetable
from dcmvault.daemon.reloading import Reloading
from dcmvault.model.evidence import Level
from dcmvault.testing.dicom_files import MadeInstance, make_study
from dcmvault.web.event_stream import EventStream

BERLIN = ZoneInfo("Europe/Berlin")
#: What the machine's clocks show, for the C library; it needs no database of time zones.
MACHINE_ZONE = "CET-1CEST,M3.5.0,M10.5.0/3"
DAYS = 14
START, END = "03-20 00:00", "04-02 23:00"
#: Stands in all names, identifiers and folders of patients.
CANARY = "ZQCANARY"
OLD, NEW = "an old passphrase of the vault", "a new passphrase of the vault"
MAIL_NEW = "Spring-has-come-42"
SLEEP = ("03-24 21:00", "03-25 09:00")
DOWN = ("03-27 12:00", "03-29 12:00")
LOCKED_OUT = ("03-31 10:00", "04-01 09:00")
MAIL_REFUSED = ("03-25 20:00", "03-26 20:00")
_FILLING, _CLEANED = "03-22 10:00", "03-23 11:00"
#: Bytes that are free: at first, and how much less each hour of the day it fills.
_ROOM, _AT_FIRST, _LESS, _LITTLE = 10**12, 30 * 10**9, 14 * 10**8, 5 * 10**8

CONFIGURATION = """
[retry]
wait_s = 0

[sources.library]
address = "{folder}/library"
[sources.research]
address = "{folder}/research"

[destinations.pacs]
address = "dicom://ORTHANC@127.0.0.1:{port}"
[destinations.vault]
address = "vault:{folder}/vault"
passphrase = "file:{folder}/vault.passphrase"

[plans.nightly]
sources = ["library", "research"]
destinations = ["pacs", "vault"]
[plans.often]
sources = ["research"]
destinations = ["vault"]
[plans.weekly]
sources = ["library"]
destinations = ["pacs"]
strategy = "full"

[schedules.nightly]
plan = "nightly"
cron = "0 2 * * *"
time_zone = "Europe/Berlin"
window = "office"
[schedules.often]
plan = "often"
every = "12h"
[schedules.weekly]
plan = "weekly"
cron = "0 3 * * sun"
time_zone = "Europe/Berlin"
window = "office"

[windows.office]
time_zone = "Europe/Berlin"
closed = [{{days = "mon-fri", from = "08:00", to = "18:00"}}]

[notifications.office]
channel = "mail"
host = "127.0.0.1"
port = {mail_port}
security = "none"
user = "{user}"
password = "file:{folder}/mail.password"
sender = "backup@practice.test"
to = ["office@practice.test"]
events = ["run_incomplete", "run_failed", "alert", "overdue", "digest", "weekly"]
[notifications.physician]
channel = "mail"
host = "127.0.0.1"
port = {mail_port}
security = "none"
user = "{user}"
password = "file:{folder}/mail.password"
sender = "backup@practice.test"
to = ["physician@practice.test"]
events = ["run_incomplete", "run_failed"]
privacy = "full"
"""


def at(text: str) -> datetime:
    """Return a time of the practice's clock in March or April 2026."""
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=BERLIN).astimezone(UTC)


class DiskUsage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


@dataclass
class Practice:
    """Its studies, more every morning; its secrets and its disk."""

    folder: Path
    free: int = _ROOM
    made: dict[str, list[MadeInstance]] = field(
        default_factory=lambda: {"library": [], "research": []}
    )

    def examine(self, day: int) -> None:
        """Make the studies of a day."""
        for source, made in self.made.items():
            made += make_study(
                self.folder / source / f"{day:02}-{CANARY}",
                key=f"{source}{day}",
                instances=2,
                patient_name=f"{CANARY}{day}^Jane",
                patient_id=f"ID-{CANARY}-{day}",
            )

    def write(self, name: str, secret: str) -> None:
        """Write a secret where the configuration refers to."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(secret, "utf-8")

    def disk_usage(self, _path: object) -> DiskUsage:
        """Say how full all disks are."""
        total = 2 * 10**12
        return DiskUsage(total, total - self.free, self.free)

    def of_patients(self) -> set[str]:
        """Return all that must not leave: names, identifiers, dates of birth, words and paths."""
        return {CANARY, str(self.folder), "19700131", "Synthetic study"}

    def uids(self) -> set[str]:
        """Return what only reports name, so that somebody finds the study they tell of."""
        found = set()
        for one in (one for made in self.made.values() for one in made):
            found |= {one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid}
        return found


@dataclass
class Scraper:
    """Asks for the metrics every six hours, as Prometheus does more often."""

    metrics: WorkplaceMetrics
    pages: dict[datetime, str] = field(default_factory=dict)

    def __call__(self, now: datetime) -> datetime:
        """Ask once; never at a time at which an alert is raised or cleared."""
        first = at("03-20 04:00")
        if now < first:
            return first
        self.pages[now] = self.metrics.render()
        each = timedelta(hours=6)
        return first + ((now - first) // each + 1) * each


@dataclass
class Fortnight:
    """All of it at work."""

    workplace: Workplace
    practice: Practice
    days: Days
    mailbox: Mailbox
    scraper: Scraper

    def made(self, source: str) -> set[Path]:
        """Return the files of a source."""
        return {one.path for one in self.practice.made[source]}

    def held(self, source: str, destination: str) -> set[Path]:
        """Return the files of a source that a destination is known to hold."""
        settings, catalogue = self.workplace.settings, self.workplace.catalogue
        entries = catalogue.holdings.held_entries(
            catalogue.sources.source(settings.source(source).address),
            catalogue.plans.destination(settings.destination(destination).section.address),
            Level.COMPLETE,
        )
        return {self.practice.folder / source / one.locator for one in entries}


@contextmanager
def fortnight(
    home: Path,
    folder: Path,
    shut: Gate,
    mailbox: Mailbox,
    patch: pytest.MonkeyPatch,
    make_vault: Callable[[], None],
) -> Iterator[Fortnight]:
    """Open the practice with its daemon's duties; time stands at the beginning."""
    practice = Practice(folder)
    practice.examine(0)
    practice.write("vault.passphrase", OLD)
    practice.write("mail.password", mailbox.password)
    patch.setattr(shutil, "disk_usage", practice.disk_usage)
    patch.setattr(monitoring_thread, "MonitoringThread", WatchingDuty)
    written = CONFIGURATION.format(folder=folder, port=shut.port, mail_port=mailbox.port, user=USER)
    (home / "config.toml").write_text(written, "utf-8")
    make_vault()
    settings = load_settings(home / "config.toml")
    clock = SetClock(at(START))
    with open_workplace(home, settings) as workplace:
        workplace.clock = clock
        assert workplace.work()
        stream, scraper = EventStream(), Scraper(WorkplaceMetrics(lambda: workplace))
        reloading = Reloading(
            home / "config.toml", settings, workplace.adopt, lambda _reloaded: None, stream
        )
        watching: object = workplace._watch
        assert isinstance(watching, WatchingDuty)
        duties = duties_of(
            workplace, stream, Coverage(workplace), reloading, LiveWatch(workplace), None
        )
        timetable = Timetable([*duties, Duty("monitoring", watching), Duty("scraper", scraper)])
        workplace.heard = partial(timetable.hasten, NEWS)
        events = _events(practice, shut, mailbox, workplace)
        days = Days(
            workplace,
            clock,
            timetable,
            following=("schedules", "windows", NEWS, "monitoring"),
            events=sorted(events, key=lambda event: event[0]),
            asleep=(at(SLEEP[0]), at(SLEEP[1])),
        )
        try:
            yield Fortnight(workplace, practice, days, mailbox, scraper)
        finally:
            stream.close()


def _events(
    practice: Practice, shut: Gate, mailbox: Mailbox, workplace: Workplace
) -> Iterator[Event]:
    """Say what happens when."""
    for day in range(DAYS - 1):
        yield at(START) + timedelta(days=day, hours=10), partial(practice.examine, day + 1)
    yield at(DOWN[0]), shut.shut
    yield at(DOWN[1]), shut.open
    for number in range(25):
        left = max(_AT_FIRST - number * _LESS, _LITTLE)
        yield at(_FILLING) + number * STEP, partial(setattr, practice, "free", left)
    yield at(_CLEANED), partial(setattr, practice, "free", _ROOM)
    yield at(MAIL_REFUSED[0]), partial(setattr, mailbox, "password", MAIL_NEW)
    yield at(MAIL_REFUSED[1]), partial(practice.write, "mail.password", MAIL_NEW)
    yield at(LOCKED_OUT[0]), partial(_rotate, workplace, practice)
    yield at(LOCKED_OUT[1]), partial(practice.write, "vault.passphrase", NEW)


def _rotate(workplace: Workplace, practice: Practice) -> None:
    """Change the passphrase of the vault, and forget the file that the daemon reads it from."""
    settings = workplace.settings
    [old] = [slot.holder.slot for slot in keys_of(settings, "vault").slots]
    add_key(settings, "vault", KeyRequest(passphrase=NEW), "from April on")
    practice.write("vault.passphrase", NEW)
    remove_key(settings, "vault", old)
    practice.write("vault.passphrase", OLD)


def alerts_of(page: str) -> Mapping[tuple[str, str], float]:
    """Read the alerts of a page of metrics: (code, subject) and the value."""
    found = {}
    for line in page.splitlines():
        if line.startswith("dcmvault_alert{"):
            labels, value = line.removeprefix("dcmvault_alert{").split("} ")
            pairs = dict(pair.split("=") for pair in labels.split(","))
            key = (pairs["code"].strip('"'), pairs["subject"].strip('"'))
            found[key] = float(value)
    return found
