"""What every catalogue must know of many runs at once; part of `catalogue_suite`."""

from __future__ import annotations

from datetime import timedelta

from dcmvault.model.evidence import Finding, Level
from dcmvault.model.report import Counts, RunState
from dcmvault.testing.catalogue_world import START, CatalogueCases, header, scanned, unreadable


class StatisticsSuite(CatalogueCases):
    """Tests of periods, of the studies of a run, and of its seconds at a destination."""

    def test_a_period_counts_what_its_runs_did(self) -> None:
        """Runs by their start; counts, causes and evidence are those of their own reports."""
        world = self.world()
        first = world.backup([scanned("a", "a", header(1, 1, 1))], {"a": "a"})
        between = world.tick()
        second = world.run()
        names = "abc"
        listed = [scanned(name, name, header(n, 1, n)) for n, name in enumerate(names, start=1)]
        counts = world.scan(second, [*listed, unreadable("locked")])
        for job in world.plan(second, world.due(second)):
            sent = world.send(job, {name: name for name in names})
            world.verify(job, sent, {"c": Finding.MISSING})
        world.catalogue.runs.record_plan(
            second, counts=counts, already_held={}, levels={}, warnings=[]
        )
        world.catalogue.runs.set_run_state(second, RunState.FINISHED, world.tick())
        statistics = world.catalogue.statistics

        everything = statistics.period(None, world.tick())
        assert [run.run_id for run in everything.runs] == [first, second]
        for run in everything.runs:
            report = world.catalogue.runs.report(run.run_id)
            assert run.counts == report.counts
            assert run.exit_status == report.exit_status
            assert run.studies == report.studies
            assert run.duration_s is not None
        assert everything.studies == 3
        assert everything.counts == Counts(3, 1, 2, failed=1, unreadable=1)
        told = {(cause.code, cause.instances, cause.runs) for cause in everything.causes}
        assert told == {("missing", 1, 1), ("unreadable", 1, 1)}
        (evidence,) = everything.evidence
        assert evidence.by_level == {Level.COMPLETE: 2}
        assert (evidence.instances, evidence.held, evidence.studies_protected) == (3, 2, 2)

        later = statistics.period(between, world.now)
        assert [run.run_id for run in later.runs] == [second]
        assert statistics.period(None, START).runs == ()
        assert statistics.period(world.now, world.now + timedelta(days=1)).runs == ()
        here = statistics.period(None, world.now, world.destination_name)
        assert len(here.runs) == 2
        nowhere = statistics.period(None, world.now, "nowhere")
        assert (nowhere.runs, nowhere.evidence) == ((), ())

    def test_the_studies_of_a_run_are_listed_once(self) -> None:
        """In the order of its jobs, and no more than are asked for."""
        world = self.world()
        listed = [scanned(str(n), str(n), header(n // 2, n, n)) for n in range(2, 8)]
        run_id = world.backup(listed, {str(n): str(n) for n in range(2, 8)})
        found = world.catalogue.statistics.studies_of_run(run_id, 100)
        assert len(found) == len(set(found)) == 3
        assert world.catalogue.statistics.studies_of_run(run_id, 2) == found[:2]

    def test_seconds_at_a_destination_add_up(self) -> None:
        """They are in the report of the run; a run without a part there has none."""
        world = self.world()
        run_id = world.backup([scanned("a", "a", header(1, 1, 1))], {"a": "a"})
        statistics = world.catalogue.statistics
        statistics.add_seconds_at(run_id, world.destination, {"read": 1.5})
        statistics.add_seconds_at(run_id, world.destination, {"read": 1.0, "wait": 2.0})
        (part,) = world.catalogue.runs.report(run_id).destinations
        assert part.stages == {"read": 2.5, "wait": 2.0}
        other = world.catalogue.plans.destination("elsewhere")
        try:
            statistics.add_seconds_at(run_id, other, {"read": 1.0})
        except KeyError:
            return
        raise AssertionError("seconds were written down where the run has no part")
