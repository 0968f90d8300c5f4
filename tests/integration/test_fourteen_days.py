"""Fourteen days of a practice: three plans, and nearly everything that goes wrong in a year.

The clocks change, a destination is down for two days, the laptop sleeps for a night, a disk fills,
two passwords are changed and forgotten to be told. The duties are the daemon's own, the vault, the
PACS and the mail server are real; what was to happen stands in tables that nobody computes.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault
from tests.integration.campaign_world import STEP, gate
from tests.integration.notify_world import mail_server
from tests.integration.practice_world import (
    CANARY,
    DOWN,
    END,
    LOCKED_OUT,
    MACHINE_ZONE,
    MAIL_REFUSED,
    SLEEP,
    Fortnight,
    alerts_of,
    at,
    fortnight,
)

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.model.alert import AlertChange
from dcmvault.model.identifiers import RunId

#: When each plan is due, by the clock of the practice, and when its runs began if later: asleep.
_NIGHTS = [
    "03-20 02:00",
    "03-21 02:00",
    "03-22 02:00",
    "03-23 02:00",
    "03-24 02:00",
    "03-25 02:00",
    "03-26 02:00",
    "03-27 02:00",
    "03-28 02:00",
    # No clock shows 2:00 in this night.
    "03-29 03:00",
    "03-30 02:00",
    "03-31 02:00",
    "04-01 02:00",
    "04-02 02:00",
]
_SUNDAYS = ["03-22 03:00", "03-29 03:00"]
#: Each twelve hours, counted from the beginning: a change of clocks is no change for them.
_TWICE_A_DAY = [
    *("03-20 12:00", "03-21 00:00", "03-21 12:00", "03-22 00:00", "03-22 12:00", "03-23 00:00"),
    *("03-23 12:00", "03-24 00:00", "03-24 12:00", "03-25 00:00", "03-25 12:00", "03-26 00:00"),
    *("03-26 12:00", "03-27 00:00", "03-27 12:00", "03-28 00:00", "03-28 12:00", "03-29 00:00"),
    *("03-29 13:00", "03-30 01:00", "03-30 13:00", "03-31 01:00", "03-31 13:00", "04-01 01:00"),
    *("04-01 13:00", "04-02 01:00", "04-02 13:00"),
]
_SLEPT_OVER = {"03-25 00:00", "03-25 02:00"}
#: Runs that could not do all: when they began, and how many.
_INCOMPLETE = [
    *(("03-28 02:00", 2), ("03-29 03:00", 3)),
    # The vault is locked.
    *(("03-31 13:00", 1), ("04-01 01:00", 1), ("04-01 02:00", 2)),
]
#: What is raised and cleared, each once, at most a step later.
_ALERTS = [
    ("disk_low", "state", "03-23 07:00", "03-23 11:00"),
    ("destination_down", "pacs", DOWN[0], DOWN[1]),
    # Without success until it is due for the second time.
    ("run_overdue", "nightly", "03-29 03:00", "03-30 02:00"),
    ("destination_down", "vault", LOCKED_OUT[0], LOCKED_OUT[1]),
    # It succeeded last at 2:00 in the night before: the other plan backs up the same there.
    ("run_overdue", "often", "04-01 02:00", "04-01 13:00"),
]
_DIGESTS = [
    *("03-20 07:00", "03-21 07:00", "03-22 07:00", "03-23 07:00", "03-24 07:00", "03-25 07:00"),
    *("03-26 07:00", "03-27 07:00", "03-28 07:00", "03-29 07:00", "03-30 07:00", "03-31 07:00"),
    *("04-01 07:00", "04-02 07:00"),
]
_MONDAYS = ["03-23 07:00", "03-30 07:00"]


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", MACHINE_ZONE)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.peers
@pytest.mark.usefixtures("in_berlin")
@pytest.mark.timeout(1800)
def test_fourteen_days(
    run_dcmvault: RunDcmvault,
    home: Path,
    tmp_path: Path,
    orthanc: Orthanc,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every run happened once, every trouble was told once, and everything is held in the end."""

    def make_vault() -> None:
        made = run_dcmvault("vault", "init", "vault")
        assert made.returncode == 0, made.stdout + made.stderr

    with (
        gate(orthanc.host, orthanc.dicom_port) as shut,
        mail_server(security="none") as mailbox,
        fortnight(home, tmp_path, shut, mailbox, monkeypatch, make_vault) as world,
    ):
        _live_through(world)
        _assert_that_runs_happened_once(world)
        _assert_that_all_is_held(world, orthanc)
        _assert_that_trouble_was_told_once(world)
        _assert_that_metrics_tell_of_it(world)
        _assert_that_nothing_of_patients_left(world)
    ours = [one for one in caplog.records if one.name.startswith("dcmvault")]
    assert not [one.getMessage() for one in ours if one.levelno >= logging.ERROR], caplog.text


