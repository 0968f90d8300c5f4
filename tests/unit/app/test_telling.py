"""Who is told when: attempts and giving up, plans that are late, digests, and nothing twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import pytest

from dcmvault.app import notify, telling
from dcmvault.app.alert_news import AlertReporter
from dcmvault.app.announcing import Announcer
from dcmvault.app.digests import Digests
from dcmvault.app.messages import MessageWriter
from dcmvault.app.telling import Teller
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.catalogue import Catalogue, open_catalogue
from dcmvault.config.load import load_settings
from dcmvault.config.notifications_section import ChannelSection
from dcmvault.config.settings import Settings
from dcmvault.errors import NotificationRefusedError
from dcmvault.model.alert import AlertCode, AlertSeverity, Subject, SubjectKind
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId, new_run_id
from dcmvault.model.notice import Event, Message, Notice, Severity
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest
from dcmvault.model.report import RunState
from dcmvault.ports.clock import Clock
from dcmvault.ports.notices import DeliveryState
from dcmvault.ports.notifier import Notifier
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.recording_notifier import RecordingNotifier

_ALL = '["run_started", "run_ok", "run_incomplete", "run_failed", "overdue", "digest", "weekly"]'
SAO_PAULO = ZoneInfo("America/Sao_Paulo")
LISBON = ZoneInfo("Europe/Lisbon")


class World:
    """A catalogue, a clock, and channels in memory by their names."""

    def __init__(self, folder: Path, text: str, zone: ZoneInfo = LISBON) -> None:
        path = folder / "config.toml"
        path.write_text(text)
        self.settings: Settings = load_settings(path)
        self.catalogue: Catalogue = open_catalogue(str(folder / "catalogue.sqlite3"))
        self.clock = FakeClock(datetime(2026, 3, 20, 12, 0, tzinfo=UTC))
        self.channels = {name: RecordingNotifier() for name in self.settings.notifications}
        self.zone = zone

    def teller(self) -> Teller:
        """Make the teller of a new process."""
        book, runs = self.catalogue.notices, self.catalogue.runs
        announcer = Announcer(self.settings, book, book, runs, self.catalogue.schedules)
        alerts = AlertReporter(self.catalogue.alerts, announcer.post)
        return Teller(
            announcer,
            Digests(self.settings, book, book, lambda: {"alerts": alerts.open_alerts()}, self.zone),
            alerts,
            book,
            MessageWriter(self.settings, runs),
            self.clock,
            self._build,
        )

    def _build(self, section: ChannelSection, clock: Clock) -> Notifier:
        (name,) = [n for n, one in self.settings.notifications.items() if one is section]
        return self.channels[name]

    def tell(self) -> datetime:
        """Do what a daemon does when the time has come."""
        return self.teller().tell_due(self.clock.now())

    def live(self, **passed: float) -> None:
        """Let time pass, and tell whenever it is due, as a daemon does."""
        until = self.clock.now() + timedelta(**passed)
        while (due := self.tell()) < until:
            # The half minute after which another process's news are looked for is cut short here.
            steps = max((due - self.clock.now()).total_seconds(), 1800.0)
            self.clock.advance(min(steps, (until - self.clock.now()).total_seconds()))
        self.clock.set_now(until)
        self.tell()

    def run(self, state: RunState = RunState.FINISHED) -> RunId:
        """Have a run of the plan end, in no time."""
        runs, now = self.catalogue.runs, self.clock.now()
        request = RunRequest(
            RunKind.BACKUP, "/studies", (DestinationRequest("/copies", Level.PROVEN),)
        )
        run_id = runs.ask_for_run(new_run_id(now), request, now)
        if state is RunState.FAILED:
            runs.record_error(run_id, "source_unavailable", "it is not there", "")
        runs.set_run_state(run_id, state, now)
        return run_id

    def events(self, channel: str) -> list[str]:
        """Return what a channel was told of."""
        return [one.notice.event.value for one in self.channels[channel].messages]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(
        tmp_path,
        f"""
