"""What the catalogue knows of studies whose originals somebody wants to delete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dcmvault.catalogue import deletion, open_catalogue
from dcmvault.model.deletion import DeletionPolicy, SourceFacts, StudyFacts
from dcmvault.model.evidence import Level
from dcmvault.model.instance import ScannedEntry
from dcmvault.model.job import JobState
from dcmvault.model.report import RunState
from dcmvault.pipeline.deletion_policy import judge
from dcmvault.ports.strategy import RouteTaken
from dcmvault.testing.catalogue_world import World, entry, header, scanned, unreadable


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    yield World(opened)
    opened.close()


def _facts(world: World, *uids: str) -> dict[str, StudyFacts]:
    found = world.catalogue.deletion.study_facts(world.source, uids)
    return {one.study_instance_uid: one for one in found}


def _files(*numbers: int, study: int = 1) -> list[ScannedEntry]:
    return [scanned(f"{study}-{n}", f"{study}-{n}", header(study, 1, n)) for n in numbers]


def _contents(listed: list[ScannedEntry]) -> dict[str, str]:
    return {one.entry.locator: one.entry.locator for one in listed}


def _held(facts: StudyFacts) -> list[tuple[Level, int]]:
    (copy,) = facts.copies
    return [(part.level, part.instances) for part in copy.parts]


def test_held_instances_by_level(world: World) -> None:
    listed = _files(1, 2, 3)
    world.backup(listed, _contents(listed), level=Level.PROVEN)
    facts = _facts(world)["2.25.1"]
    assert (facts.instances, facts.changed, facts.unreadable, facts.conflicts) == (3, 0, 0, 0)
    assert facts.bytes == sum(one.entry.fingerprint.size for one in listed)
    assert (facts.study_date, facts.modalities) == ("20260130", "CT")
    (copy,) = facts.copies
    (part,) = copy.parts
    assert (copy.destination, part.level, part.instances) == (
        world.destination_name, Level.PROVEN, 3,
    )  # fmt: skip
    assert part.oldest_evidence_at is not None
    assert part.newest_copy_at is not None
    assert part.newest_copy_at < part.oldest_evidence_at <= world.now


def test_a_study_that_went_elsewhere_counts_where_it_is_and_nowhere_else(
    world: World,
) -> None:
    """One at each place, one half at each, and one at both of which one gave evidence only."""
    first = replace(world, destination_name="/first", label="a")
    second = replace(world, destination_name="/second", label="b")
    listed = [*_files(1, 2), *_files(1, 2, study=2), *_files(1, 2, study=3), *_files(1, study=4)]
    for at, locators in (
        (first, {"1-1", "1-2", "3-1", "4-1"}),
        (second, {"2-1", "2-2", "3-2"}),
    ):
        run_id = at.run()
        at.scan(run_id, listed)
        chosen = [one for one in at.due(run_id) if one.entry.locator in locators]
        for job in at.plan(run_id, chosen, Level.PROVEN):
            at.verify(job, at.send(job, _contents(listed)), level=Level.PROVEN)
            at.catalogue.jobs.set_job_state(job.job_id, JobState.VERIFYING)
            at.catalogue.jobs.set_job_state(job.job_id, JobState.COMPLETED)
        at.catalogue.runs.set_run_state(run_id, RunState.FINISHED, at.tick())
    taken = [RouteTaken("2.25.2", second.destination, first.destination, "no answer")]
    world.catalogue.routes.record_routes(run_id, [], taken)
    claim = second.run()
    for job in second.plan(claim, [i for i in second.due(claim) if i.entry.locator == "4-1"]):
        second.send(job, _contents(listed))
    policy = DeletionPolicy(copies=1, min_age=timedelta())
    now = max(first.now, second.now) + timedelta(hours=1)
    told = {
        uid: judge(facts, SourceFacts(world.source_name), policy, now)
        for uid, facts in _facts(world).items()
    }
    assert {uid: one.counting for uid, one in told.items()} == {
        "2.25.1": ("/first",),
        "2.25.2": ("/second",),
        "2.25.3": (),
        "2.25.4": ("/first",),
    }
    assert [uid for uid, one in told.items() if one.is_safe] == ["2.25.1", "2.25.2", "2.25.4"]
    # Where two are asked for, a claim at one and evidence at the other are one copy.
    asked = replace(policy, copies=2)
    for facts in _facts(world).values():
        assert not judge(facts, SourceFacts(world.source_name), asked, now).is_safe
    # What is asked of one place is asked of what lies there, and not of what went elsewhere.
    asked = replace(policy, level=Level.COMPLETE, levels={"/second": Level.PROVEN})
    judged = judge(_facts(world)["2.25.4"], SourceFacts(world.source_name), asked, now)
    assert judged.counting == ("/first",)


def test_what_came_since_is_not_held(world: World) -> None:
    listed = _files(1, 2)
    world.backup(listed, _contents(listed))
    world.scan(world.run(), [*listed, *_files(3)])
    facts = _facts(world)["2.25.1"]
    assert facts.instances == 3
    assert facts.changed == 0
    assert _held(facts) == [(Level.NONE, 1), (Level.COMPLETE, 2)]


def test_a_claim_is_no_evidence(world: World) -> None:
    listed = _files(1)
    run_id = world.run()
    world.scan(run_id, listed)
    for job in world.plan(run_id, world.due(run_id)):
        world.send(job, _contents(listed))
    (part,) = _facts(world)["2.25.1"].copies[0].parts
    assert (part.level, part.oldest_evidence_at) == (Level.SENT, None)


def test_what_changed_since_is_counted_until_it_is_backed_up(world: World) -> None:
    """The new content is not held; once it is, nothing is changed any more."""
    listed = _files(1, 2)
    world.backup(listed, _contents(listed))
    touched = [listed[0], scanned("1-2", "other", header(1, 1, 2))]
    world.scan(world.run(), touched)
    facts = _facts(world)["2.25.1"]
    assert (facts.instances, facts.changed, facts.conflicts) == (2, 1, 0)
    assert _held(facts) == [(Level.NONE, 1), (Level.COMPLETE, 1)]
    world.backup(touched, {"1-1": "1-1", "1-2": "other"})
    facts = _facts(world)["2.25.1"]
    assert facts.changed == 0
    assert _held(facts) == [(Level.COMPLETE, 2)]


def test_one_place_for_two_contents(tmp_path: Path) -> None:
    """A PACS that had other content under a UID must have given the new one back to be believed.

    Evidence of either is worth nothing from when the other came.
    """
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    try:
        world = World(opened, keeps_versions=False)
        before = _files(1, 2)
        world.backup(before, _contents(before), level=Level.PROVEN)
        assert _held(_facts(world)["2.25.1"]) == [(Level.PROVEN, 2)]
        after = [before[0], scanned("1-2", "other", header(1, 1, 2))]
        world.backup(after, {"1-2": "other"}, level=Level.COMMITTED)
        assert _held(_facts(world)["2.25.1"]) == [(Level.SENT, 1), (Level.PROVEN, 1)]
        world.scan(world.run(), [before[0], scanned("1-2", "1-2", header(1, 1, 2), compared=True)])
        assert _held(_facts(world)["2.25.1"]) == [(Level.SENT, 1), (Level.PROVEN, 1)]
    finally:
        opened.close()


def test_other_content_that_was_proven_since(tmp_path: Path) -> None:
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    try:
        world = World(opened, keeps_versions=False)
        before = _files(1)
        world.backup(before, _contents(before))
        after = [scanned("1-1", "other", header(1, 1, 1))]
        world.backup(after, {"1-1": "other"}, level=Level.PROVEN)
        assert _held(_facts(world)["2.25.1"]) == [(Level.PROVEN, 1)]
    finally:
        opened.close()


def test_two_contents_under_one_uid(world: World) -> None:
    """A conflict, although both are held; equal contents under two names are none."""
    first = scanned("a", "one", header(1, 1, 1), compared=True)
    second = scanned("b", "two", header(1, 1, 1), compared=True)
    third = scanned("c", "one", header(1, 1, 1), compared=True)
    world.backup([first, third], {"a": "one", "c": "one"})
    facts = _facts(world)["2.25.1"]
    assert (facts.instances, facts.conflicts) == (1, 0)
    world.scan(world.run(), [first, second, third])
    assert _facts(world)["2.25.1"].conflicts == 1


def test_unreadable_files(world: World) -> None:
    """One that was read before is of its study; of one that never was, the study is not known."""
    listed = _files(1, 2)
    world.backup(listed, _contents(listed))
    world.scan(world.run(), [listed[0], unreadable("1-2"), unreadable("new")])
    facts = _facts(world)["2.25.1"]
    assert (facts.instances, facts.unreadable) == (1, 1)
    assert world.catalogue.deletion.unplaced(world.source) == 1


def test_opaque_files_are_of_any_study_until_they_are_held(world: World) -> None:
    opaque = ScannedEntry(entry("cut.dcm"), opaque_reason="it ends in its header")
    world.scan(world.run(), [opaque, ScannedEntry(entry("notes.txt"))])
    assert world.catalogue.deletion.unplaced(world.source) == 1
    world.backup([opaque], {"cut.dcm": "1"})
    assert world.catalogue.deletion.unplaced(world.source) == 0


def test_what_is_gone_is_not_asked_about(world: World) -> None:
    listed = [*_files(1), *_files(1, study=2)]
    world.backup(listed, _contents(listed))
    world.scan(world.run(), listed[:1])
    assert list(_facts(world)) == ["2.25.1"]


def test_pages_and_named_studies(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "_PAGE", 2)
    listed = [one for study in range(1, 6) for one in _files(1, 2, study=study)]
    world.backup(listed, _contents(listed))
    facts = _facts(world)
    assert sorted(facts) == [f"2.25.{study}" for study in range(1, 6)]
    assert all(_held(one) == [(Level.COMPLETE, 2)] for one in facts.values())
    assert _facts(world, "2.25.3", "1.2.3") == {"2.25.3": facts["2.25.3"]}


def test_every_destination_is_listed(world: World) -> None:
    """One that was asked for and never got it has nothing of it."""
    listed = _files(1)
    world.backup(listed, _contents(listed))
    other = World(world.catalogue, destination_name="/backup", label="other", now=world.now)
    run_id = other.run()
    other.scan(run_id, listed)
    other.plan(run_id, other.due(run_id))
    copies = {copy.destination: copy for copy in _facts(world)["2.25.1"].copies}
    assert set(copies) == {world.destination_name, "/backup"}
    assert [part.level for part in copies["/backup"].parts] == [Level.NONE]


@pytest.mark.peers
def test_the_same_in_postgresql(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held, changed, in conflict, unreadable and claimed only, over several pages."""
    monkeypatch.setattr(deletion, "_PAGE", 1)
    opened = open_catalogue(postgresql_url)
    try:
        world = World(opened)
        listed = [*_files(1, 2), *_files(1, 2, study=2)]
        world.backup(listed, _contents(listed))
        now = [
            scanned("1-1", "other", header(1, 1, 1)),
            listed[1],
            unreadable("2-1"),
            listed[3],
            scanned("2-2b", "two", header(2, 1, 2), compared=True),
        ]
        world.scan(world.run(), now)
        one, two = _facts(world).values()
        assert (one.instances, one.changed, one.conflicts, one.unreadable) == (2, 1, 0, 0)
        assert _held(one) == [(Level.NONE, 1), (Level.COMPLETE, 1)]
        assert (two.instances, two.conflicts, two.unreadable) == (2, 1, 1)
        assert _held(two) == [(Level.NONE, 1), (Level.COMPLETE, 1)]
    finally:
        opened.close()
