"""Every way back from a real Orthanc: sound copies are proven, what its disk lost is found."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import JPEGLSLossless
from scripts import peer_processes
from scripts.peer_launch import free_port
from scripts.peer_processes import Orthanc
from tests.integration.dimse_story import expected, file_of, put_each
from tests.integration.stow_story import web_destination
from tests.integration.test_dimse_read_back import MadeOriginals

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.destinations.stow import StowDestination
from dcmvault.errors import DestinationUnreachableError, RetrievalNotOfferedError
from dcmvault.model.evidence import ExpectedInstance, Finding, Level, Verification
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import InstanceFile, UnreadableEntry
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import MadeInstance, make_study

pytestmark = pytest.mark.peers

WAYS = {"get": "C-GET", "move": "C-MOVE", "wado": "WADO-RS", "orthanc": "Orthanc REST"}


@dataclass(frozen=True)
class World:
    """An Orthanc that reads its disk each time, and the port that it knows as ours."""

    orthanc: Orthanc
    move_port: int

    def destination(self, way: str, *, coerced: str = "") -> DimseDestination | StowDestination:
        orthanc = self.orthanc
        if way == "wado":
            # One connection is all that may stand, whatever is asked meanwhile.
            url = f"{orthanc.http_url}/dicom-web"
            return web_destination(url, coerced=coerced, max_connections=1)
        options: dict[str, object] = {}
        if way == "move":
            options = {"retrieve": "move", "move_port": self.move_port, "move_host": "127.0.0.1"}
        if way == "orthanc":
            options["orthanc"] = {"url": orthanc.http_url}
        if way == "commitment":
            options = {"commitment_port": self.move_port, "commitment_host": "127.0.0.1"}
        section = DimseDestinationSection.model_validate(
            {
                "host": "127.0.0.1",
                "port": orthanc.dicom_port,
                "called_ae_title": orthanc.ae_title,
                "coerced": coerced,
                "dimse_timeout_s": 10,
                **options,
            }
        )
        return DimseDestination(section, FakeClock())

    def prove(
        self,
        way: str,
        made: tuple[MadeInstance, ...],
        coerced: str = "",
        level: Level = Level.PROVEN,
    ) -> Verification:
        (found,) = self.prove_each(way, [MadeOriginals(made)], coerced=coerced, level=level)
        return found

    def prove_each(
        self,
        way: str,
        studies: Sequence[MadeOriginals],
        *,
        coerced: str = "",
        level: Level = Level.PROVEN,
    ) -> list[Verification]:
        """Look at several studies, one after the other."""
        destination = self.destination(way, coerced=coerced)
        try:
            return [
                destination.verify(
                    replace(expected([file_of(one.path) for one in study.made]), originals=study),
                    level,
                )
                for study in studies
            ]
        finally:
            destination.close_idle()

    def stored_file(self, one: MadeInstance) -> Path:
        """Return the file on Orthanc's disk that holds an instance."""
        (identifier,) = self.orthanc._ids(one.sop_instance_uid)
        uuid = self.orthanc.rest(f"/instances/{identifier}/attachments/dicom/info")["Uuid"]
        return self.orthanc.storage / str(uuid)[:2] / str(uuid)[2:4] / str(uuid)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    port = free_port()
    modalities = {"us": ["DCMVAULT", "127.0.0.1", port]}
    with peer_processes.orthanc(
        MaximumStorageCacheSize=0, DicomModalities=modalities, OverwriteInstances=True
    ) as orthanc:
        yield World(orthanc, port)


def _stored(world: World, folder: Path, key: str) -> tuple[MadeInstance, ...]:
    made = make_study(folder, key=f"{folder}{key}", series=2, instances=4, rows=64, columns=64)
    for one in made:
        world.orthanc.store(one.path.read_bytes())
    return made


@pytest.mark.parametrize("way", WAYS)
def test_sound_copies_are_proven(world: World, tmp_path: Path, way: str) -> None:
    made = _stored(world, tmp_path, way)
    found = world.prove(way, made)
    assert set(found.findings.values()) == {Finding.HELD}
    assert found.proof["method"] == WAYS[way]
    assert found.proof["likeness"] == {"equal": len(made)}