[plans.nightly]
sources = ["/studies"]
destinations = ["/copies"]
expected_every = "26h"
[notifications.office]
channel = "mail"
host = "mail.example.org"
sender = "a@example.org"
to = ["b@example.org"]
events = {_ALL}
at = "07:30"
weekday = "fri"
[notifications.other]
channel = "webhook"
url = "https://example.org/"
events = ["run_ok", "run_failed"]
[notifications.dead-man]
channel = "healthchecks"
url = "https://example.org/check"
plans = ["nightly"]
""",
    )
    world.tell()  # somebody is there from now on
    yield world
    world.catalogue.close()


def test_a_run_is_told_once_however_many_processes_look(world: World) -> None:
    world.run()
    world.tell()
    world.tell()
    assert world.events("office") == world.events("other") == ["run_ok"]
    (message,) = world.channels["other"].messages
    assert message.notice.plan == "nightly"


def test_a_dead_channel_is_tried_later_and_holds_nobody_up(world: World) -> None:
    world.channels["office"].is_down = True
    first = world.run()
    world.tell()
    assert world.events("other") == ["run_ok"]
    world.clock.advance(30)
    second = world.run()
    world.tell()
    assert world.channels["office"].failures == 2, "what is new is tried at once"
    world.channels["office"].is_down = False
    world.live(minutes=5)
    told = [one.notice.run_id for one in world.channels["office"].messages]
    assert sorted(told) == sorted([first, second])
    (state,) = [s for s in world.catalogue.notices.channel_states() if s.channel == "office"]
    assert (state.sent, state.waiting, state.given_up) == (2, 0, 0)


def test_a_channel_that_does_not_answer_keeps_no_other_from_its_next_message(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is itself given nothing new before its turn ends."""
    monkeypatch.setattr(telling, "_HOLD_UP_S", 0.05)
    answers = threading.Event()
    other = world.channels["other"]
    world.channels["other"] = cast(RecordingNotifier, _Slow(other, answers))
    teller = world.teller()
    for _number in range(3):
        world.run()
        teller.tell_due(world.clock.now())
        world.clock.advance(60)
    for _attempt in range(100):
        if len(world.events("office")) == 3:
            break
        time.sleep(0.02)
        teller.tell_due(world.clock.now())
    assert world.events("office") == ["run_ok"] * 3
    assert other.messages == []
    now = world.clock.now()
    dues = []
    for _attempt in range(100):
        dues.append(teller.tell_due(now))
        if dues[-1] > now:
            break
        time.sleep(0.02)
    assert dues[-1] > now, "it looks again and again while a channel hangs"
    answers.set()
    teller.finish()
    assert [m.notice.run_id for m in other.messages] == sorted(
        m.notice.run_id for m in other.messages
    )
    assert len(other.messages) == 3


@dataclass
class _Slow:
    """A channel that takes what it is sent when it is told to."""

    channel: RecordingNotifier
    answers: threading.Event
    name: str = "slow"

    def send(self, message: Message) -> str:
        self.answers.wait(30)
        return self.channel.send(message)


def test_one_message_that_is_refused_keeps_no_later_one_from_being_told(world: World) -> None:
    """As where each night's command looks once: what was refused is due beside what is new."""
    other = world.channels["other"]
    refused = world.run()
    world.channels["other"] = cast(RecordingNotifier, _Picky(other, refused))
    world.tell()
    for _night in range(3):
        world.clock.advance(86_400)
        new = world.run()
        world.tell()
        assert other.messages[-1].notice.run_id == new
    (state,) = [s for s in world.catalogue.notices.channel_states() if s.channel == "other"]
    assert (state.sent, state.waiting) == (3, 1)


@dataclass
class _Picky:
    """A channel that refuses what is about one run."""

    channel: RecordingNotifier
    refused: RunId
    name: str = "picky"

    def send(self, message: Message) -> str:
        if message.notice.run_id == self.refused:
            raise NotificationRefusedError("it is too large")
        return self.channel.send(message)


def test_a_digest_that_cannot_be_made_keeps_nothing_else_from_being_told(world: World) -> None:
    def broken() -> dict[str, object]:
        raise ZeroDivisionError

    world.run()
    world.clock.advance(86_400)
    teller = world.teller()
    teller.digests = replace(teller.digests, well_being=broken)
    with pytest.raises(ZeroDivisionError):
        teller.tell_due(world.clock.now())
    assert world.events("other") == ["run_ok"]


