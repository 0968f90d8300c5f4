"""What every catalogue must do with sources and plans; part of `catalogue_suite`."""

from __future__ import annotations

from dataclasses import replace

from dcmvault.model.evidence import Finding, Level
from dcmvault.model.instance import Claim, Fingerprint, ScannedEntry, StudyAttributes
from dcmvault.model.job import ItemState, JobState
from dcmvault.model.plan import RunKind, Strategy
from dcmvault.ports.catalogue import Outcome
from dcmvault.testing.catalogue_bookmark_suite import BookmarkSuite
from dcmvault.testing.catalogue_world import (
    CatalogueCases,
    World,
    digest,
    entry,
    header,
    identity,
    reasons,
    scanned,
    told,
    unreadable,
)


class ScanSuite(BookmarkSuite):
    """Tests of SourceCatalogue and Scan."""

    def test_names_have_one_id(self) -> None:
        """The same name is the same source or destination."""
        world = self.world()
        assert world.source == world.source
        assert world.destination == world.destination
        other = world.catalogue.sources.source("/elsewhere")
        assert other != world.source
        assert world.catalogue.status.destinations() == {world.destination: world.destination_name}

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
        touched = entry("b", "touched")
        news = scan_pass.news([*(one.entry for one in listed), touched, entry("new")])
        assert news.unchanged == 2
        assert [asked for asked, _ in news.others] == [
            listed[2].entry,
            listed[3].entry,
            touched,
            entry("new"),
        ]
        other, locked, before, new = (known for _, known in news.others)
        assert new is None
        assert other is not None
        assert locked is not None
        assert before is not None
        assert (other.entry, locked.entry) == (listed[2].entry, listed[3].entry)
        assert before.entry == listed[1].entry
        assert [one.version_id is None for one in (other, locked, before)] == [True, True, False]
        assert [one.unreadable for one in (other, locked, before)] == [False, True, False]
        second = scan_pass.finish(believe_absence=True)
        assert (second.instances, second.new, second.changed, second.gone) == (3, 0, 0, 0)
        assert (second.known_before, second.not_dicom, second.unreadable) == (3, 1, 1)
        assert world.catalogue.sources.present_instances(world.source) == 3
        assert world.present_versions() == 2

    def test_what_an_index_told_is_completed_by_a_scan_and_never_takes_its_place(self) -> None:
        """A told header makes an instance to plan by; texts of a file win, whoever comes first."""
        world = self.world()
        listed = [
            ScannedEntry(entry("a"), told(1, 1, 1, patient_name="DOE JANE", patient_sex="F")),
            ScannedEntry(entry("b"), told(2, 1, 1, patient_name="DOE JANE", patient_sex="F")),
            scanned("c", "c", header(2, 1, 2)),
        ]
        world.scan(world.run(), listed)
        due = world.due(world.run())
        assert [item.identity for item in due] == [
            identity(1, 1, 1),
            identity(2, 1, 1),
            identity(2, 1, 2),
        ]
        assert [item.kind.is_known for item in due] == [False, False, True]
        run_id = world.backup(listed, {"a": "a", "b": "b", "c": "c"})
        names = {
            study.study_instance_uid: study.patient_name
            for study in world.catalogue.runs.report(run_id).study_reports
        }
        assert names == {"2.25.1": "DOE JANE", "2.25.2": "Doe^Jane"}
        again = [ScannedEntry(entry("a", "new"), header(1, 1, 1))]
        world.scan(world.run(), again + listed[1:])
        (new,) = world.due(world.run())
        assert (new.reason, new.kind.is_known) == ("changed", True)

    def test_absence_counts_only_when_believed(self) -> None:
        """An unmounted volume changes nothing; a believed absence does, until they are back."""
        world = self.world()
        listed = [scanned(name, name, header(1, 1, n)) for n, name in enumerate("abc")]
        world.scan(world.run(), listed)
        assert world.scan(world.run(), [], believe_absence=False).gone == 0
        assert world.catalogue.sources.present_instances(world.source) == 3
        assert world.present_versions() == 3
        assert world.scan(world.run(), listed[:1]).gone == 2
        assert world.catalogue.sources.present_instances(world.source) == 1
        assert len(world.due(world.run())) == 1
        back = world.scan(world.run(), listed)
        assert (back.new, back.changed, back.gone, back.instances) == (2, 0, 0, 3)
        assert len(world.due(world.run())) == 3

    def test_studies_that_a_source_lists(self) -> None:
        """They are named once each, and no more once nothing of them is listed."""
        world = self.world()
        listed = [scanned(f"{n}", f"{n}", header(n % 3 + 1, 1, n)) for n in range(9)]
        world.scan(world.run(), listed)
        present = world.catalogue.sources.present_studies
        assert list(present(world.source)) == sorted(
            {one.header.study_instance_uid for one in listed if one.header is not None}
        )
        world.scan(world.run(), listed[:2])
        assert len(list(present(world.source))) == 2
        assert list(present(world.catalogue.sources.source("/elsewhere"))) == []

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
        scan_pass.news([entry("a", "x")])
        scan_pass.record([scanned(name, "x", head, compared=True) for name in ("b", "c")])
        scan_pass.finish(believe_absence=True)
        assert world.present_versions() == 1
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
        assert reasons(world.due(world.run())) == [("a", "new", False)]

    def test_study_attributes_follow_the_newest_pass(self) -> None:
        """A corrected name replaces the old one; what no database can store is replaced."""
        world = self.world()
        run_id = world.backup([scanned("a", "x", header(1, 1, 1))], {"a": "x"})
        (study,) = world.catalogue.runs.report(run_id).study_reports
        assert (study.patient_name, study.modalities) == ("Doe^Jane", "CT")
        corrected = header(1, 1, 1)._replace(
            study=StudyAttributes(patient_name="Doe\x00^Joan\ud800")
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


class DueSuite(CatalogueCases):
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
        assert reasons(world.due(run_id)) == [("c", "new", False)]

    def test_a_higher_level_asks_for_evidence_only(self) -> None:
        """What is held at a lower level, or merely sent, needs verification, no delivery."""
        world = self.world()
        listed = [scanned("a", "a", header(1, 1, 1))]
        world.backup(listed, {"a": "a"}, level=Level.COMPLETE)
        assert reasons(world.due(world.run(), level=Level.PROVEN)) == [("a", "level", True)]
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
        assert reasons(world.due(world.run())) == [("a", "level", True)]

    def test_missing_and_damaged_are_due_for_delivery(self) -> None:
        """A verification that refutes a holding makes it due; an open question does not.

        It is looked for first: somebody may have mended it.
        """
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
        assert reasons(world.due(world.run())) == [
            ("a", "not_held", True),
            ("b", "damaged", True),
        ]
        # Who asks for no evidence has it sent.
        assert reasons(world.due(world.run(), level=Level.SENT)) == [
            ("a", "not_held", False),
            ("b", "damaged", False),
        ]
        # Another verification looks for it again: the peer may have found it meanwhile.
        expected = list(world.catalogue.plans.expected(world.source, world.destination))
        assert [item.held for item in expected] == [True] * 3

    def test_full_and_differential_reconsider(self) -> None:
        """Full considers all; differential what was first seen after the last full run."""
        world = self.world()
        listed = [scanned("a", "a", header(1, 1, 1))]
        contents = {name: name for name in "abc"}
        world.backup(listed, contents)
        everything = [("a", "differential", True)]
        assert reasons(world.due(world.run(), Strategy.DIFFERENTIAL)) == everything
        world.backup(listed, contents, strategy=Strategy.FULL)
        assert world.due(world.run(), Strategy.DIFFERENTIAL) == []
        listed.append(scanned("b", "b", header(1, 1, 2)))
        world.backup(listed, contents)
        listed.append(scanned("c", "c", header(1, 1, 3)))
        world.scan(world.run(), listed)
        assert reasons(world.due(world.run(), Strategy.DIFFERENTIAL)) == [
            ("b", "differential", True),
            ("c", "new", False),
        ]
        assert reasons(world.due(world.run(), Strategy.FULL)) == [
            ("a", "full", True),
            ("b", "full", True),
            ("c", "new", False),
        ]

    def test_the_size_of_a_fetched_file_is_learned_from_its_receipt(self) -> None:
        """A source that tells no size: from the first copy on it is known, and nothing due."""
        world = self.world()
        one = scanned("a", "a", header(1, 1, 1))
        one = replace(one, entry=replace(one.entry, fingerprint=Fingerprint(0, 7, 8)))
        run_id = world.run()
        world.scan(run_id, [one])
        (job,) = world.plan(run_id, world.due(run_id))
        jobs = world.catalogue.jobs
        jobs.set_job_state(job.job_id, JobState.IN_PROGRESS, attempt=1)
        (item,) = jobs.items(job.job_id, frozenset({ItemState.DUE}), 10)
        receipt = replace(world.receipt(item, "a"), fingerprint=Fingerprint(1234, 1, 2))
        outcome = Outcome(item.item_id, ItemState.SENT, 1, receipt=receipt)
        jobs.record_outcomes(job.job_id, [outcome])
        sent = jobs.sent_items(job.job_id)
        (expected,) = jobs.expected_study(job.job_id, sent).instances
        assert (expected.size, expected.file_sha256) == (1234, digest("a"))
        world.verify(job, sent)
        (part,) = world.catalogue.runs.report(run_id).destinations
        assert part.source_bytes == 1234
        counts = world.scan(world.run(), [one])
        assert (counts.new, counts.changed) == (0, 0)
        assert world.due(world.run()) == []

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

    def test_what_comes_during_a_pass_is_not_gone(self) -> None:
        """Two passes over one source at once: what only the other one lists is not missing."""
        world = self.world()
        first = world.catalogue.sources.scan(world.source, world.run())
        first.news([entry("a")])
        world.scan(world.run(), [scanned(name, name, header(1, 1, 1)) for name in "ab"])
        counts = first.finish(believe_absence=True)
        assert counts.gone == 0
        assert sorted(item.entry.locator for item in world.due(world.run())) == ["a", "b"]

    def test_a_conflict_may_lie_in_another_source(self) -> None:
        """Whichever source comes first has the place; one that never comes takes it from nobody."""
        world = self.world()
        other = World(world.catalogue, source_name="/other", label="second")
        world.scan(world.run(), [scanned("a", "x", header(1, 1, 1), compared=True)])
        other.scan(other.run(), [scanned("a", "y", header(1, 1, 1), compared=True)])
        assert [item.conflict for item in world.due(world.run())] == [False]
        assert [item.conflict for item in other.due(other.run())] == [False]
        other.backup([scanned("a", "y", header(1, 1, 1), compared=True)], {"a": "y"})
        assert [item.conflict for item in world.due(world.run())] == [True]
        assert not any(item.earlier_version_there for item in world.due(world.run()))

    def test_another_sources_content_that_nobody_read_is_no_conflict(self) -> None:
        """The peer had it before us: it was never read, and may well be the same."""
        world = self.world()
        other = World(world.catalogue, source_name="/other", label="second")
        run_id = world.run()
        world.scan(run_id, [scanned("a", "x", header(1, 1, 1))])
        (job,) = world.plan(run_id, world.due(run_id))
        jobs = world.catalogue.jobs
        jobs.set_job_state(job.job_id, JobState.IN_PROGRESS, attempt=1)
        (item,) = jobs.items(job.job_id, frozenset({ItemState.DUE}), 1)
        jobs.record_outcomes(job.job_id, [Outcome(item.item_id, ItemState.SENT, 1)])
        world.verify(job, jobs.sent_items(job.job_id), {})
        other.scan(other.run(), [scanned("b", "x", header(1, 1, 1), compared=True)])
        assert [item.conflict for item in other.due(other.run())] == [False]

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
        assert reasons(world.due(run_id)) == [("b", "new", False)]
        (again,) = world.plan(run_id, world.due(run_id))
        assert again.job_id not in {first.job_id, second.job_id}
        assert [job.job_id for job in world.catalogue.runs.jobs()] == [first.job_id, again.job_id]

    def test_a_study_that_a_destination_forgot_is_due_again(self) -> None:
        """Nothing is shown as held that somebody asked the destination to forget."""
        world = self.world()
        run_id = world.run()
        files = [scanned(name, name, header(n, 1, 1)) for n, name in enumerate("ab", 1)]
        world.scan(run_id, files)
        for job in world.plan(run_id, world.due(run_id)):
            world.verify(job, world.send(job, {"a": "a", "b": "b"}))
        assert world.due(world.run()) == []
        study = header(1, 1, 1).study_instance_uid
        world.catalogue.plans.forget_copies(world.catalogue.plans.destination("elsewhere"), study)
        assert world.due(world.run()) == []
        world.catalogue.plans.forget_copies(world.destination, study)
        assert [item.entry.locator for item in world.due(world.run())] == ["a"]
