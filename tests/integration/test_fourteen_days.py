"""Fourteen days of a practice: three plans, a change of clocks, an outage, a night asleep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault
from tests.integration.campaign_world import Days, Event, Gate, SetClock, gate

from dcmvault.app.schedule_duties import schedules_duty, windows_duty
from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.config.load import load_settings
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.testing.dicom_files import make_study

_BERLIN = ZoneInfo("Europe/Berlin")
_FIRST, _DAYS = "03-20", 14

_CONFIGURATION = """
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
cron = "30 2 * * *"
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
"""


def _at(text: str) -> datetime:
    """Return a time of the practice's clock in March or April 2026."""
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=_BERLIN).astimezone(UTC)


class _Practice:
    """Its studies; more every morning."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uids: dict[str, list[str]] = {"library": [], "research": []}

    def examine(self, day: int) -> None:
        """Make the studies of a day."""
        for source, uids in self.uids.items():
            made = make_study(self.folder / source / f"{day:02}", key=f"{source}{day}", instances=2)
            uids += [one.sop_instance_uid for one in made]


@contextmanager
def _fortnight(
    run_dcmvault: RunDcmvault, home: Path, folder: Path, shut: Gate
) -> Iterator[tuple[Days, _Practice]]:
    practice = _Practice(folder)
    practice.examine(0)
    assert run_dcmvault("vault", "init", f"vault:{folder}/vault", "--no-encryption").returncode == 0
    configuration = _CONFIGURATION.format(folder=folder, port=shut.port)
    (home / "config.toml").write_text(configuration, "utf-8")
    start = _at(_FIRST)
    events: list[Event] = [
        (start + timedelta(days=day, hours=10), partial(practice.examine, day + 1))
        for day in range(_DAYS - 1)
    ]
    events += [(_at("03-27 12:00"), shut.shut), (_at("03-29 12:00"), shut.open)]
    clock = SetClock(start)
    with open_workplace(home, load_settings(home / "config.toml")) as workplace:
        workplace.clock = clock
        assert workplace.work()
        yield (
            Days(
                workplace,
                clock,
                duties=[schedules_duty(workplace), windows_duty(workplace)],
                events=sorted(events, key=lambda event: event[0]),
                asleep=(_at("03-24 21:00"), _at("03-25 09:00")),
            ),
            practice,
        )


def _due_times(workplace: Workplace, schedule: str) -> Counter[datetime]:
    runs = workplace.catalogue.schedules.last_runs(schedule, 1000)
    assert all(run.settled and not run.problem for run in runs)
    return Counter(run.due_at for run in runs)


def _held(workplace: Workplace, source: str, destination: str) -> int:
    settings, catalogue = workplace.settings, workplace.catalogue
    return sum(
        1
        for _entry in catalogue.holdings.held_entries(
            catalogue.sources.source(settings.source(source).address),
            catalogue.plans.destination(settings.destination(destination).section.address),
            Level.COMPLETE,
        )
    )


@pytest.mark.peers
def test_fourteen_days(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path, orthanc: Orthanc
) -> None:
    """Every run that was expected happened once, and everything is held in the end."""
    with (
        gate(orthanc.host, orthanc.dicom_port) as shut,
        _fortnight(run_dcmvault, home, tmp_path, shut) as (days, practice),
    ):
        workplace, start = days.workplace, _at(_FIRST)
        days.until(_at("03-25 09:00"))
        # The machine has just woken: the vault has last night's studies, the PACS waits.
        assert _held(workplace, "library", "vault") == len(practice.uids["library"])
        assert _held(workplace, "library", "pacs") < len(practice.uids["library"])
        days.until(_at("03-25 18:00"))
        assert _held(workplace, "library", "pacs") > _held(workplace, "library", "vault") - 4
        days.until(start + timedelta(days=_DAYS) - timedelta(hours=1))

        nights = [start + timedelta(days=day) for day in range(_DAYS)]
        nightly = Counter(
            {
                # 2:30 is not shown by clocks on 29 March: it is due right after the gap.
                _at(
                    f"{night.astimezone(_BERLIN):%m-%d} 02:30" if night.day != 28 else "03-29 03:00"
                ): 2
                for night in nights
            }
        )
        assert _due_times(workplace, "nightly") == nightly
        assert _due_times(workplace, "weekly") == Counter([_at("03-22 03:00"), _at("03-29 03:00")])
        often = _due_times(workplace, "often")
        assert set(often.values()) == {1}
        # Each twelve hours, and once for what was missed asleep.
        assert len(often) == 2 * _DAYS - 1
        scheduled = {
            run.run_id
            for name in ("nightly", "weekly", "often")
            for run in workplace.catalogue.schedules.last_runs(name, 1000)
        }
        carried_out = workplace.catalogue.runs.runs(limit=1000)
        assert scheduled == {record.run_id for record in carried_out}

        failed = {run_id for run_id in scheduled if _failures(workplace, run_id)}
        down = {
            record.run_id
            for record in carried_out
            if _at("03-27 12:00") < record.created_at < _at("03-29 12:00")
            and any(one.address.startswith("dicom:") for one in record.request.destinations)
        }
        assert failed == down
        for source in ("library", "research"):
            made = len(practice.uids[source])
            assert _held(workplace, source, "vault") == made
            assert _held(workplace, source, "pacs") == made
        assert set(orthanc.instances()) == {u for uids in practice.uids.values() for u in uids}


def _failures(workplace: Workplace, run_id: RunId) -> int:
    return workplace.catalogue.runs.report(run_id, studies=False).counts.failed