def _live_through(world: Fortnight) -> None:
    """Let the days pass, and look in between."""
    days = world.days
    days.until(at(SLEEP[1]))
    # The machine has just woken: the vault has last night's studies, the PACS waits until 18.
    assert world.held("library", "vault") == world.made("library")
    assert world.held("library", "pacs") < world.made("library")
    days.until(at("03-25 18:00"))
    assert len(world.made("library") - world.held("library", "pacs")) == 2  # of today
    days.until(at(MAIL_REFUSED[1]) - STEP)
    told = [at_of(mail) for mail in world.mailbox.mails() if event_of(mail) == "digest"]
    assert max(told) == at("03-25 07:00")
    [channel] = [
        one for one in world.workplace.catalogue.notices.channel_states() if one.channel == "office"
    ]
    assert (channel.waiting, channel.code) == (1, "notification_refused")
    days.until(at(MAIL_REFUSED[1]))
    told = [at_of(mail) for mail in world.mailbox.mails() if event_of(mail) == "digest"]
    assert max(told) == at("03-26 07:00")
    days.until(at("03-29 23:00"))
    missing = world.made("library") - world.held("library", "pacs")
    assert len(missing) == 3 * 2  # of the 27th, the 28th and today
    days.until(at("03-30 03:00"))
    for source in ("library", "research"):
        assert world.held(source, "pacs") == world.made(source)
    days.until(at(END))


def _assert_that_runs_happened_once(world: Fortnight) -> None:
    """Compare what was recorded with the tables."""
    catalogue = world.workplace.catalogue
    nights = [(at(night), _begin(night)) for night in _NIGHTS]
    # Of the night that was slept over the second source waits for the first, and that for 18:00.
    turns = [at("03-25 18:00") if begin == at(SLEEP[1]) else begin for _due, begin in nights]
    expected = {
        "nightly": Counter(nights)
        + Counter((due, turn) for (due, _begun), turn in zip(nights, turns, strict=True)),
        "weekly": Counter((at(sunday), _begin(sunday)) for sunday in _SUNDAYS),
        "often": Counter((at(one), _begin(one)) for one in _TWICE_A_DAY),
    }
    scheduled: list[RunId] = []
    for name, table in expected.items():
        runs = catalogue.schedules.last_runs(name, 1000)
        assert all(run.settled and not run.problem for run in runs)
        scheduled += [run.run_id for run in runs]
        assert table == Counter(
            (run.due_at, catalogue.runs.run(run.run_id).created_at) for run in runs
        ), name
    assert Counter(scheduled) == Counter(one.run_id for one in catalogue.runs.runs(limit=1000))
    incomplete = [one for one in scheduled if _failures(world.workplace, one)]
    assert Counter(catalogue.runs.run(one).created_at for one in incomplete) == {
        at(due): count for due, count in _INCOMPLETE
    }


def _begin(due: str) -> datetime:
    return at(SLEEP[1]) if due in _SLEPT_OVER else at(due)


def _failures(workplace: Workplace, run_id: RunId) -> int:
    return workplace.catalogue.runs.report(run_id, studies=False).counts.failed


def _assert_that_all_is_held(world: Fortnight, orthanc: Orthanc) -> None:
    everything = set()
    for source, made in world.practice.made.items():
        assert len(world.made(source)) == 28
        everything |= {one.sop_instance_uid for one in made}
        assert world.held(source, "vault") == world.made(source)
        assert world.held(source, "pacs") == world.made(source)
    assert set(orthanc.instances()) == everything


