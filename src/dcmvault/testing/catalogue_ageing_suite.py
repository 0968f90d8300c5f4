"""What every catalogue must know of the age of evidence; part of `catalogue_suite`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from dcmvault.model.evidence import Finding, Level
from dcmvault.model.instance import ScannedEntry
from dcmvault.model.plan import RunKind
from dcmvault.ports.reverification import FactSummary, StudyAge
from dcmvault.testing.catalogue_monitoring_suite import MonitoringSuite
from dcmvault.testing.catalogue_overview_suite import OverviewSuite
from dcmvault.testing.catalogue_people_suite import PeopleSuite
from dcmvault.testing.catalogue_statistics_suite import StatisticsSuite
from dcmvault.testing.catalogue_world import World, entry, header, scanned


class AgeingSuite(MonitoringSuite, StatisticsSuite, OverviewSuite, PeopleSuite):
    """Tests of facts, of what is oldest, and of verification debt."""

    def test_a_weaker_fact_neither_lowers_nor_refreshes_a_stronger_one(self) -> None:
        """Each fact keeps its own time; asked for a level, the newest that supports it counts."""
        world = self.world()
        world.backup(_studies(1), _contents(1), level=Level.PROVEN)
        proven_at = world.now
        _verify(world, Level.COMMITTED)
        facts = _facts(world)
        assert facts.keys() == {Level.COMMITTED, Level.PROVEN}
        assert facts[Level.PROVEN].newest_at <= proven_at < facts[Level.COMMITTED].oldest_at
        (proven,) = _ages(world, Level.PROVEN)
        (committed,) = _ages(world, Level.COMMITTED)
        assert proven.looked_at == facts[Level.PROVEN].oldest_at
        assert committed.looked_at == facts[Level.COMMITTED].oldest_at
        (coverage,) = world.catalogue.status.coverage(world.source)
        assert coverage.by_level == {Level.PROVEN: 2}
        assert coverage.oldest_evidence_at == facts[Level.PROVEN].oldest_at

    def test_a_stronger_fact_supports_a_weaker_question(self) -> None:
        """What was proven yesterday need not be listed today."""
        world = self.world()
        world.backup(_studies(1), _contents(1), level=Level.PRESENT)
        _verify(world, Level.PROVEN)
        (present,) = _ages(world, Level.PRESENT)
        assert present.looked_at == _facts(world)[Level.PROVEN].oldest_at
        assert _debt(world, Level.COMPLETE) == (0, 0)

    def test_what_is_refuted_has_no_facts_left(self) -> None:
        """It was looked at, and owes verification until it is found again."""
        world = self.world()
        world.backup(_studies(2), _contents(2), level=Level.PROVEN)
        _verify(world, Level.COMPLETE, {"1/1": Finding.MISSING})
        assert _facts(world)[Level.PROVEN].instances == 3
        assert _debt(world, Level.COMPLETE) == (1, 1)
        refuted, _other = _ages(world, Level.COMPLETE)
        assert refuted.looked_at is not None

    def test_what_is_unknown_changes_nothing(self) -> None:
        """A question without an answer is no fact."""
        world = self.world()
        world.backup(_studies(1), _contents(1), level=Level.COMPLETE)
        before = _facts(world)
        _verify(world, Level.COMMITTED, dict.fromkeys(("1/0", "1/1"), Finding.UNKNOWN))
        assert _facts(world) == before
        assert _debt(world, Level.COMMITTED) == (1, 2)

    def test_what_was_only_sent_was_never_looked_at(self) -> None:
        """A claim has no age, and is debt; what was never sent is not verification's to owe."""
        world = self.world()
        run_id = world.run()
        world.scan(run_id, _studies(2))
        first, *_others = world.plan(run_id, world.due(run_id))
        world.send(first, _contents(2))
        (age,) = _ages(world, Level.COMPLETE)
        assert age.looked_at is None
        assert _debt(world, Level.COMPLETE) == (1, 2)
        assert _debt(world, Level.SENT) == (0, 0)
        assert _facts(world) == {}

    def test_what_is_sent_anew_has_no_facts(self) -> None:
        """The copy is another one: what was known was of the one before."""
        world = self.world()
        world.backup(_studies(1), _contents(1), level=Level.PROVEN)
        _verify(world, Level.COMPLETE, dict.fromkeys(("1/0", "1/1"), Finding.DAMAGED))
        run_id = world.run()
        (job,) = world.plan(run_id, world.due(run_id))
        world.send(job, _contents(1))
        assert _facts(world) == {}
        assert _debt(world, Level.PRESENT) == (1, 2)

    def test_debt_by_age(self) -> None:
        """Evidence that is older than allowed is owed again, study by study, in bytes too."""
        world = self.world()
        world.backup(_studies(1), _contents(1))
        between = world.tick()
        world.backup(_studies(3), _contents(3))
        assert _debt(world, Level.COMPLETE) == (0, 0)
        assert _debt(world, Level.COMPLETE, between) == (1, 2)
        assert _debt(world, Level.COMPLETE, world.tick()) == (3, 6)
        assert _debt(world, Level.PROVEN, between) == (3, 6)
        owed = world.catalogue.reverification.debt(
            world.source, world.destination, Level.COMPLETE, between, world.now
        )
        assert owed.bytes == sum(
            item.entry.fingerprint.size
            for item in world.catalogue.plans.expected(world.source, world.destination)
            if item.identity.study_instance_uid == "2.25.1"
        )

    def test_evidence_from_the_future_is_owed(self) -> None:
        """A clock that was wrong when something was verified hides it from nobody."""
        world = self.world()
        before = world.tick()
        world.backup(_studies(2), _contents(2))
        ahead = world.now
        world.now = before
        assert _debt(world, Level.COMPLETE) == (2, 4)
        world.now = ahead
        assert _debt(world, Level.COMPLETE) == (0, 0)

    def test_studies_are_listed_by_age_and_planned_by_key(self) -> None:
        """A study counts as old as its oldest copy; some studies are planned whole."""
        world = self.world()
        world.backup(_studies(1), _contents(1))
        world.backup(_studies(3), _contents(3))
        ages = _ages(world, Level.COMPLETE)
        assert [age.study_key for age in ages] == sorted(age.study_key for age in ages)
        assert len(ages) == 3
        oldest = min(ages, key=lambda age: age.looked_at or world.now)
        chosen = _expected_of(world, [oldest.study_key])
        assert chosen == ["1/0", "1/1"]
        assert len(_expected_of(world, [age.study_key for age in ages])) == 6
        assert _expected_of(world, []) == []

    def test_opaque_files_are_one_of_the_studies(self) -> None:
        """They are verified together, and so they are chosen."""
        world = self.world()
        opaque = ScannedEntry(entry("opaque"), opaque_reason="it ends too early")
        listed = [*_studies(1), opaque]
        world.backup(listed, _contents(1) | {"opaque": "opaque"})
        ages = _ages(world, Level.COMPLETE)
        assert [age.study_key == 0 for age in ages] == [True, False]
        assert _expected_of(world, [0]) == ["opaque"]

    def test_many_studies_are_listed_page_by_page(self) -> None:
        """Each study once, whatever the pages."""
        world = self.world()
        count = 1_100
        listed = [scanned(f"{n}/0", f"{n}/0", header(n, 1, 0)) for n in range(1, count + 1)]
        run_id = world.run()
        world.scan(run_id, listed)
        items = world.due(run_id)
        job, *_others = world.plan(run_id, [items[0], items[count // 2], items[-1]])
        for other in (job, *_others):
            world.send(other, {f"{n}/0": f"{n}/0" for n in range(1, count + 1)})
        keys = [age.study_key for age in _ages(world, Level.COMPLETE)]
        assert len(keys) == len(set(keys)) == 3
        assert len(_expected_of(world, keys)) == 3

    def test_studies_of_other_sources_hide_none_that_are_meant(self) -> None:
        """A selection means studies of all sources, and of one there may be very many."""
        other = self.world()
        listed = [scanned(f"{n}/0", f"{n}/0", header(n, 1, 0)) for n in range(1, 451)]
        other.scan(other.run(), listed[:200] + listed[201:449])
        ours = replace(other, source_name="/ours", label="second")
        ours.scan(ours.run(), [listed[200], listed[449]])
        # Keys may have been left out: there are more numbers than studies.
        assert _expected_of(ours, range(1, 1000)) == ["201/0", "450/0"]


def _studies(count: int) -> list[ScannedEntry]:
    return [
        scanned(f"{study}/{n}", f"{study}/{n}", header(study, 1, n))
        for study in range(1, count + 1)
        for n in range(2)
    ]


def _contents(count: int) -> dict[str, str]:
    return {one.entry.locator: one.entry.locator for one in _studies(count)}


def _verify(world: World, level: Level, findings: dict[str, Finding] | None = None) -> None:
    run_id = world.run(kind=RunKind.VERIFY)
    items = list(world.catalogue.plans.expected(world.source, world.destination))
    for job in world.plan(run_id, items, level):
        world.verify(job, world.catalogue.jobs.sent_items(job.job_id), findings, level)


def _facts(world: World) -> dict[Level, FactSummary]:
    return dict(world.catalogue.reverification.facts(world.source, world.destination))


def _ages(world: World, level: Level) -> list[StudyAge]:
    return list(world.catalogue.reverification.study_ages(world.source, world.destination, level))


def _debt(world: World, level: Level, since: datetime | None = None) -> tuple[int, int]:
    owed = world.catalogue.reverification.debt(
        world.source, world.destination, level, since, world.now
    )
    return owed.studies, owed.instances


def _expected_of(world: World, keys: Sequence[int]) -> list[str]:
    found = world.catalogue.reverification.expected_of(world.source, world.destination, keys)
    return [item.entry.locator for item in found]
