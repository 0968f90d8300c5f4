"""What `dcmvault restore` brings to and from a PACS, into ZIP files and File-sets, and drills."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.fileset import FileSet
from scripts import peer_processes
from scripts.peer_processes import Orthanc
from tests.integration.rescue_world import PASSPHRASE, World, contents, files_below

from dcmvault.cli.main import run
from dcmvault.dicom.digest import file_sha256
from dcmvault.testing.dicom_files import MadeInstance, make_instance, make_study, make_uid
from dcmvault.vault.blob import BlobType
from dcmvault.vault.retention import forget_study
from dcmvault.vault.snapshot import shard_of
from dcmvault.vault.state import present_state

STUDIES = ("one", "two", "three")


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)


@pytest.fixture(scope="module")
def shared_orthanc() -> Iterator[Orthanc]:
    with peer_processes.orthanc() as peer:
        yield peer


@pytest.fixture
def pacs(shared_orthanc: Orthanc) -> Orthanc:
    """An empty Orthanc, one for all tests here."""
    shared_orthanc.wipe()
    return shared_orthanc


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("restore") / "source"
    for key in STUDIES:
        make_study(folder / key, key=key, series=2, instances=2)
    make_instance(
        folder / "four" / "i.dcm",
        *(make_uid("four", level) for level in ("study", "series", "instance")),
        patient_id="OTHER",
        study_date="20210607",
        rows=64,
        columns=64,
        elements={"AccessionNumber": "B-7"},
    )
    return folder


@pytest.fixture
def world(tmp_path: Path, source: Path) -> World:
    world = World(tmp_path / "vault", redundant=False)
    world.snapshot(world.back_up(source))
    return world


def said(*words: str | Path, status: int = 0) -> dict[str, Any]:
    """Run a command in this process; return what it says as JSON."""
    told, complaints = io.StringIO(), io.StringIO()
    with redirect_stdout(told), redirect_stderr(complaints):
        returned = run([*(str(word) for word in words), "--json", "--progress", "none"])
    assert returned == status, (told.getvalue(), complaints.getvalue())
    summary: dict[str, Any] = json.loads(told.getvalue())
    return summary


def listed(folder: Path) -> list[str]:
    """What pydicom finds by the DICOMDIR of a file-set, each file opened."""
    found = FileSet(folder / "DICOMDIR")
    found._stage["t"].cleanup()
    return sorted(str(one.load().SOPInstanceUID) for one in found)


def sops(folder: Path) -> list[str]:
    return sorted(str(dcmread(path).SOPInstanceUID) for path in files_below(folder))


def test_to_a_pacs_and_again(
    home: Path, world: World, source: Path, pacs: Orthanc, tmp_path: Path
) -> None:
    """All comes back, proven; again nothing is sent; what the PACS lost is sent again."""
    certificate = tmp_path / "restored.json"
    asked = ("restore", f"vault:{world.place}", pacs.address, "--verify", "proven")
    summary = said(*asked, "--certificate", certificate)
    assert pacs.instances() == sops(source)
    certified = json.loads(certificate.read_text())
    assert certified["is_complete"]
    assert certified["level"] == "proven"
    assert certified["files"]["proven"] == len(pacs.instances())
    lines = sorted(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {dcmread(path).SOPInstanceUID}\n"
        for path in files_below(source / "one")
    )
    digests = {one["study_instance_uid"]: one["digest"] for one in certified["studies"]}
    assert digests[make_uid("one")] == hashlib.sha256("".join(lines).encode()).hexdigest()
    again = said(*asked)
    assert again["bytes"]["transferred"] == 0
    assert again["run"] != summary["run"]
    lost = sops(source / "two")[0]
    pacs.delete(lost)
    assert said(*asked)["bytes"]["transferred"] > 0
    assert pacs.instances() == sops(source)
    # Nobody's backup: no source of its own in the status.
    assert said_status()["sources"] == []


def test_to_a_dicomweb_service_and_again(
    home: Path, world: World, source: Path, pacs: Orthanc, tmp_path: Path
) -> None:
    """All comes back by STOW-RS, proven; again nothing is sent; what was lost is sent again."""
    certificate = tmp_path / "restored.json"
    asked = ("restore", f"vault:{world.place}", f"dicomweb+{pacs.http_url}/dicom-web")
    said(*asked, "--certificate", certificate)
    assert pacs.instances() == sops(source)
    certified = json.loads(certificate.read_text())
    assert certified["is_complete"]
    assert certified["level"] == "proven"
    assert certified["files"]["proven"] == len(pacs.instances())
    # As everywhere, what is asked for counts.
    assert said(*asked, "--verify", "complete")["level"] == "complete"
    assert said(*asked)["bytes"]["transferred"] == 0
    pacs.delete(sops(source / "two")[0])
    assert said(*asked)["bytes"]["transferred"] > 0
    assert pacs.instances() == sops(source)


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        (["--study", make_uid("two")], ["two"]),
        (["--patient", "OTHER"], ["four"]),
        (["--accession", "B-7"], ["four"]),
        (["--study-date", "2020"], list(STUDIES)),
        (["--study-date", "20210101..20211231", "--patient", "OTHER"], ["four"]),
    ],
    ids=["study", "patient", "accession", "date", "both"],
)
def test_a_selection_comes_back(
    home: Path,
    world: World,
    source: Path,
    pacs: Orthanc,
    tmp_path: Path,
    options: list[str],
    keys: list[str],
) -> None:
    """To a folder and to a PACS, from a vault, and from a folder the same."""
    wanted = {name for name in contents(source) if name.split("/")[0] in keys}
    for number, place in enumerate((f"vault:{world.place}", str(source))):
        said("restore", place, tmp_path / str(number), *options)
        assert contents(tmp_path / str(number)).keys() == wanted
    said("restore", f"vault:{world.place}", pacs.address, *options)
    assert pacs.instances() == sorted(one for key in keys for one in sops(source / key))


@pytest.mark.parametrize(
    "options",
    [
        ["--study", "1.2.3"],
        ["--patient", "NOBODY"],
        ["--series", "1.2.4"],
        ["--patient", "OTHER", "--patient", "NOBODY"],
        ["--accession", "B-7", "--accession", "B-8"],
    ],
    ids=["study", "patient", "series", "one of two patients", "one of two accessions"],
)
def test_what_is_not_there_is_said(
    home: Path, world: World, pacs: Orthanc, source: Path, tmp_path: Path, options: list[str]
) -> None:
    for place in (f"vault:{world.place}", str(source)):
        error = said("restore", place, tmp_path / "out", *options, status=2)["error"]
        assert re.search("holds no|Nothing that was asked for", error["message"])
    said("restore", f"vault:{world.place}", pacs.address, *options, status=2)
    assert pacs.instances() == []


def test_as_it_was(home: Path, world: World, tmp_path: Path, source: Path, pacs: Orthanc) -> None:
    """A PACS gets what a snapshot, or a time, had."""
    more = tmp_path / "more"
    shutil.copytree(source, more)
    make_study(more / "later", key="later")
    world.clock.advance(1000)
    (first,) = present_state(world.opened()).links
    world.snapshot(world.back_up(more, run="run-2"), run="run-2")
    place = f"vault:{world.place}"
    said("restore", place, pacs.address, "--snapshot", first.name)
    assert pacs.instances() == sops(source)
    pacs.wipe()
    said("restore", place, pacs.address, "--as-of", first.created_at)
    assert pacs.instances() == sops(source)
    said("restore", place, pacs.address)
    assert pacs.instances() == sops(more)


def damaged(world: World, made: MadeInstance | Path) -> str:
    """Flip a bit of the pixels of an instance in the vault; return its SOP Instance UID."""
    uid = str(dcmread(made if isinstance(made, Path) else made.path).SOPInstanceUID)
    vault = world.opened()
    state = present_state(vault)
    record = next(
        record
        for study in state.studies()
        for record in state.records(study)
        if record.sop_instance_uid == uid
    )
    kind, blob = next(one for one in record.blob_ids() if one[0] == "F")
    (place,) = vault.index.places(BlobType(kind), blob)
    pack = world.place / "packs" / place.pack.hex()[:2] / place.pack.hex()
    data = bytearray(pack.read_bytes())
    data[place.offset + 9] ^= 0x10
    pack.write_bytes(data)
    return uid


@pytest.mark.parametrize("redundant", [False, True], ids=["without parity", "with parity"])
def test_a_damaged_byte_is_never_restored(
    home: Path, tmp_path: Path, pacs: Orthanc, redundant: bool
) -> None:
    """It is made whole from parity, or named; and the others arrive."""
    folder = tmp_path / "source"
    made = make_study(folder / "one", key="one", instances=4, rows=64, columns=64)
    world = World(tmp_path / "damaged", redundant=redundant)
    world.snapshot(world.back_up(folder))
    uid = damaged(world, made[1])
    asked = ("restore", f"vault:{world.place}", pacs.address, "--verify", "proven")
    summary = said(*asked, status=0 if redundant else 3)
    wanted = {one.sop_instance_uid for one in made}
    if redundant:
        assert set(pacs.instances()) == wanted
        assert dcmread(io.BytesIO(pacs.file(uid))).PixelData == dcmread(made[1].path).PixelData
        return
    assert set(pacs.instances()) == wanted - {uid}
    (failure,) = summary["failures"]
    assert failure["sop_instance_uid"] == uid
    assert failure["code"] == "unreadable"


def _lose_list(world: World, study_instance_uid: str) -> None:
    """Flip a bit of the list that names a study."""
    vault = world.opened()
    (state,) = present_state(vault).states
    blob = state.shards[shard_of(study_instance_uid)]
    (place,) = vault.index.places(BlobType.STATE, blob)
    pack = world.place / "packs" / place.pack.hex()[:2] / place.pack.hex()
    data = bytearray(pack.read_bytes())
    data[place.offset + 9] ^= 0x10
    pack.write_bytes(data)


def test_a_damaged_list_of_studies_hides_only_its_own(
    home: Path, world: World, source: Path, pacs: Orthanc, tmp_path: Path
) -> None:
    """The studies of other lists arrive, by whatever they are asked for; the damage is named."""
    _lose_list(world, make_uid("two"))
    others = {*sops(source / "one"), *sops(source / "three")}
    asked = ("restore", f"vault:{world.place}", pacs.address)
    said(*asked, "--study", make_uid("one"))
    assert pacs.instances() == sops(source / "one")
    summary = said(*asked, "--study-date", "..2020", status=3)
    assert set(pacs.instances()) == others
    (failure,) = summary["failures"]
    assert failure["code"] == "unreadable"
    assert "A list of studies in the vault cannot be read" in failure["message"]
    # What was named, and cannot be found, may be in the list.
    for target in (pacs.address, tmp_path / "out"):
        summary = said(*asked[:2], target, "--study", make_uid("two"), status=3)
        assert len(summary["failures"]) == 1
    said(*asked, status=3)
    assert set(pacs.instances()) == {*others, *sops(source / "four")}


def test_a_zip_file_is_a_file_set(home: Path, world: World, source: Path, tmp_path: Path) -> None:
    """It holds every file bit for bit under names that tell nothing, and a DICOMDIR."""
    place = tmp_path / "away.zip"
    said("restore", f"vault:{world.place}", place)
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(place) as opened:
        assert opened.testzip() is None
        opened.extractall(unpacked)
    found = contents(unpacked)
    directory = found.pop("DICOMDIR")
    assert directory
    assert sorted(found.values()) == sorted(contents(source).values())
    assert all(part.isalnum() and part.isupper() for name in found for part in name.split("/"))
    assert listed(unpacked) == sops(source)
    # Nothing is overwritten.
    said("restore", f"vault:{world.place}", place, status=2)


def test_a_file_set_in_a_folder_goes_on(
    home: Path, world: World, source: Path, tmp_path: Path, pacs: Orthanc
) -> None:
    """What is there is left; the directory is made anew. A PACS's studies come out so, too."""
    out = tmp_path / "out"
    asked = ("restore", f"vault:{world.place}", out, "--layout", "dicom")
    said(*asked)
    files = [path for path in files_below(out) if path.name != "DICOMDIR"]
    files[0].unlink()
    summary = said(*asked)
    assert summary["files"]["written"] == 1
    assert summary["files"]["read_back"] == len(files)
    assert listed(out) == sops(source)
    said("restore", out, pacs.address)
    assert pacs.instances() == sops(source)
    fetched = tmp_path / "fetched"
    said("restore", pacs.address, fetched, "--layout", "dicom", "--patient", "OTHER")
    assert listed(fetched) == sops(source / "four")


