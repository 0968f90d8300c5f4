"""What every catalogue must do for sources with a log of changes; part of `catalogue_suite`."""

from __future__ import annotations

from dcmvault.model.instance import ScannedEntry
from dcmvault.testing.catalogue_details_suite import DetailsSuite
from dcmvault.testing.catalogue_matrix_suite import MatrixCountsSuite, MatrixQuestionsSuite
from dcmvault.testing.catalogue_world import (
    World,
    entry,
    header,
    scanned,
    unreadable,
)


class BookmarkSuite(MatrixCountsSuite, MatrixQuestionsSuite, DetailsSuite):
    """Tests of bookmarks, and of passes that list only a part."""

    def test_a_bookmark_is_that_of_the_last_pass(self) -> None:
        """It is kept when the pass ends, and not before; a pass without one forgets it."""
        world = self.world()
        sources = world.catalogue.sources
        assert sources.bookmark(world.source) == ""
        scan_pass = sources.scan(world.source, world.run())
        scan_pass.record([scanned("a", "a", header(1, 1, 1))])
        assert sources.bookmark(world.source) == ""
        scan_pass.finish(believe_absence=True, bookmark='[7, "é"]')
        assert sources.bookmark(world.source) == '[7, "é"]'
        world.scan(world.run(), [], believe_absence=False)
        assert sources.bookmark(world.source) == ""

    def test_what_was_not_listed_is_as_before(self) -> None:
        """A pass that lists a part counts the whole, and nothing is gone."""
        world = self.world()
        world.scan(world.run(), _three())
        scan_pass = world.catalogue.sources.scan(world.source, None)
        scan_pass.news([entry("a"), entry("d")])
        scan_pass.record(
            [scanned("a", "other", header(1, 1, 0)), scanned("d", "d", header(2, 1, 1))]
        )
        assert not scan_pass.keep_unseen(3)
        assert not scan_pass.keep_unseen(5)
        assert scan_pass.keep_unseen(4)
        counts = scan_pass.finish(believe_absence=True)
        assert (counts.instances, counts.new, counts.changed, counts.gone) == (4, 1, 1, 0)
        assert counts.known_before == 3
        assert world.catalogue.sources.present_instances(world.source) == 4

    def test_what_does_not_add_up_is_gone_when_all_is_listed(self) -> None:
        """A part that is not believed does not count: the pass goes on and finds what is gone."""
        world = self.world()
        world.scan(world.run(), _three())
        scan_pass = world.catalogue.sources.scan(world.source, None)
        assert not scan_pass.keep_unseen(2)
        scan_pass.news([entry("a"), entry("b")])
        counts = scan_pass.finish(believe_absence=True)
        assert (counts.instances, counts.gone) == (2, 1)

    def test_what_returns_adds_up(self) -> None:
        """An entry that was gone is one more when it is listed again."""
        world = self.world()
        world.scan(world.run(), _three())
        world.scan(world.run(), _three()[:2])
        scan_pass = world.catalogue.sources.scan(world.source, None)
        assert not scan_pass.keep_unseen(3)
        scan_pass.news([entry("c")])
        assert scan_pass.keep_unseen(3)
        counts = scan_pass.finish(believe_absence=True)
        assert (counts.instances, counts.new, counts.gone) == (3, 1, 0)

    def test_what_could_not_be_read_is_looked_at_again(self) -> None:
        """An unreadable entry that was not listed may be mended: the part is not believed."""
        world = self.world()
        world.scan(world.run(), [*_three(), unreadable("locked")])
        scan_pass = world.catalogue.sources.scan(world.source, None)
        assert not scan_pass.keep_unseen(4)
        scan_pass.news([entry("locked")])
        assert scan_pass.keep_unseen(4)
        counts = scan_pass.finish(believe_absence=True)
        assert (counts.instances, counts.unreadable, counts.gone) == (4, 1, 0)

    def test_a_bookmark_outlives_the_process(self) -> None:
        """It is durable."""
        world = self.world()
        world.catalogue.sources.scan(world.source, None).finish(believe_absence=True, bookmark="x")
        world.catalogue.close()
        again = World(self.open_catalogue())
        assert again.catalogue.sources.bookmark(again.source) == "x"


def _three() -> list[ScannedEntry]:
    return [scanned(name, name, header(1, 1, n)) for n, name in enumerate("abc")]
