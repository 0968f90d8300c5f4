"""What every catalogue must do: subclass CatalogueSuite in a test module; run it with pytest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from dcmvault.model.evidence import Finding, Level
from dcmvault.model.identifiers import JobId, RunId
from dcmvault.model.instance import Claim, ScannedEntry, StudyAttributes
from dcmvault.model.job import ItemState, JobState, Priority
from dcmvault.model.plan import DestinationRequest, PlanItem, RunKind, RunRequest, Strategy
from dcmvault.model.report import Counts, RunState
from dcmvault.ports.catalogue import Outcome
from dcmvault.testing.catalogue_history import History
from dcmvault.testing.catalogue_world import (
    OpenedCatalogue,
    World,
    digest,
    entry,
    header,
    identity,
    scanned,
    unreadable,
    with_digest,
)


def _reasons(items: Sequence[PlanItem]) -> list[tuple[str, str, bool]]:
    return [(item.entry.locator, item.reason, item.held) for item in items]


class _Opening(ABC):
    """Every suite opens the catalogue that its subclass provides."""

    @abstractmethod
    def open_catalogue(self) -> OpenedCatalogue:
        """Open the catalogue of this test; the same one each time within one test."""

    def world(self) -> World:
        """Return a world over the catalogue."""
        return World(self.open_catalogue())


class ScanSuite(_Opening):
    """Tests of SourceCatalogue and Scan."""

    def test_names_have_one_id(self) -> None:
        """The same name is the same source or destination."""
        world = self.world()
        assert world.source == world.source
        assert world.destination == world.destination
        other = world.catalogue.sources.source("/elsewhere")
        assert other != world.source
        assert world.catalogue.status.destination_name(world.destination) == world.destination_name

    def test_an_unchanged_source_is_known(self) -> None:
        """A second pass knows every entry as it was; nothing is new, nothing gone."""
        world = self.world()
        listed = [
            scanned("a", "a", header(1, 1, 1)),
            ScannedEntry(entry("b"), opaque_reason="no data set"),
            ScannedEntry(replace(entry("readme"), claim=Claim.OTHER)),
            unreadable("locked"),
        ]
        first = world.scan(world.run(), listed)
        assert (first.instances, first.new, first.not_dicom, first.unreadable) == (3, 3, 1, 1)
        assert first.known_before == 0
        scan_pass = world.catalogue.sources.scan(world.source, world.run())
        known = scan_pass.known([one.entry for one in listed] + [entry("new")])
        assert known[-1] is None
        again = [one for one in known if one is not None]
        assert [one.entry for one in again] == [one.entry for one in listed]
        assert [one.version_id is None for one in again] == [False, False, True, True]
        assert [one.unreadable for one in again] == [False, False, False, True]
        second = scan_pass.finish(believe_absence=True)
        assert (second.instances, second.new, second.changed, second.gone) == (3, 0, 0, 0)
        assert (second.known_before, second.not_dicom, second.unreadable) == (3, 1, 1)
        assert world.catalogue.sources.present_instances(world.source) == 3
        assert world.catalogue.plans.present_versions(world.source) == 2

    def test_absence_counts_only_when_believed(self) -> None:
        """An unmounted volume changes nothing; a believed absence does, until they are back."""
        world = self.world()
        listed = [scanned(name, name, header(1, 1, n)) for n, name in enumerate("abc")]
        world.scan(world.run(), listed)
        assert world.scan(world.run(), [], believe_absence=False).gone == 0
        assert world.catalogue.sources.present_instances(world.source) == 3
        assert world.catalogue.plans.present_versions(world.source) == 3
        assert world.scan(world.run(), listed[:1]).gone == 2
        assert world.catalogue.sources.present_instances(world.source) == 1
        assert len(world.due(world.run())) == 1
        back = world.scan(world.run(), listed)
        assert (back.new, back.changed, back.gone, back.instances) == (2, 0, 0, 3)
        assert len(world.due(world.run())) == 3

    def test_a_pass_that_died_is_made_good_by_the_next(self) -> None:
        """What a pass recorded before it died is counted by the next one."""
        world = self.world()
        scan_pass = world.catalogue.sources.scan(world.source, world.run())
        listed = [scanned(name, name, header(1, 1, n)) for n, name in enumerate("ab")]
        scan_pass.record(listed)
        counts = world.scan(world.run(), listed[:1])
        assert (counts.known_before, counts.instances, counts.gone) == (2, 1, 1)

    def test_a_copy_shares_the_version(self) -> None:
        """Equal digests under one identity are one version, whichever entry has them."""
        world = self.world()
        head = header(1, 1, 1)
        world.scan(world.run(), [scanned("a", "x", head, compared=True)])
        scan_pass = world.catalogue.sources.scan(world.source, world.run())
        (known,) = scan_pass.versions([head.identity])[head.identity]
        assert known.file_sha256 == digest("x")
        assert known.entry.locator == "a"
        scan_pass.known([entry("a", "x")])
        scan_pass.record([scanned(name, "x", head, compared=True) for name in ("b", "c")])
        scan_pass.finish(believe_absence=True)
        assert world.catalogue.plans.present_versions(world.source) == 1
        assert len(world.due(world.run())) == 1

    def test_a_digest_read_for_comparison_is_kept(self) -> None:
        """`set_digest` makes a later equal content the same version."""
        world = self.world()
        head = header(1, 1, 1)
        world.scan(world.run(), [scanned("a", "x", head)])
        scan_pass = world.catalogue.sources.scan(world.source, world.run())
        (known,) = scan_pass.versions([head.identity])[head.identity]
        assert known.file_sha256 == b""
        scan_pass.set_digest(known.version_id, digest("x"))
        scan_pass.record([scanned("moved", "x", head, compared=True)])
        scan_pass.finish(believe_absence=True)
        (item,) = world.due(world.run())
        assert (item.entry.locator, item.file_sha256) == ("moved", digest("x"))
        assert item.version_id == known.version_id

    def test_recording_twice_is_recording_once(self) -> None:
        """A repeated step finds the version that it made."""
        world = self.world()
        scan_pass = world.catalogue.sources.scan(world.source, world.run())
        for _ in range(2):
            scan_pass.record([scanned("a", "x", header(1, 1, 1))])
        counts = scan_pass.finish(believe_absence=True)
        assert (counts.instances, counts.new, counts.changed) == (1, 1, 0)
        assert world.catalogue.status.counts()["versions"] == 1

    def test_an_unreadable_moment_forgets_nothing(self) -> None:
        """A file that could not be read for a while has the same version afterwards."""
        world = self.world()
        fine = [scanned("a", "x", header(1, 1, 1))]
        world.scan(world.run(), fine)
        assert world.scan(world.run(), [unreadable("a")]).unreadable == 1
        assert world.due(world.run()) == []
        assert world.scan(world.run(), fine).unreadable == 0
        assert _reasons(world.due(world.run())) == [("a", "new", False)]

    def test_study_attributes_follow_the_newest_pass(self) -> None:
        """A corrected name replaces the old one; what no database can store is replaced."""
        world = self.world()
        run_id = world.backup([scanned("a", "x", header(1, 1, 1))], {"a": "x"})
        (study,) = world.catalogue.runs.report(run_id).study_reports
        assert (study.patient_name, study.modalities) == ("Doe^Jane", "CT")
        corrected = replace(
            header(1, 1, 1), study=StudyAttributes(patient_name="Doe\x00^Joan\ud800")
        )
        world.scan(world.run(), [scanned("a", "y", corrected)])
        (study,) = world.catalogue.runs.report(run_id).study_reports
        assert study.patient_name == "Doe^Joan?"

    def test_versions_of_any_source_are_listed(self) -> None:
        """A second source meets what the first one has."""
        world = self.world()
        other = World(world.catalogue, source_name="/other", label="second")
        world.scan(world.run(), [scanned("a", "x", header(1, 1, 1), compared=True)])
        scan_pass = world.catalogue.sources.scan(other.source, other.run())
        found = scan_pass.versions([identity(1, 1, 1), identity(9, 9, 9)])
        assert [one.source_id for one in found[identity(1, 1, 1)]] == [world.source]
        assert not found.get(identity(9, 9, 9))


class DueSuite(_Opening):
    """Tests of PlanCatalogue."""

    def test_order_is_study_series_number(self) -> None:
        """Items come study by study, series by series, by Instance Number; opaque files last."""
        world = self.world()
        names = [(1, 1, 10), (2, 1, 1), (1, 2, 1), (1, 1, 9), (1, 1, 2)]
        listed = [
            ScannedEntry(entry("broken"), opaque_reason="truncated"),
            *(scanned(f"f{n}", str(n), header(*name)) for n, name in enumerate(names)),
        ]
        world.scan(world.run(), listed)
        items = world.due(world.run())
        assert [item.entry.locator for item in items] == ["f4", "f3", "f0", "f2", "f1", "broken"]
        assert items[-1].opaque_reason == "truncated"
        assert items[-1].identity == type(items[-1].identity)("", "", "")

    def test_what_is_held_is_not_due(self) -> None:
        """After a run in which all went well nothing is due; one more file is."""
        world = self.world()
        listed = [scanned(name, name, header(1, 1, n)) for n, name in enumerate("ab")]
        run_id = world.backup(listed, {"a": "a", "b": "b"})
        assert world.catalogue.runs.report(run_id).exit_status == 0
        assert world.due(world.run()) == []
        listed.append(scanned("c", "c", header(1, 1, 3)))
        run_id = world.run()
        world.scan(run_id, listed)
        assert _reasons(world.due(run_id)) == [("c", "new", False)]

    def test_a_higher_level_asks_for_evidence_only(self) -> None:
        """What is held at a lower level, or merely sent, needs verification, no delivery."""
        world = self.world()
        listed = [scanned("a", "a", header(1, 1, 1))]
        world.backup(listed, {"a": "a"}, level=Level.COMPLETE)
        assert _reasons(world.due(world.run(), level=Level.PROVEN)) == [("a", "level", True)]
        (item,) = world.due(world.run(), level=Level.PROVEN)
        assert (item.file_sha256, item.object_key) == (digest("a"), "key/a")

    def test_a_claim_is_held_only_at_level_sent(self) -> None:
        """A receipt reaches level `sent`, and asks for verification at any other."""
        world = self.world()
        run_id = world.run()
        world.scan(run_id, [scanned("a", "a", header(1, 1, 1))])
        (job,) = world.plan(run_id, world.due(run_id))
        world.send(job, {"a": "a"})
        assert world.due(world.run(), level=Level.SENT) == []
        assert _reasons(world.due(world.run())) == [("a", "level", True)]

    def test_missing_and_damaged_are_due_for_delivery(self) -> None:
        """A verification that refutes a holding makes it due; an open question does not."""
        world = self.world()
        names = "abc"
        listed = [scanned(name, name, header(1, 1, n)) for n, name in enumerate(names)]
        world.backup(listed, {name: name for name in names})
        run_id = world.run(kind=RunKind.VERIFY)
        expected = list(world.catalogue.plans.expected(world.source, world.destination))
        assert [item.held for item in expected] == [True] * 3
        (job,) = world.plan(run_id, expected)
        world.verify(
            job,
            world.catalogue.jobs.sent_items(job.job_id),
            {"a": Finding.MISSING, "b": Finding.DAMAGED, "c": Finding.UNKNOWN},
        )
        assert world.catalogue.jobs.count_items(job.job_id) == {ItemState.FAILED: 3}
        assert _reasons(world.due(world.run())) == [
            ("a", "not_held", False),
            ("b", "not_held", False),
        ]
        expected = list(world.catalogue.plans.expected(world.source, world.destination))
        assert [item.held for item in expected] == [False, False, True]

    def test_full_and_differential_reconsider(self) -> None:
        """Full considers all; differential what was first seen after the last full run."""
        world = self.world()
        listed = [scanned("a", "a", header(1, 1, 1))]
        contents = {name: name for name in "abc"}
        world.backup(listed, contents)
        everything = [("a", "differential", True)]
        assert _reasons(world.due(world.run(), Strategy.DIFFERENTIAL)) == everything
        world.backup(listed, contents, strategy=Strategy.FULL)
        assert world.due(world.run(), Strategy.DIFFERENTIAL) == []
        listed.append(scanned("b", "b", header(1, 1, 2)))
        world.backup(listed, contents)
        listed.append(scanned("c", "c", header(1, 1, 3)))
        world.scan(world.run(), listed)
        assert _reasons(world.due(world.run(), Strategy.DIFFERENTIAL)) == [
            ("b", "differential", True),
            ("c", "new", False),
        ]
        assert _reasons(world.due(world.run(), Strategy.FULL)) == [
            ("a", "full", True),
            ("b", "full", True),
            ("c", "new", False),
        ]

    def test_a_changed_file_is_a_new_version(self) -> None:
        """Other bytes under the same locator and UID are due; the old version stays held."""
        world = self.world()
        world.backup([scanned("a", "old", header(1, 1, 1))], {"a": "old"})
        run_id = world.run()
        counts = world.scan(run_id, [scanned("a", "new", header(1, 1, 1), compared=True)])
        assert (counts.new, counts.changed, counts.gone) == (0, 1, 0)
        (item,) = world.due(run_id)
        assert (item.reason, item.held, item.conflict) == ("changed", False, False)
        assert item.earlier_version_there
        assert world.catalogue.status.counts()["holdings"] == 1

    def test_two_contents_at_once_are_a_conflict(self) -> None:
        """All but the first seen of several present contents are marked."""
        world = self.world()
        head = header(1, 1, 1)
        listed = [scanned(name, name, head, compared=True) for name in "abc"]
        run_id = world.run()
        world.scan(run_id, listed)
        items = world.due(run_id)
        assert [item.conflict for item in items] == [False, True, True]
        assert not any(item.earlier_version_there for item in items)
        (job,) = world.plan(run_id, items)
        assert world.catalogue.jobs.count_items(job.job_id) == {
            ItemState.DUE: 1,
            ItemState.CONFLICT: 2,
        }
        world.scan(world.run(), listed[1:])
        assert [item.conflict for item in world.due(world.run())] == [False, True]

    def test_a_conflict_may_lie_in_another_source(self) -> None:
        """The first seen wins over sources."""
        world = self.world()
        other = World(world.catalogue, source_name="/other", label="second")
        world.scan(world.run(), [scanned("a", "x", header(1, 1, 1), compared=True)])
        other.scan(other.run(), [scanned("a", "y", header(1, 1, 1), compared=True)])
        assert [item.conflict for item in world.due(world.run())] == [False]
        assert [item.conflict for item in other.due(other.run())] == [True]

    def test_items_of_the_run_are_left_out(self) -> None:
        """A run that plans again selects only what is new, and never twice."""
        world = self.world()
        listed = [scanned("a", "a", header(1, 1, 1))]
        run_id = world.run()
        world.scan(run_id, listed)
        items = world.due(run_id)
        (job,) = world.plan(run_id, items)
        assert world.due(run_id) == []
        assert world.plan(run_id, items) == []
        assert job.instances == 1
        assert len(world.due(world.run())) == 1

    def test_interrupted_planning_is_forgotten(self) -> None:
        """PENDING jobs are dropped with their counters; their names do not come back."""
        world = self.world()
        listed = [scanned(name, name, header(1, n, 1)) for n, name in enumerate("ab")]
        run_id = world.run()
        world.scan(run_id, listed)
        first, second = world.plan(run_id, world.due(run_id))
        world.catalogue.jobs.set_job_state(first.job_id, JobState.QUEUED)
        world.catalogue.plans.drop_unstarted_jobs(run_id)
        assert world.catalogue.runs.progress(run_id).items == 1
        assert _reasons(world.due(run_id)) == [("b", "not_held", False)] or _reasons(
            world.due(run_id)
        ) == [("b", "new", False)]
        (again,) = world.plan(run_id, world.due(run_id))
        assert again.job_id not in {first.job_id, second.job_id}
        assert [job.job_id for job in world.catalogue.runs.jobs()] == [first.job_id, again.job_id]


class JobSuite(_Opening):
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
        assert world.catalogue.plans.present_versions(world.source) == 1

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
        assert _reasons(world.due(world.run())) == [("c", "not_held", False)]

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
            assert _reasons(world.due(world.run())) == due


class RunSuite(_Opening):
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
        runs.create_run(run_id, request, world.tick())
        record = runs.run(run_id)
        assert (record.request, record.state) == (request, RunState.PENDING)
        assert record.created_at == world.now
        assert runs.unfinished_run(request) == record
        assert runs.unfinished_run(replace(request, strategy=Strategy.INCREMENTAL)) is None
        runs.set_run_state(run_id, RunState.PLANNING, world.tick())
        runs.set_run_state(run_id, RunState.RUNNING, world.tick())
        runs.continue_run(run_id, world.tick())
        record = runs.run(run_id)
        assert record.started_at is not None
        assert record.planned_at is not None
        assert record.continued_at is not None
        assert record.started_at < record.planned_at < record.continued_at
        runs.set_run_state(run_id, RunState.CANCELLED, world.tick())
        assert runs.run(run_id).finished_at == world.now
        runs.set_run_state(run_id, RunState.FINISHED, world.tick())
        assert runs.run(run_id).state is RunState.CANCELLED
        assert runs.unfinished_run(request) is None
        assert runs.report(run_id).exit_status == 130
        assert [one.run_id for one in runs.runs(1)] == [run_id]
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
        assert runs.cancel_items(run_id, second.job_id) == 1
        assert runs.cancel_items(run_id) == 0
        progress = runs.progress(run_id)
        assert (progress.items, progress.settled, progress.sent, progress.failed) == (2, 1, 1, 0)
        assert progress.settled_bytes == listed[1].entry.fingerprint.size
        assert progress.bytes == sum(one.entry.fingerprint.size for one in listed)
        assert [failure.code for failure in runs.report(run_id).failures] == ["cancelled"]
        runs.set_run_state(run_id, RunState.FINISHED, world.tick())
        report = runs.report(run_id)
        assert (report.counts.failed, report.counts.stored) == (2, 0)
        assert {failure.code for failure in report.failures} == {"cancelled", "unfinished"}

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


class HistorySuite(_Opening):
    """Random histories, compared with a model in memory after every step."""

    #: Seeds of the histories; each is a few dozen steps.
    seeds: Sequence[int] = range(3)

    def test_random_histories_agree_with_the_model(self) -> None:
        """What is due, held and in conflict is what a simple model says."""
        catalogue = self.open_catalogue()
        for seed in self.seeds:
            History(catalogue, seed).play(steps=20)


class CatalogueSuite(ScanSuite, DueSuite, JobSuite, RunSuite, HistorySuite):
    """Tests of the contracts in `dcmvault.ports.catalogue`."""