@pytest.mark.parametrize("study", ["one", "two"])
def test_a_directory_that_names_more_is_left(
    home: Path, world: World, tmp_path: Path, study: str
) -> None:
    """A part restored over the whole neither takes files nor their names from the File-set."""
    out = tmp_path / "out"
    asked = ("restore", f"vault:{world.place}", out, "--layout", "dicom")
    said(*asked)
    there = contents(out)
    summary = said(*asked, "--study", make_uid(study), status=3)
    assert "DICOMDIR" in summary["failures"][-1]["message"]
    assert contents(out) == there


def test_a_foreign_directory_is_left_and_told(home: Path, world: World, tmp_path: Path) -> None:
    """The instances are there, and certified; what is not made is named."""
    out, certificate = tmp_path / "out", tmp_path / "c.json"
    out.mkdir()
    (out / "DICOMDIR").write_bytes(b"another one")
    asked = ("restore", f"vault:{world.place}", out, "--layout", "dicom")
    (failure,) = said(*asked, "--certificate", certificate, status=3)["failures"]
    assert failure["code"] == "object_exists"
    assert (out / "DICOMDIR").read_bytes() == b"another one"
    certified = json.loads(certificate.read_text())
    assert not certified["is_complete"]
    assert certified["files"]["proven"] == certified["files"]["selected"]


