"""What every catalogue must do where a PACS wrote an instance anew; part of `catalogue_suite`."""

from __future__ import annotations

from collections.abc import Sequence

from dcmvault.model.evidence import Finding, Level
from dcmvault.model.instance import ScannedEntry
from dcmvault.model.job import ItemState, JobState
from dcmvault.model.plan import PlanItem, Strategy
from dcmvault.ports.catalogue import Outcome
from dcmvault.testing.catalogue_ageing_suite import AgeingSuite
from dcmvault.testing.catalogue_world import World, digest, header, scanned


class EqualitySuite(AgeingSuite):
    """Tests of versions whose data sets are equal, where versions are kept and where not."""

    def pacs(self) -> World:
        """Open a world with a destination that has one place for each identity."""
        world = self.world()
        world.keeps_versions = False
        return world

    def test_where_versions_are_kept_every_content_is_due(self) -> None:
        """Equal data sets mean nothing there, whatever else holds."""
        world = self.world()
        _scan(world, [_one("a"), _one("b")])
        assert _locators(world.due(world.run())) == ["a", "b"]
        world.backup([_one("a")], {"a": "a"})
        _scan(world, [_one("a"), _one("b")])
        assert _locators(world.due(world.run())) == ["b"]
        assert (_held(world), _count_held(world)) == (["a"], 1)

    def test_where_none_are_kept_one_of_equal_ones_is_due(self) -> None:
        """The other is held as soon as that one is, and not before."""
        world = self.pacs()
        listed = [_one("a"), _one("b")]
        _scan(world, listed)
        assert _locators(world.due(world.run())) == ["a"]
        assert _count_held(world) == 0
        world.backup(listed, {"a": "a"})
        assert world.due(world.run()) == []
        assert (_held(world), _count_held(world)) == (["a", "b"], 2)
        (coverage,) = world.catalogue.status.coverage(world.source)[:1]
        assert (coverage.instances_held, coverage.instances) == (1, 1)
        assert _locators(world.due(world.run(), Strategy.FULL)) == ["a"]

    def test_what_was_replaced_is_no_copy_that_is_known(self) -> None:
        """A PACS has one place for an identity, and what came last has it."""
        pacs = self.pacs()
        kept = World(pacs.catalogue, "/other", "vault:/kept", label="kept")
        for world, expected in (
            (pacs, ["key/new", "key/b"]),
            (kept, ["key/old", "key/new", "key/b"]),
        ):
            old, new = (scanned("a", content, header(1, 1, 1)) for content in ("old", "new"))
            world.backup([old], {"a": "old"})
            book, place = world.catalogue.restores, world.destination_name
            assert [copy.locator for copy in book.known_copies(place, "2.25.1")] == ["key/old"]
            beside = scanned("b", "b", header(1, 1, 2))
            world.backup([new, beside], {"a": "new", "b": "b"})
            found = book.known_copies(place, "2.25.1")
            assert [copy.locator for copy in found] == expected
            (study,) = book.known_studies(place)
            assert study.instances == len(expected)

    def test_what_failed_stands_for_nothing(self) -> None:
        """They take turns until one of them gets there."""
        world = self.pacs()
        _scan(world, [_one("a"), _one("b")])
        for turn, state in enumerate([ItemState.UNREADABLE, ItemState.FAILED, ItemState.FAILED]):
            (item,) = world.due(world.run())
            assert item.entry.locator == "aba"[turn]
            assert not item.conflict
            _settle(world, item, state)
            assert _count_held(world) == 0
        world.backup([_one("a"), _one("b")], {"b": "b"})
        assert world.due(world.run()) == []
        assert _held(world) == ["a", "b"]

    def test_what_was_found_missing_stands_for_nothing_in_another_source(self) -> None:
        """A verification refutes both; each source sends its own."""
        world = self.pacs()
        other = _beside(world)
        run_id = world.run()
        world.scan(run_id, [_one("a")])
        (job,) = world.plan(run_id, world.due(run_id))
        sent = world.send(job, {"a": "a"})
        _scan(other, [_one("b")])
        assert other.due(other.run()) == [], "a receipt is one, though it proves nothing"
        assert _count_held(other) == 0
        world.verify(job, sent, {"a": Finding.MISSING})
        assert _locators(other.due(other.run())) == ["b"]
        assert _locators(world.due(world.run())) == ["a"]

    def test_what_left_its_source_stands_for_others_while_it_is_held(self) -> None:
        """As what was sent to us, and left the spool; a verification looks for it all the same."""
        world = self.pacs()
        other = _beside(world)
        world.backup([_one("a")], {"a": "a"})
        _scan(world, [_one("a")])
        world.scan(world.run(), [])
        _scan(other, [_one("b")])
        assert other.due(other.run()) == []
        assert (_held(other), _count_held(other)) == (["b"], 1)
        plans = other.catalogue.plans
        (expected,) = plans.expected(other.source, other.destination)
        assert (expected.entry.locator, expected.held) == ("a", True)
        (proven,) = other.due(other.run(), level=Level.PROVEN)
        assert proven.entry.locator == "b"
        assert not proven.earlier_version_there, "it says the same"

    def test_an_equal_content_stands_in_though_another_is_in_conflict(self) -> None:
        """What differs from the one that has the place is a conflict, what equals it is not."""
        world = self.pacs()
        listed = [_one("a"), _one("other"), _one("b")]
        _scan(world, listed, equal=("a", "b"))
        assert [(item.entry.locator, item.conflict) for item in world.due(world.run())] == [
            ("a", False),
            ("other", True),
        ]


_LEVEL = Level.COMPLETE


def _one(name: str) -> ScannedEntry:
    return scanned(name, name, header(1, 1, 1), compared=True)


def _beside(world: World) -> World:
    return World(
        world.catalogue, source_name="/other", label="second", keeps_versions=world.keeps_versions
    )


def _scan(world: World, listed: Sequence[ScannedEntry], equal: Sequence[str] = ()) -> None:
    """Make a pass, and find that the contents named (else all) are equal in their data sets."""
    world.scan(world.run(), listed)
    scan_pass = world.catalogue.sources.scan(world.source, world.run())
    one = header(1, 1, 1).identity
    for known in scan_pass.versions([one])[one]:
        if not equal or known.entry.locator in equal:
            scan_pass.set_digest(known.version_id, known.file_sha256, digest("data set"))


def _settle(world: World, item: PlanItem, state: ItemState) -> None:
    """Make a run in which the item is not delivered."""
    (job,) = world.plan(world.run(), [item])
    jobs = world.catalogue.jobs
    jobs.set_job_state(job.job_id, JobState.IN_PROGRESS, attempt=1)
    (due,) = jobs.items(job.job_id, frozenset({ItemState.DUE}), 10)
    jobs.record_outcomes(job.job_id, [Outcome(due.item_id, state, 1, code="fault")])


def _locators(items: Sequence[PlanItem]) -> list[str]:
    return [item.entry.locator for item in items]


def _held(world: World) -> list[str]:
    found = world.catalogue.holdings.held_entries(world.source, world.destination, _LEVEL)
    return [entry.locator for entry in found]


def _count_held(world: World) -> int:
    return world.catalogue.plans.held_versions(world.source, world.destination, _LEVEL)
