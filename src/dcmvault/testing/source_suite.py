"""What every Source must do: subclass SourceSuite in a test module, and run it with pytest."""

from __future__ import annotations

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dcmvault.errors import SourceUnavailableError
from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    StudyRef,
    UnreadableEntry,
)
from dcmvault.ports.source import Source


@dataclass(frozen=True, slots=True)
class KnownSource:
    """A source whose content is known, and ways to disturb it.

    At least three files are needed. `make` builds another Source object on the same content.
    """

    make: Callable[[], Source]
    #: Exact bytes of every readable entry, by locator.
    content: Mapping[str, bytes]
    #: Make the source as a whole unavailable (unmount it, stop the peer).
    make_unavailable: Callable[[], None]
    #: Give one file other content, as an application would.
    change: Callable[[str], None]
    #: Delete one file at the source.
    remove: Callable[[str], None]
    #: Codes of the entries that are listed and cannot be read, by locator.
    unreadable: Mapping[str, str] = field(default_factory=dict)
    #: Folders that belong to the source: nothing may be written there.
    trees: Sequence[Path] = ()
    #: Files in `trees` that may be opened while listing (an index).
    index_files: frozenset[Path] = frozenset()
    #: What of a file must be as in `content`, where a peer sends instances in words of its own.
    compared: Callable[[bytes], bytes] = bytes
    #: Whether other content under a locator shows in its fingerprint; else `read` hands it out.
    changes_show: bool = True