def test_nothing_is_put_into_another_vault(home: Path, world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other", redundant=False)
    there = contents(other.place)
    for place in (other.place, other.place / "packs", other.place / "a.zip"):
        error = said("restore", f"vault:{world.place}", place, status=2)["error"]
        assert "is a vault" in error["message"]
    assert contents(other.place) == there


def test_a_file_that_changes_meanwhile_gets_no_name(
    home: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder in use: what is not what was looked at is told, and the rest arrives."""
    folder, out = tmp_path / "folder", tmp_path / "out"
    shutil.copytree(source, folder)
    changing = next(iter(files_below(folder / "two")))

    def look(path: Path) -> bytes:
        digest = file_sha256(path)
        if path == changing:
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        return digest

    monkeypatch.setattr("dcmvault.app.restore_from_source.file_sha256", look)
    (failure,) = said("restore", folder, out, status=3)["failures"]
    assert "changed" in failure["message"]
    wanted = contents(source)
    del wanted[str(changing.relative_to(folder))]
    assert contents(out) == wanted


def test_a_certificate_has_a_place_before_anything_is_done(
    home: Path, world: World, tmp_path: Path
) -> None:
    out, place = tmp_path / "out", tmp_path / "c.json"
    place.mkdir()
    said("restore", f"vault:{world.place}", out, "--certificate", place, status=1)
    assert not out.exists()


def test_what_was_only_sent_is_not_certified(
    home: Path, world: World, pacs: Orthanc, tmp_path: Path
) -> None:
    """A claim is no proof, and what was found by name is not called proven."""
    asked = ("restore", f"vault:{world.place}", pacs.address)
    place, page = tmp_path / "c.json", tmp_path / "c.html"
    where = ("--certificate", place, "--certificate", page)
    said(*asked, "--verify", "sent", *where)
    certified = json.loads(place.read_text())
    assert not certified["is_complete"]
    assert certified["files"]["proven"] == 0
    assert "nothing was verified" in page.read_text()
    said(*asked, "--verify", "complete", *where)
    assert json.loads(place.read_text())["is_complete"]
    assert "(evidence: complete)" in page.read_text()
    assert "restored and proven" not in page.read_text()


def test_what_was_read_back_otherwise_is_told(
    home: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that keeps something else is heard of, and the certificate says so."""
    monkeypatch.setattr(
        "dcmvault.app.restored_files.drop_cached",
        lambda descriptor: _rot(Path(f"/proc/self/fd/{descriptor}").resolve()),
    )
    certificate = tmp_path / "c.html"
    summary = said(
        "restore", f"vault:{world.place}", tmp_path / "out", "--certificate", certificate, status=3
    )
    (failure,) = summary["failures"]
    assert "read back" in failure["message"]
    text = certificate.read_text()
    assert failure["sop_instance_uid"] in text
    assert "script" not in text


def _rot(path: Path) -> None:
    if path.parts[-3:] == ("one", "s01", "i0001.dcm"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)


def test_a_drill_is_remembered(home: Path, world: World, source: Path, tmp_path: Path) -> None:
    place = f"vault:{world.place}"
    drilled = said("restore", place, "--drill", "2")
    assert drilled["passed"]
    assert len(drilled["studies"]) == 2
    assert drilled["whole_studies"] == 4
    assert drilled["whole_bytes"] == sum(path.stat().st_size for path in files_below(source))
    assert drilled["recovery_s"] > 0
    status = said_status()
    (known,) = status["drills"]
    assert known == {key: value for key, value in drilled.items() if key != "exit_status"}
    uid = damaged(world, next(iter(files_below(source / "four"))))
    failed = said("restore", place, "--drill", "9", "--patient", "OTHER", status=3)
    (study,) = failed["studies"]
    assert study["problem"]
    assert uid
    assert not said_status()["drills"][0]["passed"]


def test_drills_choose_among_what_is_there_and_meant(
    home: Path, world: World, source: Path, tmp_path: Path
) -> None:
    """Not a study that was forgotten, nor one of another source or without the series."""
    place = f"vault:{world.place}"
    state = present_state(world.opened())
    (origin,) = {record.source for record in state.records(make_uid("one"))}
    make_study(tmp_path / "more", key="more")
    world.clock.advance(1)
    world.snapshot(world.back_up(tmp_path / "more", source="/more", run="run-2"), run="run-2")
    forget_study(world.opened(), make_uid("two"))
    assert said("restore", place, "--drill", "9")["whole_studies"] == 4
    series = str(dcmread(next(iter(files_below(source / "one")))).SeriesInstanceUID)
    drilled = said("restore", place, "--drill", "9", "--series", series)
    assert [one["study_instance_uid"] for one in drilled["studies"]] == [make_uid("one")]
    drilled = said("restore", place, "--drill", "9", "--source", origin)
    assert make_uid("more") not in {one["study_instance_uid"] for one in drilled["studies"]}
    said("restore", place, "--drill", "9", "--source", "/nowhere", status=2)


def said_status() -> dict[str, Any]:
    told = io.StringIO()
    with redirect_stdout(told):
        assert run(["status", "--json"]) == 0
    summary: dict[str, Any] = json.loads(told.getvalue())
    return summary


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["out", "--verify", "proven"], "--verify"),
        (["out", "--zip", "x.zip"], "one of them"),
        ([], "one of them"),
        (["vault:other"], "not restored into"),
        (["out", "--certificate", "c.pdf"], ".json"),
        (["dicom://X@localhost:1", "--layout", "dicom"], "--layout"),
        (["dicom://X@localhost:1", "--source", "/a"], "--source"),
        (["--zip", "study"], ".zip"),
        (["folder:out"], "no kind of address"),
        (["--drill", "1", "--certificate", "c.json"], "--certificate"),
        (["--drill", "1", "--layout", "dicom"], "--layout"),
    ],
    ids=[
        *("level", "two", "none", "vault", "pdf", "layout"),
        *("source", "suffix", "kind", "drill certified", "drill laid out"),
    ],
)
def test_what_cannot_be_asked(home: Path, world: World, words: list[str], told: str) -> None:
    message = said("restore", f"vault:{world.place}", *words, status=2)["error"]["message"]
    assert told in message


