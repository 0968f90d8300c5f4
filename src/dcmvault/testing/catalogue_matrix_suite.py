"""What every catalogue must say of studies and their copies; part of `catalogue_suite`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from dcmvault.model.evidence import Finding, Level
from dcmvault.model.exclusion import Exclusion
from dcmvault.model.instance import ScannedEntry
from dcmvault.model.overview import PlaceAsked
from dcmvault.model.selection import Selection
from dcmvault.model.study_matrix import (
    Coverage,
    SavedView,
    StudyLine,
    StudyOrder,
    StudyPage,
    StudyPlace,
    StudyQuery,
)
from dcmvault.testing.catalogue_world import CatalogueCases, World, entry, header, scanned

_LONG = timedelta(hours=1)


def counted(world: World) -> None:
    """Have everything counted that changed."""
    world.now += _LONG
    while world.catalogue.matrix.recount(world.now):
        pass


def lines(world: World, query: StudyQuery | None = None) -> dict[str, StudyLine]:
    """Return what matches, by Study Instance UID."""
    counted(world)
    page = world.catalogue.matrix.page(query or StudyQuery(), limit=500)
    return {line.study_instance_uid: line for line in page.lines}


def named_study(study: int, name: str, date: str, *, instances: int = 1) -> list[ScannedEntry]:
    """Make a study's files."""
    made = []
    for n in range(instances):
        head = header(study, 1, n)
        head = head._replace(study=head.study._replace(patient_name=name, study_date=date))
        made.append(scanned(f"{study}/{n}", f"{study}.{n}", head))
    return made


def contents_of(listed: Iterable[ScannedEntry]) -> dict[str, str]:
    """Return what files hold that `named_study` made."""
    return {one.entry.locator: one.entry.locator.replace("/", ".") for one in listed}


