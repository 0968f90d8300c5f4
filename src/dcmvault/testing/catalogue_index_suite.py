"""What every catalogue must do with plans made from an index; part of `catalogue_suite`."""

from __future__ import annotations

from dataclasses import replace

from dcmvault.model.identifiers import JobId, RunId
from dcmvault.model.instance import ScannedEntry
from dcmvault.model.job import ItemState, JobState
from dcmvault.ports.catalogue import Item, Outcome
from dcmvault.testing.catalogue_equality_suite import EqualitySuite
from dcmvault.testing.catalogue_world import (
    World,
    digest,
    entry,
    header,
    identity,
    told,
)


class IndexSuite(EqualitySuite):
    """Tests of `Outcome.found`: reading a file finds more, or something else, than was told."""

    def test_a_file_that_is_what_was_told_completes_what_is_known(self) -> None:
        """Kind and texts come from the file; the version stays, and so does the plan."""
        world = self.world()
        (item,) = _planned(world, ScannedEntry(entry("a"), told(1, 1, 1, patient_name="DOE")))
        found = ScannedEntry(item.plan.entry, header(1, 1, 1))
        _end(world, item, found, ItemState.SENT)
        (sent,) = world.catalogue.jobs.sent_items(_job_id(world))
        assert sent.plan.kind == header(1, 1, 1).kind
        assert sent.plan.version_id == item.plan.version_id
        report = world.catalogue.runs.report(_run_id(world))
        assert [study.patient_name for study in report.study_reports] == ["Doe^Jane"]
        assert world.present_versions() == 1

    def test_a_file_that_holds_another_instance_is_known_as_that(self) -> None:
        """The item ends as what was planned, and what the file holds is due in the next run."""
        world = self.world()
        (item,) = _planned(world, ScannedEntry(entry("a"), told(1, 1, 1)))
        found = ScannedEntry(item.plan.entry, header(2, 1, 7), file_sha256=digest("a"))
        _end(world, item, found, ItemState.UNREADABLE)
        (failure,) = world.catalogue.runs.report(_run_id(world)).failures
        assert failure.sop_instance_uid == identity(1, 1, 1).sop_instance_uid
        assert world.due(_run_id(world)) != []
        (due,) = world.due(world.run())
        assert (due.identity, due.reason) == (identity(2, 1, 7), "new")
        assert due.file_sha256 == digest("a")
        assert world.catalogue.sources.scan(world.source, None).news([due.entry]).unchanged == 1
        (status,) = world.catalogue.status.sources()
        assert (status.studies, status.instances) == (1, 1)

    def test_a_file_that_holds_what_another_holds_is_that_version(self) -> None:
        """The same content under its own name is one version: it is not due twice."""
        world = self.world()
        twin = ScannedEntry(entry("b"), header(2, 1, 7), file_sha256=digest("a"))
        listed = [ScannedEntry(entry("a"), told(1, 1, 1)), twin]
        items = _planned(world, *listed)
        (item,) = [one for one in items if one.plan.entry.locator == "a"]
        found = replace(twin, entry=item.plan.entry)
        _end(world, item, found, ItemState.UNREADABLE)
        (due,) = world.due(world.run())
        assert due.identity == identity(2, 1, 7)
        assert world.present_versions() == 1

    def test_a_file_that_does_not_parse_is_known_as_opaque(self) -> None:
        """A place that takes any file is due to get it."""
        world = self.world()
        (item,) = _planned(world, ScannedEntry(entry("a"), told(1, 1, 1)))
        found = ScannedEntry(item.plan.entry, opaque_reason="cut short", file_sha256=digest("a"))
        _end(world, item, found, ItemState.UNREADABLE)
        (due,) = world.due(world.run())
        assert (due.opaque_reason, due.identity.sop_instance_uid) == ("cut short", "")

    def test_an_entry_that_moved_on_is_left_alone(self) -> None:
        """What a later pass recorded is newer than what a worker found in the file before."""
        world = self.world()
        (item,) = _planned(world, ScannedEntry(entry("a"), told(1, 1, 1)))
        world.scan(world.run(), [ScannedEntry(entry("a", "new"), header(1, 1, 3))])
        found = ScannedEntry(item.plan.entry, header(2, 1, 7), file_sha256=digest("a"))
        _end(world, item, found, ItemState.UNREADABLE)
        (due,) = world.due(world.run())
        assert due.identity == identity(1, 1, 3)


def _planned(world: World, *listed: ScannedEntry) -> list[Item]:
    run_id = world.run()
    world.scan(run_id, listed)
    items: list[Item] = []
    for job in world.plan(run_id, world.due(run_id)):
        world.catalogue.jobs.set_job_state(job.job_id, JobState.IN_PROGRESS, attempt=1)
        items += world.catalogue.jobs.items(job.job_id, frozenset({ItemState.DUE}), 10)
    return items


def _end(world: World, item: Item, found: ScannedEntry, state: ItemState) -> None:
    jobs = world.catalogue.jobs
    job_id = next(
        job.job_id
        for job in world.catalogue.runs.jobs()
        if item in jobs.items(job.job_id, frozenset({ItemState.DUE}), 10)
    )
    receipt = world.receipt(item, "a") if state is ItemState.SENT else None
    jobs.record_outcomes(
        job_id, [Outcome(item.item_id, state, 1, "code", receipt=receipt, found=found)]
    )


def _job_id(world: World) -> JobId:
    (job,) = world.catalogue.runs.jobs()
    return job.job_id


def _run_id(world: World) -> RunId:
    return world.catalogue.runs.runs()[-1].run_id