class SourceSuite(ABC):
    """Tests of the contract in `dcmvault.ports.source`. Needs pytest's `tmp_path` only."""

    @abstractmethod
    def known_source(self, folder: Path) -> KnownSource:
        """Build a source in the empty `folder`."""

    def test_lists_every_entry_once(self, tmp_path: Path) -> None:
        """Everything is listed, under a locator of its own."""
        known = self.known_source(tmp_path)
        studies, entries = _list(known.make())
        locators = [entry.locator for entry in entries]
        assert len(set(studies)) == len(studies)
        assert len({study.locator for study in studies}) == len(studies)
        assert len(set(locators)) == len(locators)
        assert set(locators) == {*known.content, *known.unreadable}

    def test_locators_are_text(self, tmp_path: Path) -> None:
        """Locators can be stored: valid Unicode, not empty."""
        studies, entries = _list(self.known_source(tmp_path).make())
        for locator in [*(s.locator for s in studies), *(e.locator for e in entries)]:
            assert locator
            assert locator.encode().decode() == locator

    def test_order_is_stable(self, tmp_path: Path) -> None:
        """The same content is listed in the same order, by the same object and by another."""
        known = self.known_source(tmp_path)
        source = known.make()
        first = _list(source)
        assert _list(source) == first
        assert _list(known.make()) == first

    def test_entries_of_studies_listed_before(self, tmp_path: Path) -> None:
        """Entries can be listed after the iteration over studies has ended, by anybody."""
        known = self.known_source(tmp_path)
        source = known.make()
        studies, entries = _list(source)
        assert [entry for study in studies for entry in source.entries(study)] == entries
        other = known.make()
        assert [entry for study in studies for entry in other.entries(study)] == entries

    def test_name_is_canonical(self, tmp_path: Path) -> None:
        """Equal sources have equal names."""
        known = self.known_source(tmp_path)
        assert known.make().name
        assert known.make().name == known.make().name

    def test_listing_opens_no_file(self, tmp_path: Path) -> None:
        """Planning an unchanged source reads nothing but its index."""
        known = self.known_source(tmp_path)
        source = known.make()
        with opened_files(known.trees) as opened:
            _list(source)
        assert {Path(path) for path in opened} <= known.index_files

    def test_nothing_is_written(self, tmp_path: Path) -> None:
        """Listing and reading leave every file, folder and time of the source as they were."""
        known = self.known_source(tmp_path)
        before = [_tree_state(tree) for tree in known.trees]
        source = known.make()
        for _ in source.read(_list(source)[1]):
            pass
        assert [_tree_state(tree) for tree in known.trees] == before

    def test_reads_what_is_there(self, tmp_path: Path) -> None:
        """One answer for each entry, in order, with the source's bytes."""
        known = self.known_source(tmp_path)
        source = known.make()
        entries = _list(source)[1]
        wanted = {locator: known.compared(data) for locator, data in known.content.items()}
        asked = entries[::-1]
        answers = []
        for answer in source.read(iter(asked)):
            answers.append(answer.entry)
            if isinstance(answer, InstanceFile):
                assert known.compared(answer.path.read_bytes()) == wanted[answer.entry.locator]
                assert answer.path.stat().st_size == answer.fingerprint.size
                assert answer.path.stat().st_mtime_ns == answer.fingerprint.mtime_ns
            else:
                assert answer.code == known.unreadable[answer.entry.locator]
                assert answer.message
        assert answers == asked

    def test_keeps_as_many_as_asked_for(self, tmp_path: Path) -> None:
        """The files handed out last are there until they are not among the last any more."""
        known = self.known_source(tmp_path)
        source = known.make()
        wanted = {locator: known.compared(data) for locator, data in known.content.items()}
        handed: deque[InstanceFile] = deque(maxlen=3)
        for answer in source.read(_list(source)[1], kept=3):
            if isinstance(answer, InstanceFile):
                handed.append(answer)
            for file in handed:
                assert known.compared(file.path.read_bytes()) == wanted[file.entry.locator]

    def test_another_object_reads(self, tmp_path: Path) -> None:
        """A worker reads entries that another process listed."""
        known = self.known_source(tmp_path)
        entries = _list(known.make())[1]
        found = {a.entry.locator for a in known.make().read(entries) if isinstance(a, InstanceFile)}
        assert found == set(known.content)

    def test_reading_nothing(self, tmp_path: Path) -> None:
        """No entries, no answers."""
        assert list(self.known_source(tmp_path).make().read([])) == []

    def test_changed_file(self, tmp_path: Path) -> None:
        """A file that changed after listing is refused, then listed with a new fingerprint."""
        known = self.known_source(tmp_path)
        source = known.make()
        before = {entry.locator: entry for entry in _list(source)[1]}
        victim = sorted(known.content)[1]
        known.change(victim)
        if not known.changes_show:
            self._finds_it_changed(known, source, before[victim])
            return
        assert _codes(source, before.values()) == {
            **known.unreadable,
            victim: "changed_while_reading",
        }
        after = {entry.locator: entry for entry in _list(source)[1]}
        assert {x for x in after if after[x].fingerprint != before[x].fingerprint} == {victim}
        assert victim not in _codes(source, after.values())

    def _finds_it_changed(self, known: KnownSource, source: Source, entry: InstanceEntry) -> None:
        assert entry in _list(source)[1]
        before = known.compared(known.content[entry.locator])
        for answer in source.read([entry]):
            assert isinstance(answer, InstanceFile)
            assert known.compared(answer.path.read_bytes()) != before

    def test_vanished_file(self, tmp_path: Path) -> None:
        """A file that was deleted after listing is answered so, and the others are read."""
        known = self.known_source(tmp_path)
        source = known.make()
        entries = _list(source)[1]
        victim = sorted(known.content)[1]
        known.remove(victim)
        assert _codes(source, entries) == {**known.unreadable, victim: "vanished"}

    def test_unknown_locator(self, tmp_path: Path) -> None:
        """An entry that the source never had, or could not have, does not end the iteration."""
        known = self.known_source(tmp_path)
        source = known.make()
        good = next(e for e in _list(source)[1] if e.locator in known.content)
        bad = [
            InstanceEntry(locator, Fingerprint(1, 2, 3))
            for locator in ("no/such entry", "../outside", "a\0b", "\\x00", "\\", "x" * 5000)
        ]
        answers = list(source.read([*bad, good]))
        assert [answer.entry for answer in answers] == [*bad, good]
        assert all(isinstance(answer, UnreadableEntry) for answer in answers[:-1])
        assert isinstance(answers[-1], InstanceFile)

    def test_unavailable_source(self, tmp_path: Path) -> None:
        """A source that is not there raises; it is never an empty one."""
        known = self.known_source(tmp_path)
        entries = _list(known.make())[1]
        source = known.make()
        known.make_unavailable()
        error = _refusal(source)
        assert error is not None
        assert error.message.endswith(".")
        assert error.hint
        assert str(tmp_path) not in error.message + error.hint
        # What was listed before is not "deleted at the source".
        codes = _codes(source, [e for e in entries if e.locator in known.content])
        assert set(codes) == set(known.content)

    def test_abandoned_iteration(self, tmp_path: Path) -> None:
        """Listing may stop anywhere, and the source be asked again."""
        known = self.known_source(tmp_path)
        source = known.make()
        everything = _list(source)
        studies = source.studies()
        next(iter(source.entries(next(studies))), None)
        del studies
        assert _list(source) == everything


