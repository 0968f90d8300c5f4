"""What every Source with a log of changes must do: subclass ChangesSuite instead of SourceSuite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dcmvault.model.instance import InstanceEntry
from dcmvault.ports.source import KeepsChanges, Source
from dcmvault.testing.source_suite import KnownSource, SourceSuite


class ChangesSuite(SourceSuite):
    """Tests of the contract of `dcmvault.ports.source.KeepsChanges`, beside those of a Source."""

    def test_nothing_changed(self, tmp_path: Path) -> None:
        """Of an unchanged source no study is named; it holds as many instances as it lists."""
        known = self.known_source(tmp_path)
        log = _log(known)
        listed = _entries(known)
        changes = log.changes_since(log.bookmark())
        assert changes is not None
        assert changes.studies == ()
        assert log.count() == len(listed)
        again = _log(known).changes_since(changes.bookmark)
        assert again is not None
        assert again.studies == ()

    def test_a_replaced_instance_is_told(self, tmp_path: Path) -> None:
        """Its study is named, or the log says that it cannot tell; other studies need not be."""
        known = self.known_source(tmp_path)
        bookmark = _log(known).bookmark()
        victim = sorted(known.content)[1]
        before = _entries(known)
        known.change(victim)
        source, log = known.make(), _log(known)
        changes = log.changes_since(bookmark)
        assert log.count() == len(before)
        if changes is not None:
            assert len(set(changes.studies)) == len(changes.studies)
            told = [entry for study in changes.studies for entry in source.entries(study)]
            assert victim in {entry.locator for entry in told}
            untouched = {entry for entry in before if entry.locator != victim}
            assert {entry for entry in told if entry.locator != victim} <= untouched
            assert _log(known).changes_since(changes.bookmark) is not None

    def test_a_deletion_is_counted(self, tmp_path: Path) -> None:
        """Whatever the log tells, the count tells that an instance is gone."""
        known = self.known_source(tmp_path)
        bookmark = _log(known).bookmark()
        before = _entries(known)
        known.remove(sorted(known.content)[1])
        log = _log(known)
        log.changes_since(bookmark)
        assert log.count() == len(before) - 1

    def test_other_bookmarks(self, tmp_path: Path) -> None:
        """Of a bookmark that is none of its own, a log can tell nothing."""
        log = _log(self.known_source(tmp_path))
        for bookmark in ("", "x", "[]", "{}", "0", "[1, 2]", log.bookmark()[:-3]):
            assert log.changes_since(bookmark) is None


def _log(known: KnownSource) -> KeepsChanges:
    source: Source = known.make()
    assert isinstance(source, KeepsChanges)
    return source


def _entries(known: KnownSource) -> Sequence[InstanceEntry]:
    source = known.make()
    return [entry for study in source.studies() for entry in source.entries(study)]
