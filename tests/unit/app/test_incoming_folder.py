"""Files go into a viewer's INCOMING folder whole, once, and never more than it can bear."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dcmvault.app.incoming_folder import IncomingFolder, Limits, incoming_name
from dcmvault.app.library_incoming import LibraryIncoming
from dcmvault.app.library_lookup import LibraryLookup
from dcmvault.errors import DestinationStoppedError, UsageError, VaultDamagedError
from dcmvault.model.restored import FileToRestore, Restored
from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.testing.horos_importer import import_incoming, importing
from dcmvault.testing.horos_library import LibraryFacts, build_library

QUICK = Limits(kept_free=0, patience_s=0.1, look_s=0.01)


@pytest.fixture
def facts(tmp_path: Path) -> LibraryFacts:
    return build_library(tmp_path / "Horos Data")


def go_on() -> None:
    """Nobody asks the restore to stop."""


def put(folder: IncomingFolder, content: bytes) -> Restored:
    file = FileToRestore((), len(content), hashlib.sha256(content).digest())
    return folder.write(file, [content[:3], content[3:]])


def names(facts: LibraryFacts) -> list[str]:
    return sorted(path.name for path in (facts.data / "INCOMING.noindex").iterdir())


def snapshot(base: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in base.rglob("*")
        if path.is_file() and "INCOMING.noindex" not in path.parts
    }


def test_file_is_there_once_under_a_name_made_of_its_content(facts: LibraryFacts) -> None:
    before = snapshot(facts.base)
    folder = IncomingFolder(facts.data, go_on, QUICK)
    with folder.open():
        assert put(folder, b"content") is Restored.WRITTEN
        assert put(folder, b"content") is Restored.ALREADY_THERE
        assert put(folder, b"other content") is Restored.WRITTEN
    name = incoming_name(hashlib.sha256(b"content").digest())
    assert name in names(facts)
    assert len(names(facts)) == 2
    assert (facts.data / "INCOMING.noindex" / name).read_bytes() == b"content"
    assert snapshot(facts.base) == before


def test_viewer_never_sees_a_file_that_is_not_whole(facts: LibraryFacts) -> None:
    folder = IncomingFolder(facts.data, go_on, QUICK)

    def damaged() -> Iterator[bytes]:
        yield b"some"
        assert [name[0] for name in names(facts)] == ["."]
        message = "the rest is damaged"
        raise VaultDamagedError(message)

    with folder.open(), pytest.raises(VaultDamagedError):
        folder.write(FileToRestore((), 8, bytes(32)), damaged())
    assert names(facts) == []


def test_what_a_killed_restore_left_unfinished_goes_and_nothing_else(facts: LibraryFacts) -> None:
    incoming = facts.data / "INCOMING.noindex"
    (incoming / f".dcmvault-{'0' * 32}.part").write_bytes(b"half")
    (incoming / ".other.part").write_bytes(b"somebody else's")
    (incoming / "arrived.dcm").write_bytes(b"from a scanner")
    with IncomingFolder(facts.data, go_on, QUICK).open():
        pass
    assert names(facts) == [".other.part", "arrived.dcm"]


def test_folder_is_never_fuller_than_the_viewer_can_bear(
    facts: LibraryFacts, tmp_path: Path
) -> None:
    limits = Limits(most_waiting=5, kept_free=0, patience_s=20, look_s=0.005)
    folder = IncomingFolder(facts.data, go_on, limits)
    study = make_uid("many")
    contents = []
    for number in range(40):
        made = make_instance(
            tmp_path / "made" / str(number), study, make_uid(study, 1), make_uid(study, number)
        )
        contents.append(made.path.read_bytes())
    with importing(facts.base) as imported, folder.open(), ThreadPoolExecutor(3) as pool:
        assert set(pool.map(lambda content: put(folder, content), contents)) == {Restored.WRITTEN}
        assert folder.wait_until_taken(20) == set()
    assert imported.most_waiting <= 5
    assert (imported.taken, imported.discarded, imported.deleted) == (40, 0, 0)


def test_full_folder_that_nobody_empties_ends_the_restore(facts: LibraryFacts) -> None:
    limits = Limits(most_waiting=2, kept_free=0, patience_s=0.05, look_s=0.01)
    folder = IncomingFolder(facts.data, go_on, limits)
    with folder.open():
        put(folder, b"one")
        put(folder, b"two")
        with pytest.raises(DestinationStoppedError, match="takes nothing"):
            put(folder, b"three")
        assert len(folder.wait_until_taken(0.05)) == 2
    assert import_incoming(facts.base).deleted == 2
    with folder.open():
        assert put(folder, b"three") is Restored.WRITTEN


def test_wait_for_the_viewer_can_be_ended(facts: LibraryFacts) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    folder = IncomingFolder(facts.data, stop, Limits(most_waiting=0, kept_free=0))
    with folder.open(), pytest.raises(KeyboardInterrupt):
        put(folder, b"one")
    assert names(facts) == []


def test_disk_is_never_filled_until_the_viewer_deletes_studies(facts: LibraryFacts) -> None:
    folder = IncomingFolder(facts.data, go_on, Limits(kept_free=1 << 60))
    with folder.open(), pytest.raises(DestinationStoppedError, match="too little room"):
        put(folder, b"one")
    assert names(facts) == []


def test_only_one_restore_at_a_time(facts: LibraryFacts) -> None:
    with (
        IncomingFolder(facts.data, go_on, QUICK).open(),
        pytest.raises(UsageError, match="Another restore"),
        IncomingFolder(facts.data, go_on, QUICK).open(),
    ):
        pass


def test_library_without_the_folder(facts: LibraryFacts) -> None:
    (facts.data / "INCOMING.noindex").rmdir()
    with (
        pytest.raises(UsageError, match="no INCOMING"),
        IncomingFolder(facts.data, go_on, QUICK).open(),
    ):
        pass


def test_a_file_that_the_viewer_takes_while_it_is_opened_is_found_again(
    facts: LibraryFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between finding a file that waits and opening it the viewer may move it into its library."""
    made = make_instance(tmp_path / "one.dcm", *(make_uid("taken", str(n)) for n in range(3)))
    content = made.path.read_bytes()
    file = FileToRestore(
        ("one.dcm",),
        len(content),
        hashlib.sha256(content).digest(),
        study_instance_uid=made.study_instance_uid,
        sop_instance_uid=made.sop_instance_uid,
    )
    target = LibraryIncoming(facts.base, go_on, QUICK)
    monkeypatch.setattr("dcmvault.app.library_incoming.PATIENCE_S", 0.1)
    find = LibraryLookup.find

    def find_and_be_too_late(lookup: LibraryLookup, wanted: FileToRestore) -> Path | None:
        found = find(lookup, wanted)
        if found is not None and found.parent.name == "INCOMING.noindex":
            import_incoming(facts.base)
        return found

    with target.open():
        target.write(file, [content])
        monkeypatch.setattr(LibraryLookup, "find", find_and_be_too_late)
        assert b"".join(target.read_back(file)) == content
