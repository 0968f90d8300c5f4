"""Cards that outlive a service: the same answers without a look, and never a wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.archive_world import ArchiveWorld, found

from dcmvault.archives import study_cards
from dcmvault.archives.kept_cards import KeptCards
from dcmvault.archives.study_cards import SeriesCount, StudyCard
from dcmvault.archives.study_table import StudyRow
from dcmvault.model.query import QueryLevel
from dcmvault.testing.dicom_files import make_instance, make_study, make_uid
from dcmvault.vault.crypto import read_header
from dcmvault.vault.retention import forget_study

_ASKED = {
    "StudyInstanceUID": "",
    "StudyID": "",
    "ReferringPhysicianName": "",
    "NumberOfStudyRelatedSeries": "",
    "NumberOfStudyRelatedInstances": "",
    "SOPClassesInStudy": "",
}
_CT = "1.2.840.10008.5.1.4.1.1.2"


def _world(folder: Path, *, encrypted: bool = True, studies: int = 3) -> ArchiveWorld:
    folder.mkdir(exist_ok=True)
    world = ArchiveWorld(folder / "vault", encrypted=encrypted)
    paths = []
    for number in range(studies):
        for instance in range(1 + number):
            made = make_instance(
                folder / "studies" / f"{number}-{instance}.dcm",
                make_uid("study", number),
                make_uid("series", number),
                make_uid("instance", number, instance),
                elements={"StudyID": f"S{number}", "ReferringPhysicianName": "Müller^José"},
            )
            paths.append(made.path)
    world.back_up(paths)
    return world


def _answers(world: ArchiveWorld, keeps: Path | None, snapshot: str = "") -> list[dict[int, str]]:
    """Ask a service; it has looked into all studies when it is stopped."""
    archive = world.archive(snapshot, keeps)
    archive._read_cards()
    with archive:
        return found(archive, QueryLevel.STUDY, **_ASKED)


@pytest.fixture
def no_look(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """From when it is called `setattr`, no study can be looked into."""
    with monkeypatch.context() as patch:
        yield patch


def _forbid(patch: pytest.MonkeyPatch) -> None:
    def look(*_what: object) -> None:
        pytest.fail("a study was looked into again")

    patch.setattr(study_cards, "read_study", look)


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_service_that_starts_again_answers_without_a_look(
    tmp_path: Path, no_look: pytest.MonkeyPatch, encrypted: bool
) -> None:
    world = _world(tmp_path, encrypted=encrypted)
    first = _answers(world, tmp_path / "cards")
    assert sorted(one[0x00201208] for one in first) == ["1", "2", "3"]
    _forbid(no_look)
    archive = world.archive("", tmp_path / "cards")
    assert found(archive, QueryLevel.STUDY, **_ASKED) == first
    assert archive.syntaxes(_CT) == ["1.2.840.10008.1.2.1"]


def test_cards_are_sealed_and_nobody_elses(tmp_path: Path) -> None:
    world = _world(tmp_path)
    _answers(world, tmp_path / "cards")
    (path,) = (tmp_path / "cards").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert read_header(path.read_bytes(), b"c", world.opened().config.vault_id).encrypted


@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize("at", [0, 70, 130, -1, None])
def test_a_damaged_file_is_no_file(tmp_path: Path, encrypted: bool, at: int | None) -> None:
    """Whichever byte it is: answers are right, and the file is made anew."""
    world = _world(tmp_path, encrypted=encrypted)
    first = _answers(world, tmp_path / "cards")
    (path,) = (tmp_path / "cards").iterdir()
    content = bytearray(path.read_bytes())
    if at is None:
        content = bytearray()
    else:
        content[at] ^= 1
    path.write_bytes(content)
    assert KeptCards(world.opened(), tmp_path / "cards").load() == {}
    assert _answers(world, tmp_path / "cards") == first
    assert len(KeptCards(world.opened(), tmp_path / "cards").load()) == 3


def test_another_vaults_file_is_no_file(tmp_path: Path) -> None:
    world, other = _world(tmp_path / "a"), _world(tmp_path / "b", studies=1)
    for one in (world, other):
        _answers(one, tmp_path / "cards")
    mine, others = (
        tmp_path / "cards" / f"{one.opened().config.vault_id.hex()}.cards" for one in (world, other)
    )
    mine.write_bytes(others.read_bytes())
    assert KeptCards(world.opened(), tmp_path / "cards").load() == {}


def test_cards_for_other_attributes_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(tmp_path)
    _answers(world, tmp_path / "cards")
    monkeypatch.setattr("dcmvault.archives.kept_cards._FORM", [1, [0x00100020]])
    assert KeptCards(world.opened(), tmp_path / "cards").load() == {}


def test_a_study_that_changed_is_looked_into_again(tmp_path: Path) -> None:
    world = _world(tmp_path, studies=1)
    (before,) = _answers(world, tmp_path / "cards")
    more = make_instance(
        tmp_path / "more.dcm", make_uid("study", 0), make_uid("series", 0), make_uid("more")
    )
    world.back_up([more.path], run="run-2")
    (after,) = _answers(world, tmp_path / "cards")
    assert (before[0x00201208], after[0x00201208]) == ("1", "2")
    assert len(KeptCards(world.opened(), tmp_path / "cards").load()) == 1, "the old one is gone"


def test_a_look_at_the_past_leaves_the_presents_cards(tmp_path: Path) -> None:
    world = _world(tmp_path, studies=1)
    (other,) = make_study(tmp_path / "other", key="other", instances=1)
    snapshot = world.back_up([other.path], source="/other", run="run-2")
    (third,) = make_study(tmp_path / "third", key="third", instances=1)
    world.back_up([third.path], source="/third", run="run-3")
    _answers(world, tmp_path / "cards")
    kept = KeptCards(world.opened(), tmp_path / "cards").load()
    assert len(_answers(world, tmp_path / "cards", snapshot)) == 2
    assert KeptCards(world.opened(), tmp_path / "cards").load() == kept


def test_what_may_say_too_little_is_not_kept(tmp_path: Path) -> None:
    """A header or records that were damaged may be mended before the next start."""
    vault = _world(tmp_path, studies=1).opened()
    rows = [StudyRow.of(f"1.2.{n}", {}, bytes([n]) * 32, 2) for n in range(3)]
    series = (SeriesCount("1.2.3", 2, ((_CT, "1.2.840.10008.1.2.1"),)),)
    cards = {
        ("1.2.0", bytes([0]) * 32): StudyCard({0x00200010: "S"}, series),
        ("1.2.1", bytes([1]) * 32): StudyCard({}, series),
        ("1.2.2", bytes([2]) * 32): StudyCard(
            {0x00200010: "S"}, (series[0]._replace(instances=1),)
        ),
    }
    KeptCards(vault, tmp_path / "cards").save(rows, cards)
    assert KeptCards(vault, tmp_path / "cards").load() == dict(list(cards.items())[:1])


def test_a_folder_that_cannot_be_written_to_stops_nothing(tmp_path: Path) -> None:
    world = _world(tmp_path, studies=1)
    (tmp_path / "cards").write_text("a file in the place of the folder")
    assert len(_answers(world, tmp_path / "cards")) == 1


def test_what_cannot_be_read_does_not_outlive_the_last_study(tmp_path: Path) -> None:
    world = _world(tmp_path, studies=1)
    _answers(world, tmp_path / "cards")
    (path,) = (tmp_path / "cards").iterdir()
    damaged = path.read_bytes()[:-1]
    path.write_bytes(damaged)
    world.clock.advance(1)
    forget_study(world.opened(), make_uid("study", 0))
    assert _answers(world, tmp_path / "cards") == []
    assert path.read_bytes() != damaged


def test_a_forgotten_study_leaves_the_kept_cards(tmp_path: Path) -> None:
    world = _world(tmp_path)
    _answers(world, tmp_path / "cards")
    world.clock.advance(1)
    forget_study(world.opened(), make_uid("study", 1))
    assert len(_answers(world, tmp_path / "cards")) == 2
    kept = KeptCards(world.opened(), tmp_path / "cards").load()
    assert {uid for uid, _manifest in kept} == {make_uid("study", 0), make_uid("study", 2)}


@pytest.mark.parametrize("damaged", [False, True])
def test_a_study_leaves_the_kept_cards_as_soon_as_it_is_told(tmp_path: Path, damaged: bool) -> None:
    """No service needs to start for that; a file that cannot be read goes as a whole."""
    world = _world(tmp_path)
    _answers(world, tmp_path / "cards")
    (path,) = (tmp_path / "cards").iterdir()
    before = path.read_bytes()
    KeptCards(world.opened(), tmp_path / "cards").forget(make_uid("another study"))
    assert path.read_bytes() == before
    if damaged:
        path.write_bytes(before[:-1])
    KeptCards(world.opened(), tmp_path / "cards").forget(make_uid("study", 1))
    kept = KeptCards(world.opened(), tmp_path / "cards").load()
    left = set() if damaged else {make_uid("study", 0), make_uid("study", 2)}
    assert {uid for uid, _manifest in kept} == left
    assert path.exists() is not damaged


def test_a_service_that_has_not_looked_keeps_nothing_of_a_forgotten_study(tmp_path: Path) -> None:
    world = _world(tmp_path)
    archive = world.archive("", tmp_path / "cards")
    world.clock.advance(1)
    forget_study(world.opened(), make_uid("study", 1))
    archive._read_cards()
    assert not (tmp_path / "cards").exists()
    assert archive._look_again()
    archive._read_cards()
    assert len(KeptCards(world.opened(), tmp_path / "cards").load()) == 2