def local_known_source(
    make: Callable[[], Source],
    files: Mapping[str, Path],
    root: Path,
    *,
    unreadable: Mapping[str, str] | None = None,
    trees: Sequence[Path] = (),
    index_files: frozenset[Path] = frozenset(),
) -> KnownSource:
    """Describe a source over local files: `files` by locator; without `root` it is unavailable."""

    def change(locator: str) -> None:
        path = files[locator]
        path.write_bytes(path.read_bytes() + b"\0\0")

    return KnownSource(
        make=make,
        content={locator: path.read_bytes() for locator, path in files.items()},
        make_unavailable=lambda: _move_away(root),
        change=change,
        remove=lambda locator: files[locator].unlink(),
        unreadable=unreadable or {},
        trees=trees or (root,),
        index_files=index_files,
    )


@contextmanager
def opened_files(trees: Sequence[Path]) -> Iterator[set[str]]:
    """Collect the paths inside `trees` that this process opens (by Python, or by SQLite)."""
    if not _watches:
        sys.addaudithook(_audit)
    watch = _Watch(tuple(os.path.realpath(tree) + os.sep for tree in trees))
    _watches.append(watch)
    try:
        yield watch.opened
    finally:
        watch.active = False


@dataclass(slots=True)
class _Watch:
    roots: tuple[str, ...]
    opened: set[str] = field(default_factory=set)
    active: bool = True


#: An audit hook cannot be removed again, so there is one, and it consults this list.
_watches: list[_Watch] = []


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event not in {"open", "sqlite3.connect"}:
        return
    name = arguments[0]
    if not isinstance(name, str | bytes | os.PathLike):
        return
    for watch in _watches:
        if watch.active:
            # A database may only be opened as a copy, so its name must never count as an index.
            path = os.path.abspath(os.fsdecode(name))  # noqa: PTH100  (a hook: plain strings)
            if path.startswith(watch.roots):
                watch.opened.add(path if event == "open" else f"{path} (as a database)")


def _list(source: Source) -> tuple[list[StudyRef], list[InstanceEntry]]:
    studies: list[StudyRef] = []
    entries: list[InstanceEntry] = []
    for study in source.studies():
        studies.append(study)
        entries += source.entries(study)
    return studies, entries


def _refusal(source: Source) -> SourceUnavailableError | None:
    try:
        list(source.studies())
    except SourceUnavailableError as error:
        return error
    return None


def _codes(source: Source, entries: Iterable[InstanceEntry]) -> dict[str, str]:
    return {
        answer.entry.locator: answer.code
        for answer in source.read(entries)
        if isinstance(answer, UnreadableEntry)
    }


def _move_away(root: Path) -> None:
    root.rename(root.with_name(root.name + " moved away"))


def _tree_state(tree: Path) -> list[tuple[object, ...]]:
    state: list[tuple[object, ...]] = []
    for path in sorted([tree, *tree.rglob("*")]):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b""
        state.append(
            (path, status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, content)
        )
    return state
