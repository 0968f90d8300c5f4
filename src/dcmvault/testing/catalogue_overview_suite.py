"""What every catalogue must know for an overview and of what goes on; see `catalogue_suite`."""

from __future__ import annotations

from datetime import timedelta

from dcmvault.model.evidence import Finding, Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.job import ItemState, JobState
from dcmvault.model.live import Slowed
from dcmvault.model.overview import CopyCount, Outcome, PlaceAsked
from dcmvault.model.report import RunState
from dcmvault.ports.catalogue import Outcome as ItemOutcome
from dcmvault.testing.catalogue_world import START, CatalogueCases, header, scanned, unreadable


class OverviewSuite(CatalogueCases):
    """Tests of the contracts in `ports.overview` and `ports.live`."""

    def test_a_study_is_protected_where_all_of_it_is_held_as_asked(self) -> None:
        """By level, at all places or at one; never by a claim, and never at no place."""
        world = self.world()
        listed = [scanned(f"{n}", f"{n}", header(n // 2, 1, n)) for n in range(2, 8)]
        world.backup(listed, {f"{n}": f"{n}" for n in range(2, 8)}, level=Level.COMPLETE)
        overview = world.catalogue.overview
        here = PlaceAsked(world.destination, Level.COMPLETE)
        other = PlaceAsked(world.catalogue.plans.destination("elsewhere"), Level.PRESENT)
        elsewhere = world.catalogue.sources.source("/elsewhere")
        size = sum(one.entry.fingerprint.size for one in listed)

        whole = overview.protection(world.source, [here], everywhere=True)
        assert (whole.studies, whole.protected) == (3, 3)
        assert (whole.bytes, whole.protected_bytes) == (size, size)
        assert (whole.oldest_unprotected_at, whole.by_copies) == (None, {1: 3})
        for asked, everywhere, protected, copies in (
            ([PlaceAsked(world.destination, Level.PROVEN)], True, 0, {0: 3}),
            ([here, other], True, 0, {1: 3}),
            ([here, other], False, 3, {1: 3}),
            ([here, PlaceAsked(0, Level.SENT)], True, 0, {1: 3}),
            ([], True, 0, {0: 3}),
        ):
            found = overview.protection(world.source, asked, everywhere=everywhere)
            assert (found.studies, found.protected) == (3, protected), asked
            assert found.by_copies == copies, asked
        assert overview.protection(elsewhere, [here], everywhere=True).studies == 0

    def test_what_is_missing_or_new_is_unprotected_since_it_was_seen(self) -> None:
        """A study with one lost instance is not protected; the oldest of them says since when."""
        world = self.world()
        first = [scanned("a", "a", header(1, 1, 1)), scanned("b", "b", header(1, 1, 2))]
        run_id = world.run()
        world.scan(run_id, first)
        seen_at = world.catalogue.runs.run(run_id).created_at
        for job in world.plan(run_id, world.due(run_id)):
            sent = world.send(job, {"a": "a", "b": "b"})
            world.verify(job, sent, {"b": Finding.MISSING})
        world.catalogue.runs.set_run_state(run_id, RunState.FINISHED, world.tick())
        later = world.run()
        world.scan(later, [*first, scanned("c", "c", header(2, 1, 1))])
        overview = world.catalogue.overview
        asked = [PlaceAsked(world.destination, Level.COMPLETE)]
        found = overview.protection(world.source, asked, everywhere=True)
        assert (found.studies, found.protected) == (2, 0)
        assert found.oldest_unprotected_at == seen_at
        held = first[0].entry.fingerprint.size
        assert overview.copies() == {world.destination: CopyCount(held, 1)}

    def test_runs_are_told_with_what_became_of_them(self) -> None:
        """Newest first: whole, incomplete, failed, cancelled, going on."""
        world = self.world()
        whole = world.backup([scanned("a", "a", header(1, 1, 1))], {"a": "a"})
        short = world.run()
        counts = world.scan(short, [scanned("a", "a", header(1, 1, 1)), unreadable("locked")])
        world.catalogue.runs.record_plan(
            short, counts=counts, already_held={}, levels={}, warnings=[]
        )
        world.catalogue.runs.set_run_state(short, RunState.FINISHED, world.tick())
        failed, cancelled, going = world.run(), world.run(), world.run()
        world.catalogue.runs.record_error(failed, "source_empty", "nothing", "")
        world.catalogue.runs.set_run_state(failed, RunState.FAILED, world.tick())
        world.catalogue.runs.set_run_state(cancelled, RunState.CANCELLED, world.tick())
        overview = world.catalogue.overview
        rows = overview.run_rows(10, world.tick())
        assert [(row.bar.run_id, row.bar.outcome) for row in rows] == [
            (going, Outcome.GOES_ON),
            (cancelled, Outcome.CANCELLED),
            (failed, Outcome.FAILED),
            (short, Outcome.INCOMPLETE),
            (whole, Outcome.WHOLE),
        ]
        assert [row.bar.run_id for row in overview.run_rows(2, world.now)] == [going, cancelled]
        oldest = rows[-1]
        assert (oldest.bar.instances, oldest.bar.held, oldest.bar.bytes) == (1, 1, 10)
        assert oldest.bar.duration_s > 0
        assert oldest.source == world.source_name
        assert world.destination_name in oldest.destinations
        assert rows[2].bar.error_code == "source_empty"
        assert overview.unreadable() == {world.source: 1}
        assert overview.latest_restore() is None

    def test_bytes_are_summed_by_week(self) -> None:
        """By the Monday before the run began."""
        world = self.world()
        world.backup([scanned("a", "a", header(1, 1, 1))], {"a": "a"})
        world.now += timedelta(days=7)
        listed = [scanned(n, n, header(1, 1, i)) for i, n in enumerate("abc", start=1)]
        world.backup(listed, dict.fromkeys("abc", "x"))
        monday = START.replace(hour=0) - timedelta(days=START.weekday())
        sent = world.catalogue.overview.sent_by_week(START - timedelta(days=60))
        assert sent == {monday: 10, monday + timedelta(days=7): 20}
        assert world.catalogue.overview.sent_by_week(world.now + timedelta(days=1)) == {}

    def test_what_is_at_work_and_what_failed_is_told(self) -> None:
        """With its counters; a cause counts its instances and studies."""
        world = self.world()
        run_id = world.run()
        listed = [scanned(f"{n}", f"{n}", header(n // 2, 1, n)) for n in range(2, 8)]
        world.scan(run_id, listed)
        first, second, _third = world.plan(run_id, world.due(run_id))
        live = world.catalogue.live
        assert live.transfers(10) == []
        world.send(first, {f"{n}": f"{n}" for n in range(2, 8)})
        jobs = world.catalogue.jobs
        jobs.set_job_state(second.job_id, JobState.IN_PROGRESS, attempt=1)
        due = jobs.items(second.job_id, frozenset({ItemState.DUE}), 10)
        jobs.record_outcomes(
            second.job_id,
            [
                ItemOutcome(item.item_id, ItemState.FAILED, 1, "refused", "C000", "no", "look")
                for item in due
            ],
        )
        one, other = live.transfers(10)
        assert (one.job_id, one.run_id, one.destination) == (
            first.job_id,
            run_id,
            world.destination_name,
        )
        assert (one.instances, one.delivered, one.failed, one.share) == (2, 2, 0, 1.0)
        assert (other.delivered, other.failed, other.state) == (0, 2, "in_progress")
        assert len(live.transfers(1)) == 1
        (failure,) = live.recent_failures(10)
        assert (failure.code, failure.status, failure.instances) == ("refused", "C000", 2)
        assert failure.studies == 1

    def test_the_rest_of_a_run_and_a_study_can_be_left(self) -> None:
        """What is at work is not touched by leaving the rest; leaving twice is harmless."""
        world = self.world()
        run_id = world.run()
        listed = [scanned(f"{n}", f"{n}", header(n // 2, 1, n)) for n in range(2, 10)]
        world.scan(run_id, listed)
        first, second, third, fourth = world.plan(run_id, world.due(run_id))
        jobs, live = world.catalogue.jobs, world.catalogue.live
        for job in (first, second):
            jobs.set_job_state(job.job_id, JobState.IN_PROGRESS, attempt=1)
        study = second.study_instance_uid
        elsewhere = world.catalogue.plans.destination("elsewhere")
        assert live.leave_study(run_id, elsewhere, study) == 0
        assert live.leave_study(run_id, world.destination, study) == 2
        assert live.leave_rest(run_id) == 4
        assert live.leave_rest(run_id) == 0
        states = [jobs.job(job.job_id).state for job in (first, second, third, fourth)]
        assert states == [JobState.IN_PROGRESS, *[JobState.CANCELLED] * 3]
        assert world.catalogue.runs.progress(run_id).settled == 6
        try:
            live.leave_rest(RunId("none"))
        except KeyError:
            return
        raise AssertionError("a run that does not exist was left")

    def test_a_limit_for_a_while_ends_by_itself(self) -> None:
        """It is in the place of the one before, survives being opened anew, and can be ended."""
        world = self.world()
        place = world.destination
        until = world.now + timedelta(hours=1)
        slowed = world.catalogue.slowed
        slowed.set_slowed(place, Slowed(5e6, until))
        slowed.set_slowed(place, Slowed(1.5e6, until))
        again = self.open_catalogue().slowed
        assert again.slowed(world.now) == {place: Slowed(1.5e6, until)}
        assert again.slowed(until) == {}
        again.set_slowed(place, None)
        assert slowed.slowed(world.now) == {}
        slowed.set_slowed(place, None)