@pytest.mark.parametrize("way", ["wado", "orthanc"])
def test_a_file_whose_transfer_syntax_is_damaged_is_not_proven(
    world: World, tmp_path: Path, way: str
) -> None:
    """Every byte of the data set is there, and nobody can read its pixels any more."""
    made = make_study(tmp_path, key=f"{tmp_path}{way}", instances=2, rows=64, columns=64)
    for one in made:
        data = pydicom.dcmread(one.path)
        data.compress(JPEGLSLossless, encoding_plugin="pyjpegls", generate_instance_uid=False)
        data.save_as(one.path)
        world.orthanc.store(one.path.read_bytes())
    stored = world.stored_file(made[0])
    content = stored.read_bytes()
    stored.write_bytes(content.replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.4.90", 1))
    found = world.prove(way, made)
    assert [found.findings[VersionId(n)] for n in (1, 2)] == [Finding.DAMAGED, Finding.HELD]
    assert "(0002,0010)" in found.reasons[VersionId(1)]


def _turn_a_bit(place: int) -> Callable[[Path], None]:
    def turn(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)

    return turn


def _header_bit(path: Path) -> None:
    _turn_a_bit(path.read_bytes().index(b"CT series"))(path)


#: What happens on Orthanc's disk, and what is said of it; None is nothing.
DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (_turn_a_bit(-1), "what came back differs: pixel data"),
    (_header_bit, "what came back differs: (0008,103E)"),
    (lambda path: os.truncate(path, path.stat().st_size - 100), ""),
    (lambda path: os.truncate(path, 700), ""),
    (Path.unlink, "the peer sends others of its study back, but not this one: "),
]


