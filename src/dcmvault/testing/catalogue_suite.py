"""What every catalogue must do: subclass CatalogueSuite in a test module; run it with pytest."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from dcmvault.model.evidence import Finding, Level
from dcmvault.model.identifiers import JobId, RunId
from dcmvault.model.job import ItemState, Job, JobState, Priority
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest, Strategy
from dcmvault.model.report import Counts, RunState
from dcmvault.model.snapshot import SnapshotRef
from dcmvault.ports.catalogue import Outcome
from dcmvault.testing.catalogue_history import HistorySuite
from dcmvault.testing.catalogue_planning_suite import DueSuite, ScanSuite
from dcmvault.testing.catalogue_strategy_suite import StrategySuite
from dcmvault.testing.catalogue_world import (
    CatalogueCases,
    World,
    digest,
    header,
    identity,
    reasons,
    scanned,
    unreadable,
    with_digest,
)


class JobSuite(CatalogueCases):
    """Tests of JobCatalogue."""

    def test_jobs_move_along_the_table(self) -> None:
        """A forbidden step is refused, the same state is not; attempts are kept."""
        world = self.world()
        run_id = world.run()
        world.scan(run_id, [scanned("a", "a", header(1, 1, 1))])
        (job,) = world.plan(run_id, world.due(run_id))
        jobs = world.catalogue.jobs
        jobs.set_job_state(job.job_id, JobState.PENDING)
        jobs.set_job_state(job.job_id, JobState.IN_PROGRESS, attempt=2)
        found = jobs.job(job.job_id)
        assert found == replace(job, state=JobState.IN_PROGRESS, attempt=2)
        try:
            jobs.set_job_state(job.job_id, JobState.COMPLETED)
        except ValueError:
            pass
        else:
            raise AssertionError("a job cannot be completed before it was verified")
        try:
            jobs.job(JobId("nothing"))
        except KeyError:
            pass
        else:
            raise AssertionError("a job that does not exist was found")

    def test_outcomes_wait_and_return(self) -> None:
        """WAITING items are due again when they are released; codes are kept for the report."""
        world = self.world()
        run_id = world.run()
        listed = [scanned(name, name, header(1, 1, n)) for n, name in enumerate("ab")]
        world.scan(run_id, listed)
        (job,) = world.plan(run_id, world.due(run_id))
        jobs = world.catalogue.jobs
        first, second = jobs.items(job.job_id, frozenset({ItemState.DUE}), 10)
        assert jobs.items(job.job_id, frozenset({ItemState.DUE}), 1) == [first]
        jobs.record_outcomes(
            job.job_id,
            [
                Outcome(first.item_id, ItemState.WAITING, 1, "refused_for_now", "A700", "busy"),
                Outcome(second.item_id, ItemState.FAILED, 1, "refused", "C000", "no", "look"),
            ],
        )
        assert jobs.count_items(job.job_id) == {ItemState.WAITING: 1, ItemState.FAILED: 1}
        assert jobs.release_waiting(job.job_id) == 1
        (due,) = jobs.items(job.job_id, frozenset({ItemState.DUE}), 10)
        assert (due.item_id, due.attempts) == (first.item_id, 1)
        report = world.catalogue.runs.report(run_id)
        (failure,) = report.failures
        assert failure.sop_instance_uid == identity(1, 1, 1).sop_instance_uid
        assert (failure.code, failure.status, failure.message, failure.hint) == (
            "refused",
            "C000",
            "no",
            "look",
        )
        assert (failure.locator, failure.destination) == ("b", world.destination_name)

    def test_writes_together_are_all_or_nothing(self) -> None:
        """One transaction for one thread; what it wrote can be read inside, and is undone."""
        world = self.world()
        run_id = world.run()
        world.scan(run_id, [scanned(f"f{n}", str(n), header(1, n, 1)) for n in range(2)])
        first, second = world.plan(run_id, world.due(run_id))
        jobs = world.catalogue.jobs
        with contextlib.suppress(ZeroDivisionError), jobs.together():
            jobs.set_job_state(first.job_id, JobState.IN_PROGRESS, attempt=1)
            with jobs.together():
                jobs.set_job_state(second.job_id, JobState.IN_PROGRESS, attempt=1)
            assert jobs.job(second.job_id).state is JobState.IN_PROGRESS
            raise ZeroDivisionError
        assert {jobs.job(job.job_id).state for job in (first, second)} == {JobState.PENDING}
        with jobs.together():
            world.send(second, {"f0": "0", "f1": "1"})
        assert jobs.count_items(second.job_id) == {ItemState.SENT: 1}

    def test_a_silent_change_becomes_its_own_version(self) -> None:
        """Other bytes under the same fingerprint: the receipt goes to a version of its own."""
        world = self.world()
        run_id = world.run()
        world.scan(run_id, [with_digest(scanned("a", "x", header(1, 1, 1)), "believed")])
        (before,) = world.due(run_id)
        (job,) = world.plan(run_id, [before])
        (item,) = world.send(job, {"a": "real"})
        assert item.plan.version_id != before.version_id
        assert item.plan.file_sha256 == digest("real")
        world.verify(job, [item])
        assert world.due(world.run()) == []
        assert world.present_versions() == 1

    def test_whether_a_destination_holds_copies(self) -> None:
        """A receipt counts until evidence refutes it."""
        world = self.world()
        holds_copies = world.catalogue.plans.holds_copies
        run_id = world.run()
        world.scan(run_id, [scanned("a", "x", header(1, 1, 1))])
        (job,) = world.plan(run_id, world.due(run_id))
        assert not holds_copies(world.destination)
        (item,) = world.send(job, {"a": "x"})
        assert holds_copies(world.destination)
        assert not holds_copies(world.catalogue.plans.destination("elsewhere"))
        world.verify(job, [item], {"a": Finding.MISSING})
        assert not holds_copies(world.destination)

    def test_a_study_is_settled_by_its_last_job(self) -> None:
        """Only when no other job of the study has anything to deliver is it verified, whole."""
        world = self.world()
        run_id = world.run()
        listed = [scanned(name, name, header(1, n, 1)) for n, name in enumerate("ab")]
        listed.append(scanned("c", "c", header(2, 1, 1)))
        world.scan(run_id, listed)
        first, second, _ = world.plan(run_id, world.due(run_id))
        contents = {name: name for name in "abc"}
        jobs = world.catalogue.jobs
        world.send(first, contents)
        assert not jobs.study_settled(first.job_id)
        world.send(second, contents)
        assert jobs.study_settled(first.job_id)
        sent = jobs.sent_items(first.job_id)
        assert [item.plan.entry.locator for item in sent] == ["a", "b"]
        world.verify(second, sent)
        assert jobs.count_items(first.job_id) == {ItemState.HELD: 1}
        assert jobs.count_items(second.job_id) == {ItemState.HELD: 1}
        assert reasons(world.due(world.run())) == [("c", "not_held", False)]

    def test_jobs_may_be_worked_on_at_once(self) -> None:
        """Threads that work on jobs of one study lose no count and wait in no circle."""
        world = self.world()
        run_id = world.run()
        names = [f"{series}-{n}" for series in range(6) for n in range(4)]
        listed = [scanned(name, name, header(1, *map(int, name.split("-")))) for name in names]
        world.scan(run_id, listed)
        jobs = world.plan(run_id, world.due(run_id))

        def work(job: Job) -> None:
            world.send(job, {name: name for name in names})
            if world.catalogue.jobs.study_settled(job.job_id):
                world.verify(job, world.catalogue.jobs.sent_items(job.job_id))

        with ThreadPoolExecutor(len(jobs)) as threads:
            list(threads.map(work, jobs))
        progress = world.catalogue.runs.progress(run_id)
        assert (progress.items, progress.settled, progress.sent) == (24, 24, 24)
        assert progress.settled_bytes == progress.bytes
        assert world.due(world.run()) == []

    def test_what_is_expected_of_a_study(self) -> None:
        """At level `present` a count is the evidence, so what is held already counts too."""
        world = self.world()
        listed = [scanned("a", "a", header(1, 1, 1))]
        contents = {"a": "a", "b": "b"}
        world.backup(listed, contents)
        listed.append(scanned("b", "b", header(1, 1, 2)))
        for level, expected in ((Level.COMPLETE, ["b"]), (Level.PRESENT, ["b", "a"])):
            run_id = world.run()
            world.scan(run_id, listed)
            (job,) = world.plan(run_id, world.due(run_id, level=level), level)
            sent = world.send(job, contents)
            study = world.catalogue.jobs.expected_study(job.job_id, sent)
            assert study.study_instance_uid == "2.25.1"
            assert [one.file_sha256 for one in study.instances] == [digest(c) for c in expected]
            assert [one.object_key for one in study.instances] == [f"key/{c}" for c in expected]

    def test_lower_evidence_does_not_lower_a_holding(self) -> None:
        """What was proven stays proven when somebody merely counts."""
        world = self.world()
        listed = [scanned("a", "a", header(1, 1, 1))]
        world.backup(listed, {"a": "a"}, level=Level.PROVEN)
        world.backup(listed, {"a": "a"}, level=Level.PRESENT, strategy=Strategy.FULL)
        assert world.due(world.run(), level=Level.PROVEN) == []

    def test_a_new_put_needs_new_evidence(self) -> None:
        """A receipt is a claim, even where something was proven before; an echo of it is not."""
        world = self.world()
        listed = [scanned("a", "a", header(1, 1, 1))]
        world.backup(listed, {"a": "a"})
        for already_there, due in ((True, []), (False, [("a", "level", True)])):
            run_id = world.run()
            items = world.due(run_id, Strategy.FULL)
            (job,) = world.plan(run_id, [replace(item, held=False) for item in items])
            (item,) = world.catalogue.jobs.items(job.job_id, frozenset({ItemState.DUE}), 1)
            receipt = replace(world.receipt(item, "a"), already_there=already_there)
            world.catalogue.jobs.record_outcomes(
                job.job_id, [Outcome(item.item_id, ItemState.SENT, 1, receipt=receipt)]
            )
            assert reasons(world.due(world.run())) == due


class RunSuite(CatalogueCases):
    """Tests of RunCatalogue and StatusCatalogue."""

    def test_runs_are_remembered(self) -> None:
        """A run is as it was asked for; equal requests are the same work while it is open."""
        runs = self.open_catalogue().runs
        world = self.world()
        request = RunRequest(
            RunKind.VERIFY,
            "/library/Grün",
            (DestinationRequest("/copy", Level.PROVEN), DestinationRequest("dicom://A@b:1")),
            Strategy.FULL,
            Priority.URGENT,
            include_other_files=True,
        )
        run_id = RunId("20260131-020000-00000000")
        assert runs.ask_for_run(run_id, request, world.tick()) == run_id
        record = runs.run(run_id)
        assert (record.request, record.state) == (request, RunState.PENDING)
        assert record.created_at == world.now
        another, third = RunId("20260131-020000-00000001"), RunId("20260131-020000-00000002")
        other_request = replace(request, strategy=Strategy.INCREMENTAL)
        assert runs.ask_for_run(another, other_request, world.tick()) == another
        assert runs.ask_for_run(third, request, world.tick()) == run_id
        assert runs.run(run_id).continued_at == world.now
        runs.set_run_state(run_id, RunState.PLANNING, world.tick())
        assert runs.run(run_id).continued_at is None, "the plan answers it"
        runs.set_run_state(run_id, RunState.RUNNING, world.tick())
        assert runs.ask_for_run(third, request, world.tick()) == run_id
        assert not runs.finish_run(run_id, world.tick()), "it was asked for again"
        record = runs.run(run_id)
        assert record.state is RunState.RUNNING
        assert record.started_at is not None
        assert record.planned_at is not None
        assert record.continued_at is not None
        assert record.started_at < record.planned_at < record.continued_at
        runs.set_run_state(run_id, RunState.CANCELLED, world.tick())
        assert runs.run(run_id).finished_at == world.now
        runs.set_run_state(run_id, RunState.FINISHED, world.tick())
        assert runs.run(run_id).state is RunState.CANCELLED
        assert runs.finish_run(run_id, world.tick())
        assert runs.run(run_id).state is RunState.CANCELLED
        assert runs.report(run_id).exit_status == 130
        assert runs.ask_for_run(third, request, world.tick()) == third
        assert [one.run_id for one in runs.runs(1)] == [third]
        assert runs.finish_run(another, world.tick())
        assert runs.run(another).finished_at == world.now
        try:
            runs.run(RunId("nothing"))
        except KeyError:
            return
        raise AssertionError("a run that does not exist was found")

    def test_a_report_counts_every_instance_once(self) -> None:
        """Counts add up, every failure is named, and the exit status says whether all is well."""
        world = self.world()
        names = "abcd"
        listed = [scanned(name, name, header(1, 1, n)) for n, name in enumerate(names)]
        world.backup(listed[:1], {"a": "a"})
        run_id = world.run()
        counts = world.scan(run_id, [*listed, unreadable("locked"), unreadable("away", "vanished")])
        (job,) = world.plan(run_id, world.due(run_id))
        world.catalogue.runs.record_plan(
            run_id, counts=counts, already_held={}, levels={}, warnings=["one", "one"]
        )
        sent = world.send(job, {name: name for name in names})
        world.verify(job, sent, {"c": Finding.MISSING})
        world.catalogue.runs.add_stage_seconds(run_id, {"scan": 1.5})
        world.catalogue.runs.add_stage_seconds(run_id, {"scan": 1.0, "deliver": 2.0})
        world.catalogue.runs.set_run_state(run_id, RunState.FINISHED, world.tick())
        report = world.catalogue.runs.report(run_id)
        assert report.counts == Counts(
            selected=3, already_held=1, stored=2, failed=1, unreadable=2, conflicts=0
        )
        assert report.exit_status == 3
        assert report.stages == {"scan": 2.5, "deliver": 2.0}
        assert report.warnings == ("one",)
        assert [(f.locator, f.code) for f in report.failures] == [
            ("c", "missing"),
            ("locked", "unreadable"),
            ("away", "vanished"),
        ]
        (part,) = report.destinations
        assert (part.level, part.transferred_bytes) == (Level.COMPLETE, 30)
        assert part.source_bytes == sum(one.entry.fingerprint.size for one in listed[1:])
        (study,) = report.study_reports
        assert (study.instances, study.held, study.level) == (4, 3, Level.NONE)
        assert report.studies == 1
        assert world.catalogue.runs.report(run_id, studies=False).study_reports == ()

    def test_cancelling_ends_what_is_not_delivered(self) -> None:
        """Cancelled items are counted as failed, named, and due in the next run."""
        world = self.world()
        run_id = world.run()
        listed = [scanned(name, name, header(1, n, 1)) for n, name in enumerate("ab")]
        world.scan(run_id, listed)
        first, second = world.plan(run_id, world.due(run_id))
        world.send(first, {"a": "a"})
        runs = world.catalogue.runs
        (late,) = world.catalogue.jobs.items(second.job_id, frozenset({ItemState.DUE}), 1)
        assert runs.cancel_items(run_id, second.job_id) == 1
        assert runs.cancel_items(run_id, second.job_id) == 0
        # Its worker has not heard of it yet.
        world.catalogue.jobs.set_job_state(second.job_id, JobState.IN_PROGRESS, attempt=1)
        world.catalogue.jobs.record_outcomes(
            second.job_id,
            [Outcome(late.item_id, ItemState.SENT, 1, receipt=world.receipt(late, "b"))],
        )
        world.catalogue.jobs.set_job_state(second.job_id, JobState.COMPLETED)
        assert world.catalogue.jobs.job(second.job_id).state is JobState.CANCELLED
        assert [job.job_id for job in runs.jobs()] == [first.job_id]
        assert reasons(world.due(world.run())) == [("a", "level", True), ("b", "level", True)]
        progress = runs.progress(run_id)
        assert (progress.items, progress.settled, progress.sent, progress.failed) == (2, 1, 1, 0)
        assert progress.settled_bytes == listed[1].entry.fingerprint.size
        assert progress.bytes == sum(one.entry.fingerprint.size for one in listed)
        assert [failure.code for failure in runs.report(run_id).failures] == ["cancelled"]
        runs.set_run_state(run_id, RunState.FINISHED, world.tick())
        report = runs.report(run_id)
        assert (report.counts.failed, report.counts.stored) == (2, 0)
        assert {failure.code for failure in report.failures} == {"cancelled", "unfinished"}

    def test_a_cancelled_run_leaves_no_open_job(self) -> None:
        """Jobs that deliver, wait or have not begun are all cancelled with their run."""
        world = self.world()
        run_id = world.run()
        world.scan(run_id, [scanned(n, n, header(1, k, 1)) for k, n in enumerate("abc")])
        begun, sent, _pending = world.plan(run_id, world.due(run_id))
        world.catalogue.jobs.set_job_state(begun.job_id, JobState.IN_PROGRESS, attempt=1)
        world.send(sent, {"b": "b"})
        runs = world.catalogue.runs
        runs.set_run_state(run_id, RunState.CANCELLED, world.tick())
        assert runs.cancel_items(run_id) == 2
        assert runs.jobs() == []

    def test_an_old_answer_says_nothing_about_a_new_copy(self) -> None:
        """Two jobs verify one study; what one of them sent again meanwhile is not lost again."""
        world = self.world()
        listed = [scanned("a", "a", header(1, 1, 1))]
        world.backup(listed, {"a": "a"})
        run_id = world.run(Strategy.FULL)
        world.scan(run_id, listed)
        (job,) = world.plan(run_id, world.due(run_id, Strategy.FULL))
        jobs = world.catalogue.jobs
        claimed = jobs.sent_items(job.job_id)
        missing = world.verification(job, claimed, {"a": Finding.MISSING})
        due = [item.item_id for item in claimed]
        jobs.record_verification(job.job_id, claimed, missing, lost_are_due=due)
        assert jobs.count_items(job.job_id) == {ItemState.DUE: 1}
        sent = world.send(job, {"a": "a"})
        jobs.record_verification(job.job_id, claimed, missing, lost_are_due=due)
        assert jobs.count_items(job.job_id) == {ItemState.SENT: 1}
        assert [item.held for item in world.due(world.run())] == [True]
        world.verify(job, sent, {})
        assert jobs.count_items(job.job_id) == {ItemState.HELD: 1}

    def test_an_error_decides_the_exit_status(self) -> None:
        """A run that failed ends as its error says."""
        world = self.world()
        for code, status in (("unreachable", 5), ("source_empty", 1), ("configuration", 4)):
            run_id = world.run()
            world.catalogue.runs.record_error(run_id, code, "it failed", "mend it")
            world.catalogue.runs.set_run_state(run_id, RunState.FAILED, world.tick())
            report = world.catalogue.runs.report(run_id)
            assert report.error == (code, "it failed", "mend it")
            assert report.exit_status == status

    def test_snapshots_are_remembered_until_they_are_forgotten(self) -> None:
        """Each destination's by generation; a known one is left as it is; a run names its own."""
        world = self.world()
        run_id = world.backup([scanned("a", "1", header(1, 1, 1))], {"a": "1"})
        witness, destination = world.catalogue.snapshots, world.destination
        assert witness.known_snapshots(destination) == []
        first, second, third = (
            SnapshotRef(f"0000000{number}-{number:064x}", number, world.tick())
            for number in (1, 2, 3)
        )
        witness.record_snapshot(destination, third)
        witness.record_snapshot(destination, first, run_id)
        witness.record_snapshot(destination, second, run_id)
        witness.record_snapshot(destination, replace(second, created_at=world.tick()))
        assert witness.known_snapshots(destination) == [first, second, third]
        other = world.catalogue.plans.destination("/elsewhere")
        witness.forget_snapshots(other, [first.snapshot_id])
        assert world.catalogue.runs.report(run_id).destinations[0].snapshot == second.snapshot_id
        witness.forget_snapshots(destination, [second.snapshot_id, "unknown"])
        assert witness.known_snapshots(destination) == [first, third]
        assert world.catalogue.runs.report(run_id).destinations[0].snapshot == first.snapshot_id
        assert witness.known_snapshots(other) == []

    def test_after_lost_snapshots_copies_that_were_not_verified_are_claims(self) -> None:
        """What another run verified is looked for again; what this one did is held."""
        world = self.world()
        first = world.backup([scanned("a", "1", header(1, 1, 1))], {"a": "1"})
        witness, destination = world.catalogue.snapshots, world.destination
        ref = SnapshotRef(f"00000001-{1:064x}", 1, world.tick())
        witness.record_snapshot(destination, ref, first)
        for run_id, state in ((first, 0), (world.run(), 1)):
            witness.doubt_copies(destination, [ref.snapshot_id], run_id)
            due = world.due(world.run())
            assert (len(due), all(item.held for item in due)) == (state, True)
        assert witness.known_snapshots(destination) == []

    def test_a_failed_snapshot_decides_the_exit_status_until_one_is_taken(self) -> None:
        """The copies are held, and the run has no snapshot: 5 where the place is away, else 3."""
        world = self.world()
        run_id = world.backup([scanned("a", "1", header(1, 1, 1))], {"a": "1"})
        runs, destination = world.catalogue.runs, world.destination
        for code, status in (("unreachable", 5), ("vault_damaged", 3), ("destination", 3)):
            runs.record_closing(
                run_id,
                snapshot_failures={destination: (code, "it cannot", "mend it")},
                warnings=("one", "two"),
            )
            report = runs.report(run_id)
            assert report.exit_status == status
            assert report.destinations[0].snapshot_failure == (code, "it cannot", "mend it")
            assert report.warnings == ("one", "two")
        runs.record_closing(run_id, snapshot_failures={}, warnings=())
        report = runs.report(run_id)
        assert (report.exit_status, report.destinations[0].snapshot_failure) == (0, None)
        assert report.warnings == ("one", "two")

    def test_jobs_are_listed_in_queue_order(self) -> None:
        """Higher priority first, then as planned; ended ones only when asked for."""
        world = self.world()
        run_id = world.run()
        listed = [scanned(name, name, header(1, n, 1)) for n, name in enumerate("abc")]
        world.scan(run_id, listed)
        first, second, third = world.plan(run_id, world.due(run_id))
        runs = world.catalogue.runs
        runs.set_job_priority(third.job_id, Priority.URGENT)
        world.catalogue.jobs.set_job_state(second.job_id, JobState.CANCELLED)
        assert [job.job_id for job in runs.jobs()] == [third.job_id, first.job_id]
        assert len(runs.jobs(open_only=False)) == 3
        assert [job.priority for job in runs.jobs(limit=1)] == [Priority.URGENT]

    def test_status_counts_evidence_only(self) -> None:
        """A claim is shown by its level, and protects nothing."""
        world = self.world()
        listed = [
            scanned("a", "a", header(1, 1, 1)),
            scanned("b", "b", header(2, 1, 1)),
            scanned("c", "c", header(2, 1, 2)),
        ]
        contents = {name: name for name in "abc"}
        world.backup(listed[:2], contents)
        verified = world.now
        run_id = world.run()
        world.scan(run_id, listed)
        (job,) = world.plan(run_id, world.due(run_id))
        world.send(job, contents)
        (source,) = world.catalogue.status.sources()
        assert (source.name, source.studies, source.instances) == (world.source_name, 2, 3)
        assert source.bytes == sum(one.entry.fingerprint.size for one in listed)
        (coverage,) = world.catalogue.status.coverage(world.source)
        assert (coverage.studies, coverage.studies_protected) == (2, 1)
        assert (coverage.instances, coverage.instances_held) == (3, 2)
        assert coverage.by_level == {Level.SENT: 1, Level.COMPLETE: 2}
        assert coverage.oldest_evidence_at is not None
        assert coverage.oldest_evidence_at < verified
        assert coverage.last_run is not None
        assert coverage.last_run.counts.selected == 1
        world.verify(job, world.catalogue.jobs.sent_items(job.job_id))
        (coverage,) = world.catalogue.status.coverage(world.source)
        assert (coverage.studies_protected, coverage.instances_held) == (2, 3)

    def test_it_is_still_there_after_reopening(self) -> None:
        """What a method returned from is durable."""
        world = self.world()
        run_id = world.backup([scanned("a", "a", header(1, 1, 1))], {"a": "a"})
        report = world.catalogue.runs.report(run_id)
        world.catalogue.close()
        again = World(self.open_catalogue())
        assert again.catalogue.runs.report(run_id) == report
        assert again.catalogue.status.counts()["holdings"] == 1


class CatalogueSuite(ScanSuite, DueSuite, JobSuite, RunSuite, HistorySuite, StrategySuite):
    """Tests of the contracts in `dcmvault.ports.catalogue`."""