class MatrixCountsSuite(CatalogueCases):
    """Tests of what StudyMatrix counts."""

    def test_a_study_goes_from_nothing_to_protected_to_damaged_to_gone(self) -> None:
        """Its state and its counts follow what happens to it."""
        world = self.world()
        listed = named_study(1, "Doe^Jane", "20260130", instances=3)
        run_id = world.run()
        world.scan(run_id, listed)
        (line,) = lines(world).values()
        assert (line.state, line.instances, line.series) == (Coverage.NOT, 3, 1)
        assert line.bytes == sum(one.entry.fingerprint.size for one in listed)
        assert (line.sources, line.modalities) == ((world.source_name,), ("CT",))
        (job,) = world.plan(run_id, world.due(run_id))
        sent = world.send(job, contents_of(listed))
        copy = lines(world)["2.25.1"].copies[world.destination_name]
        assert (copy.unverified, copy.held, copy.level) == (3, 0, Level.SENT)
        assert copy.state is Coverage.NOT
        world.verify(job, sent[:2])
        line = lines(world)["2.25.1"]
        copy = line.copies[world.destination_name]
        assert (copy.held, copy.unverified, copy.expected) == (2, 1, 3)
        assert (line.state, copy.state) == (Coverage.PARTLY, Coverage.PARTLY)
        world.verify(job, sent[2:])
        line = lines(world)["2.25.1"]
        copy = line.copies[world.destination_name]
        assert (line.state, line.level, copy.held) == (Coverage.PROTECTED, Level.COMPLETE, 3)
        assert copy.oldest_evidence_at is not None
        world.catalogue.holdings.refute_copies(
            world.destination, {"2.25.1": {"2.25.1.1.0"}}, Finding.DAMAGED, world.tick(), files={}
        )
        line = lines(world)["2.25.1"]
        assert (line.state, line.level) == (Coverage.DAMAGED, Level.NONE)
        assert line.copies[world.destination_name].damaged == 1
        world.backup(listed, contents_of(listed), level=Level.PROVEN)
        world.scan(world.run(), [])
        line = lines(world)["2.25.1"]
        assert (line.state, line.level, line.sources) == (Coverage.GONE, Level.PROVEN, ())
        assert line.copies[world.destination_name].held == 3
        assert line.bytes == sum(one.entry.fingerprint.size for one in listed)

    def test_an_excluded_study_is_not_due_and_never_counts_as_protected(self) -> None:
        """It is a state of its own, until it is included again; its copies are known still."""
        world = self.world()
        catalogue = world.catalogue
        book = catalogue.exclusions
        listed = named_study(1, "Doe^Jane", "", instances=2) + named_study(2, "Roe", "")
        opaque = ScannedEntry(entry("opaque"), opaque_reason="no preamble")
        listed.append(opaque)
        world.scan(world.run(), listed)
        why = Exclusion("2.25.1", "a phantom", "jane", world.tick())
        ahead = replace(why, study_instance_uid="2.25.77")
        assert book.exclude([why, ahead]) == 2
        assert book.exclude([replace(why, reason="again")]) == 0
        assert list(book.exclusions()) == [why, ahead]
        assert list(book.exclusions(after="2.25.1")) == [ahead]
        assert book.exclusion("2.25.1") == why
        assert book.exclusion("2.25.2") is None
        assert book.excluded_among(["2.25.1", "2.25.2"]) == 1
        assert book.left_out(world.source) == 1
        assert book.left_out(world.source, Selection(("2.25.2",))) == 0
        found = lines(world)
        assert {uid: one.state for uid, one in found.items()} == {
            "2.25.1": Coverage.EXCLUDED,
            "2.25.2": Coverage.NOT,
        }
        assert found["2.25.1"].is_excluded
        assert list(lines(world, StudyQuery(states=(Coverage.EXCLUDED,)))) == ["2.25.1"]
        due = world.due(world.run())
        assert [one.identity.study_instance_uid for one in due] == ["2.25.2", ""]
        for held in (False, True):
            if held:  # it was sent before it was left out
                book.include(["2.25.1"])
                world.backup(listed, {**contents_of(listed[:3]), "opaque": "o"})
                book.exclude([why])
            asked = [PlaceAsked(world.destination, Level.SENT)]
            protection = catalogue.overview.protection(world.source, asked, everywhere=True)
            assert (protection.studies, protection.excluded) == (1, 1)
            assert protection.protected == held
            assert [one.studies for one in catalogue.status.coverage(world.source)] in ([], [1])
            expected = catalogue.plans.expected(world.source, world.destination)
            named = [one.identity.study_instance_uid for one in expected]
            assert named.count("2.25.1") == (2 if held else 0), "what is there is looked for"
        copy = lines(world)["2.25.1"].copies[world.destination_name]
        assert copy.state is Coverage.PROTECTED
        assert lines(world)["2.25.1"].state is Coverage.EXCLUDED
        assert book.include(["2.25.1", "2.25.2"]) == 1
        assert lines(world)["2.25.1"].state is Coverage.PROTECTED

    def test_counts_agree_with_status(self) -> None:
        """Together the copies of a source's studies are what `status` says of it."""
        world = self.world()
        listed = [one for n in range(1, 6) for one in named_study(n, "A", "2026", instances=n)]
        world.backup(listed[:9], contents_of(listed))
        world.backup(listed, contents_of(listed), level=Level.PRESENT)
        world.catalogue.plans.forget_copies(world.destination, "2.25.2")
        found = lines(world)
        (coverage,) = [
            one
            for one in world.catalogue.status.coverage(world.source)
            if one.destination == world.destination_name
        ]
        copies = [line.copies[world.destination_name] for line in found.values()]
        assert sum(copy.held for copy in copies) == coverage.instances_held
        assert sum(copy.expected for copy in copies) == coverage.instances
        protected = sum(copy.state is Coverage.PROTECTED for copy in copies)
        assert (protected, len(copies)) == (coverage.studies_protected, coverage.studies)

    def test_a_new_destination_makes_what_was_protected_partly_so(self) -> None:
        """A study is protected where all that it is sent to holds it."""
        world = self.world()
        listed = named_study(1, "Doe^Jane", "20260130")
        world.backup(listed, contents_of(listed))
        assert lines(world)["2.25.1"].state is Coverage.PROTECTED
        other = World(world.catalogue, world.source_name, "/other", now=world.now, label="second")
        run_id = other.run()
        other.scan(run_id, listed)
        (job,) = other.plan(run_id, other.due(run_id))
        line = lines(other)["2.25.1"]
        assert (line.state, line.level) == (Coverage.PARTLY, Level.NONE)
        assert line.copies["/other"].expected == 1
        other.verify(job, other.send(job, contents_of(listed)))
        assert lines(other)["2.25.1"].state is Coverage.PROTECTED

    def test_a_large_study_is_not_counted_again_at_once(self) -> None:
        """What changes all the time rests for a moment, and is counted in the end."""
        world = self.world()
        matrix = world.catalogue.matrix
        listed = named_study(1, "Doe^Jane", "20260130")
        world.scan(world.run(), listed)
        counted(world)
        now = world.now
        world.scan(world.run(), named_study(1, "Doe^Jane", "20260130", instances=2))
        assert matrix.recount(now) == 1
        page = matrix.page(StudyQuery())
        assert (page.uncounted, page.lines[0].is_changing, page.lines[0].instances) == (1, True, 1)
        assert matrix.recount(now + timedelta(seconds=2)) == 0
        page = matrix.page(StudyQuery())
        assert (page.uncounted, page.lines[0].is_changing, page.lines[0].instances) == (0, False, 2)

    def test_whatever_a_file_says_is_counted(self) -> None:
        """Values that are much too long fit in, and are found by how they begin."""
        world = self.world()
        noise = "".join(chr(0x4E00 + n * 7 % 20_000) for n in range(9_000))
        head = header(1, 1, 1, study_description=noise, patient_id=noise)
        head = head._replace(
            study=head.study._replace(study_date=noise, patient_name=f"Doe {noise}"),
            series=head.series._replace(modality=noise),
        )
        world.scan(world.run(), [scanned("a", "a", head)])
        assert lines(world, StudyQuery(text="doe")).keys() == {"2.25.1"}

    def test_little_is_counted_at_once_where_little_is_asked_for(self) -> None:
        """Each call counts something, and the last says that nothing waits."""
        world = self.world()
        listed = [one for n in range(1, 6) for one in named_study(n, "A", "2026")]
        world.scan(world.run(), listed)
        matrix = world.catalogue.matrix
        waiting = [matrix.recount(world.now + _LONG, instances=1) for _ in range(5)]
        assert waiting == [4, 3, 2, 1, 0]

    def test_saved_views_are_each_accounts_own(self) -> None:
        """A view is written over, listed by name, and removed."""
        views = self.open_catalogue().views
        first = SavedView("jane", "old CTs", "modality=CT", ("date", "name"))
        views.save_view(replace(first, query="modality=MR"))
        views.save_view(first)
        views.save_view(SavedView("jane", "a", ""))
        views.save_view(SavedView("john", "old CTs", "x=1"))
        assert views.views("jane") == [SavedView("jane", "a", ""), first]
        views.remove_view("jane", "a")
        views.remove_view("jane", "nothing")
        assert views.views("jane") == [first]
        for n in range(99):
            views.save_view(SavedView("jane", f"{n}", ""))
        views.save_view(first)
        try:
            views.save_view(SavedView("jane", "one more", ""))
        except ValueError:
            pass
        else:
            raise AssertionError("more views than there may be")