def test_a_plug_in_that_raises_anything_keeps_no_other_channel_from_its_test(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world.channels["office"]  # to make it is a KeyError
    monkeypatch.setattr(notify, "build_notifier", world._build)
    tried = notify.try_channels(cast(Workplace, world), ())
    assert [(one.channel, one.is_good) for one in tried] == [
        ("office", False),
        ("other", True),
        ("dead-man", True),
    ]
    assert "KeyError" in tried[0].problem


def test_a_channel_that_refuses_all_is_not_hammered(world: World) -> None:
    """A password that is tried many times locks accounts."""
    world.channels["other"].refuses = True
    for _number in range(10):
        world.run()
    world.tell()
    assert world.channels["other"].failures == 2


def test_what_nobody_took_for_days_is_given_up_and_that_is_seen(world: World) -> None:
    """Attempts become seldom, and end; the digest of another day names the channel."""
    world.channels["other"].refuses = True
    world.run()
    world.live(days=5)
    (state,) = [s for s in world.catalogue.notices.channel_states() if s.channel == "other"]
    assert (state.sent, state.waiting, state.given_up) == (0, 0, 1)
    assert state.code == "notification_refused"
    assert 85 <= world.channels["other"].failures <= 110, "one an hour, and a few at first"
    digests = [m for m in world.channels["office"].messages if m.notice.event is Event.DIGEST]
    assert [m.notice.facts["silent_channels"] for m in digests][-1] == ["other"]


def test_notices_are_kept_for_a_year_and_what_waits_until_it_is_told(world: World) -> None:
    """And what was forgotten is not told once more."""
    world.run()
    world.tell()
    book = world.catalogue.notices
    began = world.clock.now()
    waiting = Notice("waits", Event.RUN_OK, Severity.INFO, began)
    book.post(waiting, ["nobody"])
    [delivery] = book.take_due(began, began + timedelta(days=1))
    book.settle(
        delivery.delivery_id,
        DeliveryState.WAITING,
        began,
        next_at=began + timedelta(days=1000),
    )
    told = len(world.channels["other"].messages)
    world.clock.advance(365 * 86_400)
    world.tell()
    assert len(book.ended_since(began)) == 2
    world.clock.advance(2 * 86_400)
    for _look in range(3):
        world.tell()
    assert [one.notice_id for one in book.ended_since(began)] == ["waits"]
    assert world.events("other").count("run_ok") == told == 1


def test_who_dies_after_handing_over_hands_over_again_by_the_same_name(world: World) -> None:
    """At least once: the receiver knows the second one by its name."""
    book = world.catalogue.notices
    world.run()
    world.teller().announcer.announce(world.clock.now())
    taken = book.take_due(world.clock.now(), world.clock.now() + timedelta(minutes=5))
    assert {one.channel for one in taken} == {"office", "other", "dead-man"}
    world.tell()
    assert world.events("other") == [], "somebody else has it in hand"
    world.clock.advance(301)
    world.tell()
    (message,) = world.channels["other"].messages
    assert message.notice.notice_id in {one.notice.notice_id for one in taken}


def test_a_late_plan_is_told_once_and_its_return_once(world: World) -> None:
    world.run()
    world.live(hours=25)
    assert "overdue" not in world.events("office")
    world.live(hours=1, minutes=1)
    assert world.events("office").count("overdue") == 1
    world.run(RunState.FAILED)
    world.live(days=3)
    assert world.events("office").count("overdue") == 1, "a failure is no success"
    assert world.events("office").count("overdue_cleared") == 0
    world.run()
    world.live(hours=1)
    assert world.events("office").count("overdue_cleared") == 1
    world.live(hours=26)
    assert world.events("office").count("overdue") == 2, "another lapse is another one"


def test_a_plan_that_never_ran_is_late_one_period_after_it_was_seen(world: World) -> None:
    world.live(hours=25)
    assert "overdue" not in world.events("office")
    world.live(hours=2)
    (overdue,) = [m for m in world.channels["office"].messages if m.notice.event is Event.OVERDUE]
    assert overdue.notice.facts["last_success"] is None
    assert "dcmvault run nightly" in overdue.text


def test_digests_come_each_day_at_their_local_time_also_when_nothing_happens(
    world: World,
) -> None:
    """Ten days over the night of 29 March 2026, when Lisbon's clocks jump."""
    world.live(days=10)
    digests = [m.notice.at for m in world.channels["office"].messages if m.notice.event == "digest"]
    local = [at.astimezone(LISBON) for at in digests]
    assert [f"{at:%H:%M}" for at in local] == ["07:30"] * 10
    assert [at.day for at in local] == list(range(21, 31))
    weekly = [m for m in world.channels["office"].messages if m.notice.event is Event.WEEKLY]
    assert [m.notice.at.astimezone(LISBON).day for m in weekly] == [27]


def test_after_a_night_asleep_one_digest_is_sent_and_none_twice(world: World) -> None:
    world.live(hours=1)
    world.clock.advance(3 * 86_400)
    world.tell()
    world.tell()
    assert world.events("office").count("digest") == 1


def test_a_week_is_told_of_also_when_the_machine_slept_over_its_moment(world: World) -> None:
    world.live(hours=1)  # Friday, 20 March, after 07:30
    world.clock.advance(8 * 86_400)
    world.tell()
    weekly = [m for m in world.channels["office"].messages if m.notice.event is Event.WEEKLY]
    assert [m.notice.at.astimezone(LISBON).day for m in weekly] == [27]


def test_a_start_that_could_not_be_told_in_time_is_left_out(world: World) -> None:
    dead_man = world.channels["dead-man"]
    dead_man.is_down = True
    request = RunRequest(RunKind.BACKUP, "/studies", (DestinationRequest("/copies"),))
    announcer = world.teller().announcer
    announcer.run_started(RunId("20260320-120000-00000001"), request, world.clock.now())
    world.tell()
    world.clock.advance(3600)
    world.run(RunState.FAILED)
    world.clock.advance(60)
    world.run()
    dead_man.is_down = False
    world.live(hours=2)
    assert world.events("dead-man") == ["run_ok"], "a check is how it is, not how it was"


def test_a_plan_of_two_sources_is_well_only_if_both_are(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        """
[plans.both]
sources = ["/studies", "/others"]
destinations = ["/copies"]
[notifications.dead-man]
channel = "healthchecks"
url = "https://example.org/check"
""",
    )
    world.tell()
    runs, book = world.catalogue.runs, []
    for source, state in (("/others", RunState.FAILED), ("/studies", RunState.FINISHED)):
        request = RunRequest(RunKind.BACKUP, source, (DestinationRequest("/copies"),))
        run_id = runs.ask_for_run(new_run_id(world.clock.now()), request, world.clock.now())
        if state is RunState.FAILED:
            runs.record_error(run_id, "source_unavailable", "it is not there", "")
        runs.set_run_state(run_id, state, world.clock.now())
        world.tell()
        book.append(run_id)
    statuses = [
        (one.notice.event.value, one.notice.facts["plan_exit_status"])
        for one in world.channels["dead-man"].messages
    ]
    assert statuses == [("run_failed", 1), ("run_ok", 1)]
    world.catalogue.close()


def test_a_channel_asks_for_what_it_wants_to_hear(tmp_path: Path) -> None:
    """By event, severity and plan; an end is told to whom its begin was told."""
    world = World(
        tmp_path,
        """
[plans.nightly]
sources = ["/studies"]
destinations = ["/copies"]
expected_every = "1d"
[plans.weekly]
sources = ["/others"]
destinations = ["/copies"]
[notifications.critical]
channel = "webhook"
url = "https://example.org/"
severity = "critical"
[notifications.weekly]
channel = "webhook"
url = "https://example.org/"
plans = ["weekly"]
""",
    )
    world.tell()
    world.run()
    world.run(RunState.FAILED)
    world.live(hours=25)
    world.run()
    world.tell()
    assert world.events("critical") == ["run_failed", "overdue", "overdue_cleared"]
    assert set(world.events("weekly")) <= {"digest", "weekly"}
    world.catalogue.close()


def test_an_alert_is_told_once_when_raised_and_once_when_over(tmp_path: Path) -> None:
    """Also to who hears of what is critical only, and in the digest while it lasts."""
    world = World(
        tmp_path,
        """
[notifications.all]
channel = "webhook"
url = "https://example.org/"
[notifications.critical]
channel = "webhook"
url = "https://example.org/"
severity = "critical"
language = "pt-BR"
""",
    )
    world.tell()
    alerts = world.catalogue.alerts
    disk, pacs = Subject(SubjectKind.DISK, "vault"), Subject(SubjectKind.DESTINATION, "pacs")
    now = world.clock.now()
    alerts.raise_alert(
        AlertCode.DISK_LOW, disk, AlertSeverity.CRITICAL, now, {"free_bytes": 1_000_000}
    )
    alerts.raise_alert(AlertCode.DESTINATION_DOWN, pacs, AlertSeverity.WARNING, now, {})
    world.live(days=1)
    alerts.clear_alert(AlertCode.DISK_LOW, disk, world.clock.now(), {})
    world.tell()
    world.tell()
    told = [event for event in world.events("all") if event.startswith("alert")]
    assert told == ["alert", "alert", "alert_cleared"]
    assert world.events("critical") == ["alert", "alert_cleared"]
    (digest,) = [m for m in world.channels["all"].messages if m.notice.event is Event.DIGEST]
    assert digest.text.startswith("2 things need you.")
    assert "disk vault" in digest.text
    raised = world.channels["critical"].messages[0]
    assert "vault" in raised.subject
    assert "Próximo passo" in raised.text
    world.catalogue.close()


def test_a_channel_that_is_configured_no_more_is_asked_no_more(world: World) -> None:
    world.catalogue.notices.post(
        Notice("x", Event.TEST, Severity.INFO, world.clock.now()), ["of-yesterday"]
    )
    world.tell()
    assert world.catalogue.notices.next_due() is None
    assert DeliveryState.SUPERSEDED.value == "superseded"


def test_languages_and_words_are_those_of_the_channel(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        """
language = "en"
[notifications.brasil]
channel = "webhook"
url = "https://example.org/"
language = "pt-BR"
[notifications.world]
channel = "webhook"
url = "https://example.org/"
""",
        SAO_PAULO,
    )
    world.tell()
    world.run(RunState.FAILED)
    world.tell()
    (portuguese,), (english,) = (
        world.channels["brasil"].messages,
        world.channels["world"].messages,
    )
    assert english.text.startswith("The run ended by an error.")
    assert portuguese.text.startswith("A execução terminou por um erro.")
    world.catalogue.close()