def test_a_drill_from_a_pacs(home: Path, source: Path, pacs: Orthanc, tmp_path: Path) -> None:
    """What a PACS sends is another file: it is compared with the one at the source."""
    assert said("restore", pacs.address, "--drill", "2", status=2)["error"]["code"] == "usage"
    own = tmp_path / "own"
    shutil.copytree(source, own)
    said("backup", own, "--to", pacs.address)
    drilled = said("restore", pacs.address, "--drill", "9")
    assert drilled["passed"], drilled
    assert drilled["place"].startswith(pacs.address)
    assert drilled["whole_studies"] == 4
    assert len(drilled["studies"]) == 4
    assert sum(one["files"] for one in drilled["studies"]) == len(pacs.instances())
    assert drilled["recovery_s"] > 0
    (known,) = said_status()["drills"]
    assert known == {key: value for key, value in drilled.items() if key != "exit_status"}
    # Without the files at the source there is nothing to compare with, and no drill passes.
    one = ("--study", make_uid("four", "study"))
    own.rename(tmp_path / "away")
    failed = said("restore", pacs.address, "--drill", "1", *one, status=3)
    assert "nothing could be compared" in failed["studies"][0]["problem"]
    (tmp_path / "away").rename(own)
    # Nor does one of what is lost there.
    pacs.wipe()
    failed = said("restore", pacs.address, "--drill", "1", *one, status=3)
    assert failed["studies"][0]["problem"]


def test_a_drill_from_a_folder(home: Path, source: Path, tmp_path: Path) -> None:
    """A folder that is backed up to, and one that is backed up from: each byte counts."""
    place, own = tmp_path / "copies", tmp_path / "own"
    shutil.copytree(source, own)
    said("backup", own, "--to", place)
    for folder in (place, own):
        drilled = said("restore", folder, "--drill", "9")
        assert drilled["passed"], drilled
        assert len(drilled["studies"]) == drilled["whole_studies"] == 4
        assert drilled["whole_bytes"] == sum(path.stat().st_size for path in files_below(source))
    damaged_one = next(path for path in files_below(place) if path.stat().st_size > 4_000)
    data = bytearray(damaged_one.read_bytes())
    data[-3] ^= 1
    damaged_one.chmod(0o600)
    damaged_one.write_bytes(data)
    failed = said("restore", place, "--drill", "9", status=3)
    (problem,) = [one["problem"] for one in failed["studies"] if one["problem"]]
    assert "is not what is known of it" in problem
    damaged_one.unlink()
    failed = said("restore", place, "--drill", "9", status=3)
    assert sum(bool(one["problem"]) for one in failed["studies"]) == 1
