"""What every catalogue must know for rules and routes; part of `catalogue_suite`."""

from __future__ import annotations

from datetime import timedelta

from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.instance import ScannedEntry, SeriesAttributes
from dcmvault.model.job import ItemState, JobState
from dcmvault.model.learning import LessonKind
from dcmvault.model.plan import Strategy
from dcmvault.ports.catalogue import Outcome
from dcmvault.ports.strategy import RouteTaken
from dcmvault.testing.catalogue_index_suite import IndexSuite
from dcmvault.testing.catalogue_world import START, World, entry, header, scanned, with_digest

_CODES = frozenset({"unreachable"})


class StrategySuite(IndexSuite):
    """Tests of the ports of `ports.strategy`."""

    def test_studies_that_are_due_are_found_by_one_question(self) -> None:
        """The same as those of the items that are due, whatever the strategy."""
        world = self.world()
        first = [scanned("a", "1", header(1, 1, 1)), scanned("b", "2", header(2, 1, 1))]
        world.backup(first, {"a": "1", "b": "2"}, strategy=Strategy.FULL)
        run_id = world.run()
        opaque = ScannedEntry(entry("o", "9"), opaque_reason="cut short")
        world.scan(run_id, [*first, scanned("c", "3", header(2, 1, 2)), opaque])
        keys = world.catalogue.study_facts
        known = {uid: keys.study_key(uid) for uid in ("2.25.1", "2.25.2")}
        for strategy, studies in (
            (Strategy.INCREMENTAL, ["2.25.2", ""]),
            (Strategy.SMART, ["2.25.2", ""]),
            (Strategy.DIFFERENTIAL, ["2.25.2", ""]),
            (Strategy.FULL, ["2.25.1", "2.25.2", ""]),
        ):
            found = keys.due_studies(
                world.source,
                world.destination,
                strategy=strategy,
                level=Level.COMPLETE,
                run_id=run_id,
            )
            assert found == sorted(known[uid] or 0 if uid else 0 for uid in studies)
            items = world.due(run_id, strategy)
            assert {item.identity.study_instance_uid for item in items} == set(studies)

    def test_only_studies_that_are_named_are_listed_as_due(self) -> None:
        """Keys may come in any order; 0 is that of opaque files."""
        world = self.world()
        run_id = world.run()
        opaque = ScannedEntry(entry("o", "9"), opaque_reason="cut short")
        listed = [scanned(str(n), str(n), header(n, 1, 1)) for n in range(1, 5)]
        world.scan(run_id, [*listed, opaque])
        key_of = world.catalogue.study_facts.study_key
        keys = [key_of("2.25.3") or -1, 0, key_of("2.25.1") or -1]
        items = world.catalogue.plans.due(
            world.source,
            world.destination,
            strategy=Strategy.SMART,
            level=Level.COMPLETE,
            run_id=run_id,
            study_keys=keys,
        )
        assert [item.identity.study_instance_uid for item in items] == ["2.25.1", "2.25.3", ""]

    def test_facts_are_those_of_all_series(self) -> None:
        """And of the source that is asked about, for sizes."""
        world = self.world()
        about = {"study_description": "Brain", "institution_name": "Clinic"}
        second = header(1, 2, 1, **about)._replace(
            series=SeriesAttributes("MR", "2", "T1 axial", "HEAD"),
            source_ae_title="MR1",
            station_name="ROOM1",
        )
        first = header(1, 1, 1, **about)
        listed = [scanned("a", "1", first), scanned("b", "2", second)]
        world.backup(listed[:1], {"a": "1"})
        world.scan(world.run(), listed)
        facts = world.catalogue.study_facts
        key = facts.study_key("2.25.1")
        assert key is not None
        found = facts.study_facts([key, key + 1000], world.source)
        assert list(found) == [key]
        study = found[key]
        assert study.modalities == {"CT", "MR"}
        assert set(study.descriptions) == {"Brain", "T1 axial"}
        assert study.body_parts == {"HEAD"}
        assert study.ae_titles == {"MR1"}
        assert study.stations == {"ROOM1"}
        assert (study.institution, study.study_date) == ("Clinic", "20260130")
        assert study.instances == 2
        assert study.bytes == sum(one.entry.fingerprint.size for one in listed)
        assert study.taken_by == {world.destination}
        other = World(world.catalogue, "/other", label="other")
        assert facts.study_facts([key], other.source)[key].instances == 0
        assert facts.study_facts([key])[key].instances == 2
        assert facts.newest_studies(5) == [key]
        assert facts.study_key("2.25.9") is None

    def test_lessons_are_kept_once_for_each_kind_until_forgotten(self) -> None:
        """A study that is not known teaches nothing."""
        world = self.world()
        world.scan(world.run(), [scanned("a", "1", header(1, 1, 1))])
        book = world.catalogue.lessons
        assert book.record_lesson(LessonKind.RAISED, ["2.25.1", "2.25.9"], START) == 1
        later = START + timedelta(days=1)
        assert book.record_lesson(LessonKind.RAISED, ["2.25.1"], later) == 1
        assert book.record_lesson(LessonKind.RESTORED, ["2.25.1"], START) == 1
        key = world.catalogue.study_facts.study_key("2.25.1")
        assert book.lessons() == {key: {LessonKind.RAISED: later, LessonKind.RESTORED: START}}
        assert book.forget_lessons() == 1
        assert book.lessons() == {}
        assert book.record_lesson(LessonKind.LOWERED, [], START) == 0

    def test_the_latest_choice_comes_first(self) -> None:
        """And what a run wrote down, it writes down once."""
        world = self.world()
        routes, plans = world.catalogue.routes, world.catalogue.plans
        first, second = plans.destination("/first"), plans.destination("/second")
        run_id, later = world.run(), world.run()
        for _ in range(2):
            routes.record_routes(run_id, [RouteTaken("2.25.1", first)], [])
        routes.record_routes(
            later,
            [RouteTaken("2.25.1", second)],
            [RouteTaken("2.25.1", second, first, "no answer")],
        )
        assert routes.chosen(["2.25.1", "2.25.2"]) == {"2.25.1": [second, first]}
        (diversion,) = world.catalogue.runs.report(later).diversions
        assert (diversion.destination, diversion.instead_of) == ("/second", "/first")
        assert (diversion.study_instance_uid, diversion.why) == ("2.25.1", "no answer")
        assert world.catalogue.runs.report(run_id).diversions == ()

    def test_what_is_down_is_down_for_its_run(self) -> None:
        """The first reason stays."""
        world = self.world()
        routes = world.catalogue.routes
        run_id = world.run()
        routes.record_down(run_id, {world.destination: "refused"})
        routes.record_down(run_id, {world.destination: "lost"})
        assert routes.down(run_id) == {world.destination: "refused"}
        assert routes.down(world.run()) == {}

    def test_what_could_not_be_delivered_can_be_taken_out_of_a_run(self) -> None:
        """It is due again, the run counts what is left, and it plans once more before it ends."""
        world = self.world()
        run_id = self._with_failures(world)
        routes = world.catalogue.routes
        assert list(routes.undelivered(run_id, _CODES)) == [
            (world.destination, "2.25.1", "no answer")
        ]
        assert list(routes.undelivered(run_id, {"quarantined"})) == []
        routes.release_undelivered(run_id, world.destination, ["2.25.1"], _CODES, world.tick())
        (part,) = world.catalogue.runs.report(run_id).destinations
        assert (part.counts.selected, part.counts.failed) == (2, 1)
        progress = world.catalogue.runs.progress(run_id)
        assert (progress.items, progress.settled, progress.failed) == (2, 1, 1)
        assert [item.entry.locator for item in world.due(run_id)] == ["a", "b"]
        assert list(routes.undelivered(run_id, _CODES)) == []
        assert not world.catalogue.runs.finish_run(run_id, world.tick())

    def test_what_failed_in_the_backup_before_is_known_by_its_study(self) -> None:
        """Not by the destination's codes, not in an older run, nor elsewhere."""
        world = self.world()
        routes = world.catalogue.routes
        source, there = world.source, world.destination
        assert not set(routes.failed_before(source, there, None, _CODES))
        run_id = self._with_failures(world)
        # Without a run: in the latest one.
        assert set(routes.failed_before(source, there, None, _CODES)) == {"2.25.1"}
        assert set(routes.failed_before(source, there, None, ())) == {"2.25.1"}
        both = (*_CODES, "refused")
        assert not set(routes.failed_before(source, there, None, both))
        # A run does not come before itself.
        assert not set(routes.failed_before(source, there, run_id, _CODES))
        elsewhere = world.catalogue.plans.destination("/elsewhere")
        assert not set(routes.failed_before(source, elsewhere, None, _CODES))
        other_source = world.catalogue.sources.source("/other")
        assert not set(routes.failed_before(other_source, there, None, _CODES))
        later = world.run()
        world.plan(later, world.due(later))
        assert set(routes.failed_before(source, there, later, _CODES)) == {"2.25.1"}
        assert not set(routes.failed_before(source, there, None, _CODES))

    def _with_failures(self, world: World) -> RunId:
        """Plan four instances: a and b fail by the destination, c by itself, d was sent."""
        run_id = world.run()
        heads = {"a": (1, 1, 1), "b": (1, 1, 2), "c": (1, 1, 3), "d": (1, 2, 1)}
        world.scan(
            run_id,
            [
                with_digest(scanned(name, name, header(*numbers)), name)
                for name, numbers in heads.items()
            ],
        )
        jobs = world.catalogue.jobs
        codes = {"a": "unreachable", "b": "unreachable", "c": "refused"}
        for job in world.plan(run_id, world.due(run_id)):
            jobs.set_job_state(job.job_id, JobState.IN_PROGRESS, attempt=1)
            outcomes = []
            for item in jobs.items(job.job_id, frozenset({ItemState.DUE}), 100):
                name = item.plan.entry.locator
                if name in codes:
                    failed = Outcome(
                        item.item_id, ItemState.FAILED, 1, codes[name], message="no answer"
                    )
                    outcomes.append(failed)
                else:
                    receipt = world.receipt(item, name)
                    outcomes.append(Outcome(item.item_id, ItemState.SENT, 1, receipt=receipt))
            jobs.record_outcomes(job.job_id, outcomes)
        return run_id