@pytest.mark.parametrize("way", WAYS)
def test_what_the_disk_lost_is_found(world: World, tmp_path: Path, way: str) -> None:
    """Bits turned, files cut off and files gone: each is damaged, and nothing else is."""
    made = _stored(world, tmp_path, way)
    for one, (damage, _said) in zip(made, DAMAGES, strict=False):
        damage(world.stored_file(one))
    found = world.prove(way, made)
    damaged = [version for version, what in found.findings.items() if what is Finding.DAMAGED]
    assert damaged == [1, 2, 3, 4, 5], (found.findings, found.reasons)
    for version, (_damage, said) in enumerate(DAMAGES, start=1):
        assert found.reasons[VersionId(version)].startswith(said)
    assert [what for what in found.findings.values() if what is not Finding.DAMAGED] == (
        [Finding.HELD] * (len(made) - len(DAMAGES))
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_study_of_which_all_files_are_gone_is_found(
    world: World, tmp_path: Path, way: str
) -> None:
    """Nothing of it comes; that another study does says that it is lost, not forbidden."""
    sound = _stored(world, tmp_path / "sound", way)[:1]
    made = _stored(world, tmp_path / "lost", way)[:2]
    for one in made:
        world.stored_file(one).unlink()
    held, lost = world.prove_each(way, [MadeOriginals(sound), MadeOriginals(made)])
    assert set(held.findings.values()) == {Finding.HELD}
    assert set(lost.findings.values()) == {Finding.DAMAGED}, lost.reasons
    for why in lost.reasons.values():
        assert why.startswith("the peer sends other studies back, but not this one: ")


def test_where_nothing_at_all_comes_back_nothing_is_said(tmp_path: Path) -> None:
    """Until there is another study to tell by, which a DICOMweb service names itself."""
    made = make_study(tmp_path / "lost", key=str(tmp_path), instances=2)
    with peer_processes.orthanc(MaximumStorageCacheSize=0) as orthanc:
        alone = World(orthanc, free_port())
        for one in made:
            orthanc.store(one.path.read_bytes())
            alone.stored_file(one).unlink()
        assert set(alone.prove("wado", made).findings.values()) == {Finding.UNKNOWN}
        _stored(alone, tmp_path / "sound", "elsewhere")
        assert set(alone.prove("wado", made).findings.values()) == {Finding.DAMAGED}


@dataclass(frozen=True)
class _DeletedMeanwhile(MadeOriginals):
    """Originals of which copies are deleted at the peer after it has named them."""

    made: Sequence[MadeInstance]
    orthanc: Orthanc
    deleted: Sequence[MadeInstance]

    def files(
        self, instances: Sequence[ExpectedInstance]
    ) -> Iterator[tuple[ExpectedInstance, InstanceFile | UnreadableEntry]]:
        for one in self.deleted:
            if self.orthanc._ids(one.sop_instance_uid):
                self.orthanc.delete(one.sop_instance_uid)
        return super().files(instances)


@pytest.mark.parametrize("of", ["some", "all"])
def test_what_is_deleted_while_it_is_read_back_is_missing(
    world: World, tmp_path: Path, of: str
) -> None:
    """A 404 is believed when the service does not name the instance any more, either."""
    sound = _stored(world, tmp_path / "sound", of)[:1]
    made = _stored(world, tmp_path / "deleted", of)[:3]
    deleted = made if of == "all" else made[:1]
    originals = _DeletedMeanwhile(made, world.orthanc, deleted)
    _held, found = world.prove_each("wado", [MadeOriginals(sound), originals])
    gone = len(deleted)
    expected_findings = [Finding.MISSING] * gone + [Finding.HELD] * (len(made) - gone)
    assert [*found.findings.values()] == expected_findings, found.reasons
    assert found.reasons[VersionId(1)] == "the peer does not have it, and does not name it any more"


def test_orthanc_commits_to_what_its_disk_altered(world: World, tmp_path: Path) -> None:
    """It says yes for files with a bit turned, and no for what is cut off, or gone.

    Reading back finds each of them.
    """
    made = _stored(world, tmp_path, "commitment")
    for one, (damage, _said) in zip(made, DAMAGES, strict=False):
        damage(world.stored_file(one))
    gone = len(DAMAGES)
    world.orthanc.delete(made[gone].sop_instance_uid)
    rest = [Finding.MISSING] + [Finding.HELD] * (len(made) - gone - 1)
    committed = world.prove("commitment", made, level=Level.COMMITTED)
    believed = [Finding.HELD] * 2 + [Finding.MISSING] * (gone - 2)
    assert [*committed.findings.values()] == believed + rest, committed.reasons
    proven = world.prove("get", made)
    assert [*proven.findings.values()] == [Finding.DAMAGED] * gone + rest, proven.reasons


@pytest.mark.parametrize("way", WAYS)
def test_declared_coercions_are_listed(world: World, tmp_path: Path, way: str) -> None:
    made = _stored(world, tmp_path, way)
    path = world.stored_file(made[0])
    path.write_bytes(path.read_bytes().replace(b"CT series 1", b"CT SERIES 1"))
    assert Finding.DAMAGED in world.prove(way, made).findings.values()
    found = world.prove(way, made, "(0008,103E)")
    assert set(found.findings.values()) == {Finding.HELD}
    assert found.proof["coercions"] == [
        {"attribute": "(0008,103E)", "old": "CT series 1", "new": "CT SERIES 1", "instances": 1}
    ]


def test_compressed_with_and_without_loss(world: World, tmp_path: Path) -> None:
    """What a PACS compressed without loss is proven; with loss it is damaged, and said to be so."""
    made = _stored(world, tmp_path / "source", "compressed")
    for one, options in zip(made, (["+el"], ["+en", "--max-deviation", "9"]), strict=False):
        compressed = tmp_path / "compressed.dcm"
        command = ["dcmcjpls", *options, "--uid-never", str(one.path), str(compressed)]
        subprocess.run(command, check=True)
        world.stored_file(one).write_bytes(compressed.read_bytes())
    found = world.prove("orthanc", made)
    assert found.proof["likeness"] == {"transcoded": 1, "equal": len(made) - 2}
    assert "pixel data, which were compressed with loss" in found.reasons[VersionId(2)]
    assert set(found.reasons) == {2}


def test_a_pacs_without_c_get(tmp_path: Path) -> None:
    """Where a port of ours is configured, C-MOVE is used instead; else the claim stays one."""
    made = make_study(tmp_path, key=str(tmp_path), instances=3)
    port = free_port()
    with peer_processes.dcmqrscp("--disable-get", move_to={"DCMVAULT": port}) as archive:
        options: dict[str, object]
        for options in ({}, {"move_port": port, "move_host": "127.0.0.1"}):
            section = DimseDestinationSection.model_validate(
                {
                    "host": "127.0.0.1",
                    "port": archive.dicom_port,
                    "called_ae_title": archive.ae_title,
                    "max_associations": 1,
                    **options,
                }
            )
            destination = DimseDestination(section, FakeClock())
            files = [file_of(one.path) for one in made]
            study = replace(expected(files), originals=MadeOriginals(made))
            try:
                if not options:
                    put_each(destination, files)
                    with pytest.raises(RetrievalNotOfferedError, match="offers no retrieval"):
                        destination.verify(study, Level.PROVEN)
                    continue
                found = destination.verify(study, Level.PROVEN)
                assert set(found.findings.values()) == {Finding.HELD}
                assert found.proof["method"] == "C-MOVE"
            finally:
                destination.close_idle()


def test_nobody_who_answers_by_rest(world: World, tmp_path: Path) -> None:
    """A companion that does not answer leaves the claim a claim."""
    made = _stored(world, tmp_path, "rest")
    dead = World(replace(world.orthanc, http_port=free_port()), world.move_port)
    with pytest.raises(DestinationUnreachableError):
        dead.prove("orthanc", made)
