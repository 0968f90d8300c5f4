"""What every catalogue must say of a single study; part of `catalogue_suite`."""

from __future__ import annotations

from dcmvault.model.evidence import Finding, Level
from dcmvault.model.job import ItemState
from dcmvault.model.selection import Selection
from dcmvault.model.study_detail import LedgerPage, TimelineKind
from dcmvault.ports.catalogue import Outcome
from dcmvault.testing.catalogue_matrix_suite import contents_of, counted, named_study
from dcmvault.testing.catalogue_world import CatalogueCases, header, scanned


class DetailsSuite(CatalogueCases):
    """Tests of StudyDetails."""

    def test_the_ledger_has_every_copy_with_its_raw_status(self) -> None:
        """Page by page; what failed has the last attempt's words, what never went has no copy."""
        world = self.world()
        listed = named_study(1, "Doe^Jane", "20260130", instances=5)
        run_id = world.run()
        world.scan(run_id, listed)
        (job,) = world.plan(run_id, world.due(run_id))
        jobs = world.catalogue.jobs
        failed, *_ = jobs.items(job.job_id, frozenset({ItemState.DUE}), 10)
        jobs.record_outcomes(
            job.job_id,
            [Outcome(failed.item_id, ItemState.FAILED, 1, "refused", "C000", "no", "look")],
        )
        sent = world.send(job, contents_of(listed))
        world.verify(job, sent, {sent[0].plan.entry.locator: Finding.DAMAGED})
        details = world.catalogue.details

        def page(**asked: object) -> LedgerPage:
            return details.ledger("2.25.1", limit=2, **asked)  # type: ignore[arg-type]

        pages = [page()]
        while (place := pages[-1].next) is not None:
            pages.append(page(after=place))
        assert [len(one.lines) for one in pages] == [2, 2, 1]
        lines = {line.sop_instance_uid: line for one in pages for line in one.lines}
        assert len(lines) == 5
        of_failed = lines[failed.plan.identity.sop_instance_uid]
        (copy,) = of_failed.copies
        assert (copy.destination, copy.state) == (world.destination_name, "")
        assert (copy.code, copy.status, copy.message) == ("refused", "C000", "no")
        (copy,) = lines[sent[0].plan.identity.sop_instance_uid].copies
        assert (copy.state, copy.level, copy.run_id) == ("damaged", Level.NONE, run_id)
        line = lines[sent[1].plan.identity.sop_instance_uid]
        (copy,) = line.copies
        assert (copy.state, copy.level, copy.status) == ("held", Level.COMPLETE, "0000")
        assert (line.is_present, len(line.file_sha256)) == (True, 64)
        problems = details.ledger("2.25.1", problems_only=True).lines
        assert {one.sop_instance_uid for one in problems} == {
            failed.plan.identity.sop_instance_uid,
            sent[0].plan.identity.sop_instance_uid,
        }
        assert details.ledger("2.25.1", series_instance_uid="2.25.1.9").lines == ()

    def test_a_study_has_series_and_a_timeline(self) -> None:
        """In the order of their numbers; what happened last stands first."""
        world = self.world()
        listed = [
            scanned(f"s{n}", f"s{n}", header(1, number, n)) for n, number in enumerate((10, 2, 2))
        ]
        details = world.catalogue.details
        assert details.detail("2.25.1") is None
        run_id = world.backup(listed, {f"s{n}": f"s{n}" for n in range(3)})
        counted(world)
        detail = details.detail("2.25.1")
        assert detail is not None
        assert [(one.series_number, one.instances) for one in detail.series] == [
            ("2", 2),
            ("10", 1),
        ]
        events = details.timeline("2.25.1")
        assert events[-1].kind is TimelineKind.SEEN
        kinds = {event.kind for event in events}
        assert kinds == {TimelineKind.SEEN, TimelineKind.DELIVERED, TimelineKind.VERIFIED}
        assert {event.run_id for event in events} == {run_id}
        delivered = [event for event in events if event.kind is TimelineKind.DELIVERED]
        assert [(event.destination, event.instances) for event in delivered] == [
            (world.destination_name, 3)
        ]
        world.catalogue.holdings.refute_copies(
            world.destination, {"2.25.1": ()}, Finding.MISSING, world.tick(), files={}
        )
        (first, *_) = details.timeline("2.25.1")
        assert (first.kind, first.not_held) == (TimelineKind.REFUTED, 3)
        assert details.timeline("2.25.9") == []

    def test_a_series_is_shown_by_its_middle_instance(self) -> None:
        """In its newest content; with the entries that have it and the places that hold it."""
        world = self.world()
        listed = named_study(1, "Doe^Jane", "20260130", instances=3)
        world.backup(listed, contents_of(listed))
        details = world.catalogue.details
        picture = details.picture("2.25.1", "2.25.1.1")
        assert picture is not None
        assert picture.sop_instance_uid == "2.25.1.1.1"
        ((name, entry),) = picture.originals
        assert (name, entry.locator) == (world.source_name, "1/1")
        assert picture.copies == (world.destination_name,)
        assert details.picture("2.25.1", "2.25.1.7") is None

    def test_studies_are_selected_by_key(self) -> None:
        """By study, by series, by date; each once."""
        world = self.world()
        listed = [*named_study(1, "A", "20250101"), *named_study(2, "B", "20260101", instances=2)]
        world.scan(world.run(), listed)
        facts = world.catalogue.study_facts
        keys = [facts.study_key(f"2.25.{n}") for n in (1, 2)]
        for selection, expected in (
            (Selection(studies=("2.25.2", "2.25.8")), keys[1:]),
            (Selection(series=("2.25.1.1",)), keys[:1]),
            (Selection(first_date="20250601"), keys[1:]),
            (Selection(), keys),
        ):
            assert list(facts.selected_studies(selection)) == expected
