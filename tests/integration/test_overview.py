"""The overview and the live view over a real state folder: what they say is so."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dcmvault.app import queue
from dcmvault.app.live import LiveWatch
from dcmvault.app.overview import overview
from dcmvault.app.plan_runs import start_plan
from dcmvault.app.slowing import full_speed, go_slow
from dcmvault.app.standing import count
from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.config.load import load_settings
from dcmvault.errors import UsageError
from dcmvault.i18n import speaking
from dcmvault.model.alert import AlertCode, AlertSeverity, Subject, SubjectKind
from dcmvault.model.live import Live
from dcmvault.model.overview import (
    Basis,
    NeedKind,
    Outcome,
    Overview,
    Pause,
    Place,
    Rule,
    Standing,
    Verb,
    Verdict,
)
from dcmvault.reports.overview_words import need_sentence, ruling_sentence, state_sentence
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peer_faults import Action, Arrival
from dcmvault.testing.peers import SimulatedPacs

_NAME = "Hidden^Patient"
_TWO_FOLDERS = """
[retry]
wait_s = 0
[sources.studies]
address = "{folder}/studies"
[destinations.first]
address = "{folder}/first"
[destinations.second]
address = "{folder}/second"
[plans.all]
sources = ["studies"]
destinations = ["first", "second"]
[schedules.nightly]
plan = "all"
cron = "0 2 * * *"
"""


@contextmanager
def opened(home: Path, text: str) -> Iterator[Workplace]:
    (home / "config.toml").write_text(text, "utf-8")
    with open_workplace(home, load_settings(home / "config.toml")) as workplace:
        yield workplace


def until(condition: Callable[[], Any]) -> Any:
    """Return what a condition gives as soon as it gives something; a minute is a busy machine."""
    for _try in range(1200):
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it never came")


def seen(workplace: Workplace) -> Overview:
    """Count, and look."""
    return overview(workplace, count(workplace))


def ended(workplace: Workplace, run_id: str) -> None:
    until(lambda: workplace.catalogue.runs.run(run_id).finished_at)  # type: ignore[arg-type]


def when(moment: datetime) -> str:
    return f"{moment:%H:%M}"


def test_nothing_is_configured_and_that_is_said(home: Path) -> None:
    with opened(home, "") as workplace:
        view = seen(workplace)
        assert view.standing is Standing.NOTHING_CONFIGURED
        assert (view.plans, view.destinations, view.needs, view.last) == ((), (), (), None)
        assert view.protection is not None
        assert view.protection.share is None
        assert {ruling.verdict for ruling in view.rulings} == {Verdict.UNKNOWN}
        assert "Nothing is configured yet" in state_sentence(view, when)
        with speaking("pt-BR"):
            assert "Nothing" not in state_sentence(view, when)
        assert overview(workplace, None).protection is None


def test_a_plan_is_seen_from_never_to_all_is_well_and_to_a_lost_copy(
    home: Path, tmp_path: Path
) -> None:
    """Protected is what evidence says is at both places; a copy that is gone is a need."""
    for number in range(3):
        make_study(tmp_path / "studies" / f"{number}", key=f"o{number}", patient_name=_NAME)
    with opened(home, _TWO_FOLDERS.format(folder=tmp_path)) as workplace:
        before = seen(workplace)
        assert before.standing is Standing.NEVER_RAN
        assert [(need.kind, need.verb) for need in before.needs] == [
            (NeedKind.NEVER_RAN, Verb.RUN_NOW)
        ]
        assert before.next is not None
        assert (before.next.plan, before.next.at > before.at) == ("all", True)

        assert workplace.work()
        (started,) = start_plan(workplace, "all")
        ended(workplace, started.run_id)
        view = seen(workplace)
        assert view.standing is Standing.ALL_WELL, view.needs
        protection = view.protection
        assert protection is not None
        assert (protection.studies, protection.protected, protection.share) == (3, 3, 1.0)
        assert protection.bytes == protection.protected_bytes > 0
        assert protection.by_copies == {2: 3}
        assert protection.oldest_unprotected_at is None
        (plan,) = view.plans
        assert [bar.outcome for bar in plan.runs] == [Outcome.WHOLE]
        assert (plan.runs[0].instances, plan.runs[0].held) == (18, 18)
        assert view.last is not None
        assert (view.last.plan, view.last.outcome) == ("all", Outcome.WHOLE)
        assert [card.name for card in view.destinations] == ["first", "second"]
        for card in view.destinations:
            assert card.place is Place.FOLDER
            assert card.space is not None
            assert 0 < card.space.free <= card.space.total
            assert card.held_bytes == protection.bytes
            assert card.oldest_evidence_at is not None
            assert (card.pause, card.down_since, card.refuted) == (None, None, 0)
        assert view.weeks[-1].bytes > 0
        assert len(view.weeks) == 53
        rulings = {ruling.rule: ruling for ruling in view.rulings}
        assert rulings[Rule.COPIES].found == 3
        assert rulings[Rule.COPIES].basis is Basis.EVIDENCE
        assert rulings[Rule.MEDIA].verdict is Verdict.BROKEN
        assert rulings[Rule.OFF_SITE].verdict is Verdict.BROKEN
        assert rulings[Rule.IMMUTABLE].verdict is Verdict.UNKNOWN
        assert rulings[Rule.ERRORS].verdict is Verdict.KEPT
        # What was never tried is no emergency, and is said.
        assert [need.kind for need in view.needs] == [NeedKind.NO_DRILL]
        assert _NAME not in repr(view)

        shutil.rmtree(tmp_path / "second")
        make_study(tmp_path / "studies" / "new", key="new", patient_name=_NAME)
        (again,) = start_plan(workplace, "all")
        queue.cancel(workplace, again.run_id)
        from_alerts = workplace.catalogue.alerts
        subject = Subject(SubjectKind.DESTINATION, "second")
        from_alerts.raise_alert(
            AlertCode.DESTINATION_DOWN, subject, AlertSeverity.CRITICAL, view.at, {"error": "gone"}
        )
        later = seen(workplace)
        assert later.standing is Standing.NEEDS_YOU
        worst = later.needs[0]
        assert (worst.kind, worst.verb, worst.subject) == (NeedKind.ALERT, Verb.TRY, "second")
        assert "second" in need_sentence(worst)
        assert later.destinations[1].down_since == view.at
        assert [bar.outcome for bar in later.plans[0].runs] == [Outcome.WHOLE, Outcome.CANCELLED]
        for ruling in later.rulings:
            assert ruling_sentence(ruling)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def pacs(gate: threading.Event) -> Iterator[SimulatedPacs]:
    """A PACS that takes a few instances, and then waits."""

    def waits(arrival: Arrival) -> Action:
        if arrival.number > 4:
            gate.wait(60)
        return Action()

    with SimulatedPacs(waits) as pacs:
        yield pacs


def pacs_plan(pacs: SimulatedPacs, folder: Path) -> str:
    for number in range(6):
        make_study(folder / "studies" / f"{number}", key=f"l{number}", patient_name=_NAME)
    return (
        "[retry]\nwait_s = 0\n"
        f'[destinations.pacs]\naddress = "dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"\n'
        f'[sources.studies]\naddress = "{folder}/studies"\n'
        '[plans.all]\nsources = ["studies"]\ndestinations = ["pacs"]\n'
    )


def test_a_lane_shows_what_goes_on_and_the_rest_can_be_left(
    home: Path, tmp_path: Path, pacs: SimulatedPacs, gate: threading.Event
) -> None:
    """Transfers with their studies by UID only; the run ends without what was left out."""
    with opened(home, pacs_plan(pacs, tmp_path)) as workplace:
        watch = LiveWatch(workplace)
        idle = watch.look()
        assert [lane.name for lane in idle.lanes] == ["pacs"]
        assert (idle.transfers, idle.runs, idle.is_worked) == ((), (), False)
        assert workplace.work()
        (started,) = start_plan(workplace, "all")

        def busy() -> Live | None:
            live = watch.look(anew=True)
            return live if live.transfers and live.is_worked else None

        live = until(busy)
        (run,) = live.runs
        assert (run.run_id, run.plan, run.instances) == (started.run_id, "all", 18)
        assert {one.destination for one in live.transfers} == {"pacs"}
        assert watch.look() is live or watch.look().at >= live.at
        assert _NAME not in repr(live)

        slowed = go_slow(workplace, "pacs", 250_000)
        (lane,) = watch.look(anew=True).lanes
        assert (lane.slowed, lane.limit_bytes_per_s) == (slowed, 250_000)
        full_speed(workplace, "pacs")
        queue.pause(workplace, "pacs")
        (lane,) = watch.look(anew=True).lanes
        assert (lane.slowed, lane.pause) == (None, Pause.BY_HAND)
        queue.resume(workplace, "pacs")

        skipped = queue.skip(workplace, live.transfers[-1].job_id)
        left = queue.stop_after_current(workplace, started.run_id)
        assert skipped + left > 0
        gate.set()
        ended(workplace, started.run_id)
        report = workplace.catalogue.runs.report(started.run_id)
        assert report.exit_status == 3
        assert report.counts.stored + report.counts.failed == 18
        assert report.counts.stored >= 1
        assert {one.code for one in report.failures} == {"cancelled"}
        with pytest.raises(UsageError, match="ended already"):
            queue.stop_after_current(workplace, started.run_id)
        with pytest.raises(UsageError, match="no run"):
            queue.stop_after_current(workplace, "none")


def test_going_slow_is_a_quarter_of_what_is_usual_and_survives(home: Path, tmp_path: Path) -> None:
    """Of the limit where there is one; for an hour, also after a new start."""
    text = _TWO_FOLDERS.format(folder=tmp_path) + '[bandwidth]\nrate = "8 MB/s"\n'
    make_study(tmp_path / "studies" / "a", key="slow")
    with opened(home, text) as workplace:
        with pytest.raises(UsageError, match="Nothing was ever sent"):
            go_slow(workplace, "first")
        assert workplace.work()
        (started,) = start_plan(workplace, "all")
        ended(workplace, started.run_id)
        before = workplace.clock.now()
        slowed = go_slow(workplace, "first")
        rate = workplace.settings.bandwidth.table().rate_at(before.astimezone())
        assert rate is not None
        assert slowed.bytes_per_s == rate / 4
        assert timedelta(minutes=59) < slowed.until - before < timedelta(minutes=61)
        for wrong in ({"bytes_per_s": 0.0}, {"length": timedelta(0)}):
            with pytest.raises(UsageError):
                go_slow(workplace, "first", **wrong)
    with opened(home, text) as workplace:
        lanes = {lane.name: lane for lane in LiveWatch(workplace).look().lanes}
        assert lanes["first"].slowed == slowed
        assert lanes["first"].limit_bytes_per_s == slowed.bytes_per_s
        assert lanes["second"].slowed is None
        assert lanes["second"].limit_bytes_per_s == rate
        assert datetime.now(UTC) < slowed.until