class MatrixQuestionsSuite(CatalogueCases):
    """Tests of what StudyMatrix finds, and in which order."""

    def _furnished(self) -> World:
        world = self.world()
        listed = [
            *named_study(1, "Müller^João", "20250101", instances=3),
            *named_study(2, "Doe^Jane", "20260130"),
            *named_study(3, "Doe^John 50%", "", instances=2),
            *named_study(4, "Adams^Zoe", "20260130"),
        ]
        head = header(5, 1, 1, patient_id="P-7", accession_number="AC/9", study_description="Knee")
        listed.append(
            scanned("5/0", "5.0", head._replace(series=head.series._replace(modality="MR")))
        )
        world.backup(listed[:4], contents_of(listed))
        world.scan(world.run(), listed)
        counted(world)
        return world

    def _found(self, world: World, query: StudyQuery) -> list[int]:
        page = world.catalogue.matrix.page(query, limit=500)
        assert page.total == len(page.lines) == world.catalogue.matrix.matched(query).studies
        uids = [uid for some in world.catalogue.matrix.named(query) for uid in some]
        assert sorted(uids) == sorted(line.study_instance_uid for line in page.lines)
        return sorted(int(uid.split(".")[2]) for uid in uids)

    def test_each_filter_finds_its_studies(self) -> None:
        """By text, modality, date, place, state, level and hold; together they narrow down."""
        world = self._furnished()
        for query, expected in (
            (StudyQuery(), [1, 2, 3, 4, 5]),
            (StudyQuery(text="doe"), [2, 3, 5]),
            (StudyQuery(text="JANE doe"), [2, 5]),
            (StudyQuery(text="joao muller"), [1]),
            (StudyQuery(text="50%"), [3]),
            (StudyQuery(text="p-7"), [5]),
            (StudyQuery(text="ac/9 knee"), [5]),
            (StudyQuery(text="2.25.4"), [4]),
            (StudyQuery(text="_"), []),
            (StudyQuery(modalities=("MR",)), [5]),
            (StudyQuery(modalities=("MR", "CT")), [1, 2, 3, 4, 5]),
            (StudyQuery(modalities=("M",)), []),
            (StudyQuery(first_date="20260101"), [2, 4, 5]),
            (StudyQuery(last_date="20251231"), [1]),
            (StudyQuery(sources=(world.source_name,)), [1, 2, 3, 4, 5]),
            (StudyQuery(sources=("/elsewhere",)), []),
            (StudyQuery(destination=world.destination_name), [1, 2, 3, 4, 5]),
            (StudyQuery(destination="/elsewhere"), []),
            (StudyQuery(states=(Coverage.PROTECTED,)), [1, 2]),
            (StudyQuery(states=(Coverage.NOT, Coverage.PROTECTED)), [1, 2, 3, 4, 5]),
            (StudyQuery(states=(Coverage.NOT,), destination=world.destination_name), [3, 4, 5]),
            (StudyQuery(level_at_least=Level.COMPLETE), [1, 2]),
            (StudyQuery(level_below=Level.SENT, destination=world.destination_name), [3, 4, 5]),
            (StudyQuery(text="doe", states=(Coverage.NOT,)), [3, 5]),
            (StudyQuery(held=True), []),
        ):
            assert self._found(world, query) == expected, query
        matrix = world.catalogue.matrix
        matrix.know_holds(world.destination, {"2.25.2", "2.25.77"})
        assert self._found(world, StudyQuery(held=True)) == [2]
        assert self._found(world, StudyQuery(held=False)) == [1, 3, 4, 5]
        (line,) = matrix.page(StudyQuery(held=True)).lines
        assert line.held_in == (world.destination_name,)
        matrix.know_holds(world.destination, ())
        assert self._found(world, StudyQuery(held=True)) == []
        assert matrix.modalities() == ["CT", "MR"]

    def test_states_are_counted_whichever_are_asked_for(self) -> None:
        """A page says how many studies there are in every state."""
        world = self._furnished()
        page = world.catalogue.matrix.page(StudyQuery(states=(Coverage.NOT,)))
        assert page.by_state == {Coverage.NOT: 3, Coverage.PROTECTED: 2}
        assert page.total == 3
        matched = world.catalogue.matrix.matched(StudyQuery())
        assert (matched.studies, matched.instances) == (5, 8)
        assert matched.by_source == {world.source_name: 5}
        assert matched.by_destination == {world.destination_name: 2}
        (held,) = world.catalogue.matrix.named(StudyQuery(), at=world.destination_name)
        assert list(held) == ["2.25.1", "2.25.2"]
        (there,) = world.catalogue.matrix.named(StudyQuery(), source=world.source_name)
        assert len(there) == 5
        assert list(world.catalogue.matrix.named(StudyQuery(), source="/elsewhere")) == []

    def test_pages_go_forth_and_back_in_every_order(self) -> None:
        """All pages together are all studies, in order, and each page is found again backwards."""
        world = self._furnished()
        for order in StudyOrder:
            for descending in (False, True):
                for at in ("", world.destination_name):
                    self._walk(world, StudyQuery(destination=at), order, descending=descending)
        by_name = world.catalogue.matrix.page(
            StudyQuery(), order=StudyOrder.NAME, descending=False
        ).lines
        assert [line.study_instance_uid for line in by_name] == [
            f"2.25.{n}" for n in (4, 2, 5, 3, 1)
        ]

    def _walk(
        self, world: World, query: StudyQuery, order: StudyOrder, *, descending: bool
    ) -> None:
        def page(place: StudyPlace | None, limit: int = 2) -> StudyPage:
            return world.catalogue.matrix.page(
                query, order=order, descending=descending, place=place, limit=limit
            )

        whole = page(None, 500).lines
        pages = [page(None)]
        while (place := pages[-1].next) is not None:
            pages.append(page(place))
        assert pages[0].previous is None
        assert [len(one.lines) for one in pages] == [2, 2, 1]
        assert tuple(line for one in pages for line in one.lines) == whole
        for earlier, later in pairwise(pages):
            assert later.previous is not None
            back = page(later.previous)
            assert back.lines == earlier.lines
            assert (back.previous is None) == (earlier is pages[0])
            assert back.next is not None
            assert page(back.next).lines == later.lines

    def test_a_place_stays_while_others_come(self) -> None:
        """What is added before or behind a place neither repeats nor hides a study."""
        world = self._furnished()
        matrix = world.catalogue.matrix
        first = matrix.page(StudyQuery(), order=StudyOrder.SIZE, limit=2)
        seen = [line.study_instance_uid for line in first.lines]
        # The study that was shown last grows, and is the largest now.
        grown = named_study(int(seen[-1].split(".")[2]), "X", "20260130", instances=40)
        added = named_study(9, "Y", "20200101", instances=9)
        scan = world.catalogue.sources.scan(world.source, None)
        scan.news([one.entry for one in (*grown, *added)])
        scan.record([*grown, *added])
        scan.finish(believe_absence=False)
        counted(world)
        place = first.next
        while place is not None:
            page = matrix.page(StudyQuery(), order=StudyOrder.SIZE, place=place, limit=2)
            seen += [line.study_instance_uid for line in page.lines]
            place = page.next
        assert len(seen) == len(set(seen)) == 5