def _assert_that_trouble_was_told_once(world: Fortnight) -> None:
    """Alerts as they were written down, and the mails that came of them."""
    events = world.workplace.catalogue.alerts.alert_events(0, 1000)
    seen = Counter((one.alert.code.value, one.alert.subject.name, one.change) for one in events)
    expected = {(code, subject) for code, subject, *_times in _ALERTS}
    # When a disk will be full is foretold some time before.
    expected.add(("disk_full_forecast", "state"))
    assert seen == {(*one, change): 1 for one in expected for change in AlertChange}
    for code, subject, raised, cleared in _ALERTS:
        [begin, end] = [
            one.at
            for one in events
            if (one.alert.code.value, one.alert.subject.name) == (code, subject)
        ]
        assert at(raised) <= begin <= at(raised) + STEP, (code, begin)
        assert at(cleared) <= end <= at(cleared) + STEP, (code, end)
    mails = [one for one in world.mailbox.mails() if one["To"] == "office@practice.test"]
    assert len({mail["Message-ID"] for mail in mails}) == len(mails)
    assert _times(mails, "digest") == Counter(map(at, _DIGESTS))
    assert _times(mails, "weekly") == Counter(map(at, _MONDAYS))
    assert _times(mails, "run_ended") == {at(due): count for due, count in _INCOMPLETE}
    told = [one for one in events if one.alert.code != "run_overdue"]
    for change in AlertChange:
        assert _times(mails, f"alert_{change.value}") == Counter(
            one.at.replace(microsecond=0) for one in told if one.change is change
        )
    # Within the period that a plan should have had another success in, indeed at once.
    late = [(at(begin), at(end)) for code, _plan, begin, end in _ALERTS if code == "run_overdue"]
    begins, ends = (
        sorted(_times(mails, event).elements()) for event in ("overdue", "overdue_cleared")
    )
    for (expected_by, succeeded), begin, end in zip(late, begins, ends, strict=True):
        assert expected_by < begin <= expected_by + STEP
        assert succeeded <= end <= succeeded + STEP
    kinds = {event_of(mail) for mail in mails}
    assert kinds == {
        *("digest", "weekly", "run_ended", "alert_raised", "alert_cleared"),
        *("overdue", "overdue_cleared"),
    }


def event_of(mail: EmailMessage) -> str:
    """Return what a mail is about, by its identifier."""
    return str(mail["Message-ID"]).strip(" <>").partition(".")[0]


def at_of(mail: EmailMessage) -> datetime:
    """Return when it happened, what a mail tells of."""
    return parsedate_to_datetime(str(mail["Date"])).astimezone(UTC)


def _times(mails: Iterable[EmailMessage], event: str) -> Counter[datetime]:
    return Counter(at_of(mail) for mail in mails if event_of(mail) == event)


def _assert_that_metrics_tell_of_it(world: Fortnight) -> None:
    """Every page has the alerts of its time, and the daemon works at all times."""
    pages = world.scraper.pages
    assert len(pages) > 50
    told: set[tuple[str, str]] = set()
    for moment, page in pages.items():
        assert "\ndcmvault_working 1\n" in page
        shown = {one for one in alerts_of(page) if one[0] != "disk_full_forecast"}
        assert shown == {
            (code, subject)
            for code, subject, raised, cleared in _ALERTS
            if at(raised) <= moment < at(cleared)
        }, moment
        told |= alerts_of(page).keys()
    assert told == {(code, subject) for code, subject, *_times in _ALERTS} | {
        ("disk_full_forecast", "state")
    }


def _assert_that_nothing_of_patients_left(world: Fortnight) -> None:
    """Search all that was mailed and measured; where it was switched on, the search finds it."""
    secrets, uids = world.practice.of_patients(), world.practice.uids()
    pages = list(world.scraper.pages.values())
    mails: dict[str, list[EmailMessage]] = {
        "office@practice.test": [],
        "physician@practice.test": [],
    }
    for mail in world.mailbox.mails():
        mails[str(mail["To"])].append(mail)
    office, physician = mails.values()
    whole = [_text_of(mail) for mail in office]
    assert any("dcmvault-2026" in text and "<html" in text for text in whole)  # reports, attached
    for text in (*whole, *pages):
        assert not [one for one in secrets if one in text]
    for text in (*(_text_of(mail, attachments=False) for mail in office), *pages):
        assert not [one for one in uids if one in text]
    shown = "".join(_text_of(mail) for mail in physician)
    assert CANARY in shown
    assert [one for one in uids if one in shown]


def _text_of(mail: EmailMessage, *, attachments: bool = True) -> str:
    """Return all that a mail says, decoded: headers, text, page, and attachments if wanted."""
    said = [f"{name}: {value}" for name, value in mail.items()]
    for part in mail.walk():
        if not attachments and part.get_content_disposition() == "attachment":
            continue
        said += [f"{name}: {value}" for name, value in part.items()]
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            said.append(content.decode())
    return "\n".join(said)
