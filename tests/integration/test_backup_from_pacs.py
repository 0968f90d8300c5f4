"""Real archives as sources: what they hold is fetched once, told when it goes, and kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest
from scripts.peer_launch import free_port
from scripts.peer_processes import DicomPeer, Orthanc
from tests.conftest import RunDcmvault, StartOrthanc
from tests.integration.story import instances, summary_of
from tests.peer_files import send

from dcmvault.config.addresses import source_section
from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.dicom.digest import data_set_digest
from dcmvault.sources.query_retrieve import QueryRetrieveSource
from dcmvault.testing.dicom_files import MadeInstance, make_instance, make_study

pytestmark = pytest.mark.peers


@pytest.fixture
def made(tmp_path: Path) -> list[MadeInstance]:
    studies: list[MadeInstance] = []
    for key in ("one", "two"):
        studies += make_study(tmp_path / "made" / key, key=key, series=2, instances=5)
    return studies


@pytest.fixture
def vault(run_dcmvault: RunDcmvault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "correct horse battery staple")
    address = f"vault:{tmp_path / 'vault'}"
    assert run_dcmvault("vault", "init", address).returncode == 0
    return address


def restored(run_dcmvault: RunDcmvault, vault: str, folder: Path) -> dict[str, str]:
    """Restore everything; return digests of data sets by SOP Instance UID."""
    assert run_dcmvault("restore", vault, folder).returncode == 0
    return {
        str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID): data_set_digest(path)
        for path in folder.rglob("*")
        if path.is_file() and pydicom.misc.is_dicom(path)
    }


def test_fetched_once_and_kept_when_it_is_gone(
    run_dcmvault: RunDcmvault,
    orthanc: Orthanc,
    vault: str,
    made: list[MadeInstance],
    tmp_path: Path,
) -> None:
    send(orthanc, tmp_path / "made")
    command = ("backup", orthanc.address, "--to", vault, "--json")
    first = summary_of(run_dcmvault(*command))
    assert instances(first) == {"selected": 20, "stored": 20}
    # Nothing can be fetched any more, and nothing is.
    hidden = orthanc.folder / "hidden"
    hidden.mkdir()
    for folder in [path for path in (orthanc.folder / "storage").iterdir() if path.is_dir()]:
        folder.rename(hidden / folder.name)
    second = summary_of(run_dcmvault(*command))
    assert instances(second) == {"already_held": 20}
    for folder in hidden.iterdir():
        folder.rename(orthanc.folder / "storage" / folder.name)

    for one in made[:10]:
        orthanc.delete(one.sop_instance_uid)
    third = summary_of(run_dcmvault(*command))
    assert instances(third) == {"already_held": 10}
    assert restored(run_dcmvault, vault, tmp_path / "restored") == {
        one.sop_instance_uid: data_set_digest(one.path) for one in made
    }


def test_an_archive_that_lost_everything_is_not_believed(
    run_dcmvault: RunDcmvault,
    orthanc: Orthanc,
    vault: str,
    made: list[MadeInstance],
    tmp_path: Path,
) -> None:
    send(orthanc, tmp_path / "made")
    command = ("backup", orthanc.address, "--to", vault)
    assert run_dcmvault(*command).returncode == 0
    orthanc.wipe()
    done = run_dcmvault(*command)
    assert done.returncode == 1
    assert "0 of 20" in done.stderr


def test_new_instances_come_by_move_to_a_configured_port(
    run_dcmvault: RunDcmvault,
    start_orthanc: StartOrthanc,
    home: Path,
    made: list[MadeInstance],
    tmp_path: Path,
) -> None:
    port = free_port()
    orthanc = start_orthanc(DicomModalities={"us": ["BACKUP", "127.0.0.1", port]})
    send(orthanc, tmp_path / "made" / "one")
    (home / "config.toml").write_text(
        f'[sources.pacs]\naddress = "{orthanc.address}?calling=BACKUP"\n'
        f'retrieve = "move"\nmove_host = "127.0.0.1"\nmove_port = {port}\n'
    )
    command = ("backup", "pacs", "--to", tmp_path / "copies", "--json")
    assert instances(summary_of(run_dcmvault(*command))) == {"selected": 10, "stored": 10}
    send(orthanc, tmp_path / "made" / "two")
    second = summary_of(run_dcmvault(*command))
    assert instances(second) == {"selected": 10, "already_held": 10, "stored": 10}


def test_names_as_they_are_stored(dcmqrscp: DicomPeer, tmp_path: Path) -> None:
    """This archive answers as files have it, and says in which character set."""
    elements = {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    }
    make_instance(tmp_path / "made" / "1", "1.2.3", "1.2.3.4", "1.2.3.4.5", elements=elements)
    send(dcmqrscp, tmp_path / "made")
    section = source_section(dcmqrscp.address)
    assert isinstance(section, DimseSourceSection)
    source = QueryRetrieveSource(section)
    (entry,) = [entry for study in source.studies() for entry in source.entries(study)]
    assert entry.indexed is not None
    assert entry.indexed.study.patient_name == elements["PatientName"]


def test_from_one_archive_to_another(
    run_dcmvault: RunDcmvault,
    dcmqrscp: DicomPeer,
    orthanc: Orthanc,
    made: list[MadeInstance],
    tmp_path: Path,
) -> None:
    send(dcmqrscp, tmp_path / "made")
    command = ("backup", dcmqrscp.address, "--to", orthanc.address, "--json")
    assert instances(summary_of(run_dcmvault(*command))) == {"selected": 20, "stored": 20}
    assert orthanc.instances() == sorted(one.sop_instance_uid for one in made)
    assert instances(summary_of(run_dcmvault(*command))) == {"already_held": 20}


def test_an_instance_that_the_archive_cannot_send_does_not_stop_the_others(
    run_dcmvault: RunDcmvault,
    dcmqrscp: DicomPeer,
    vault: str,
    made: list[MadeInstance],
    tmp_path: Path,
) -> None:
    send(dcmqrscp, tmp_path / "made")
    lost = made[3].sop_instance_uid
    for path in dcmqrscp.storage.iterdir():
        if path.name != "index.dat" and pydicom.dcmread(path).SOPInstanceUID == lost:
            path.unlink()
    command = ("backup", dcmqrscp.address, "--to", vault, "--json")
    summary = summary_of(run_dcmvault(*command), exit_status=3)
    assert summary["instances"]["stored"] == 19
    assert [failure["sop_instance_uid"] for failure in summary["failures"]] == [lost]


def test_compressed_instances_come_as_they_are_stored(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, tmp_path: Path
) -> None:
    from pydicom.data import get_testdata_file

    names = ("JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEG-lossy.dcm")
    folder = tmp_path / "made"
    folder.mkdir()
    for name in names:
        shutil.copy(str(get_testdata_file(name)), folder)
    send_as_they_are(orthanc, folder)
    copies = tmp_path / "copies"
    assert run_dcmvault("backup", orthanc.address, "--to", copies).returncode == 0
    stored = {file_syntax(path) for path in copies.rglob("*.dcm")}
    assert stored == {file_syntax(path) for path in folder.iterdir()}


def send_as_they_are(orthanc: Orthanc, folder: Path) -> None:
    import urllib.request

    for path in folder.iterdir():
        request = urllib.request.Request(
            f"{orthanc.http_url}/instances", data=path.read_bytes(), method="POST"
        )
        urllib.request.urlopen(request, timeout=30).close()


def file_syntax(path: Path) -> tuple[str, str]:
    read = pydicom.dcmread(path, stop_before_pixels=True)
    return str(read.SOPInstanceUID), str(read.file_meta.TransferSyntaxUID)


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 192", "Müller^Zoë=山田^太郎"),
        ("ISO_IR 100", "Müller^José"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 144", "Люкceмбypг"),
    ],
)
def test_names_keep_their_characters(
    start_orthanc: StartOrthanc, tmp_path: Path, character_set: str | list[str], name: str
) -> None:
    orthanc = start_orthanc(DefaultEncoding="Utf8")
    elements = {"SpecificCharacterSet": character_set, "PatientName": name}
    make_instance(tmp_path / "made" / "1", "1.2.3", "1.2.3.4", "1.2.3.4.5", elements=elements)
    send(orthanc, tmp_path / "made")
    section = source_section(orthanc.address)
    assert isinstance(section, DimseSourceSection)
    source = QueryRetrieveSource(section)
    (entry,) = [entry for study in source.studies() for entry in source.entries(study)]
    assert entry.indexed is not None
    assert entry.indexed.study.patient_name == name


def test_a_pacs_is_no_backup_of_itself(run_dcmvault: RunDcmvault) -> None:
    address = "dicom://PACS@pacs.example:104"
    done = run_dcmvault("backup", f"{address}?calling=A", "--to", f"{address}?calling=B")
    assert done.returncode == 2
    assert "same PACS" in done.stderr


def test_the_doctor_tries_a_pacs_without_listing_it(
    run_dcmvault: RunDcmvault, orthanc: Orthanc, home: Path
) -> None:
    (home / "config.toml").write_text(
        f'[sources.pacs]\naddress = "{orthanc.address}"\n'
        '[sources.away]\naddress = "dicom://AWAY@127.0.0.1:9"\n'
    )
    done = run_dcmvault("doctor")
    assert done.returncode == 1
    assert "source pacs" in done.stdout
    assert "C-ECHO 0000" in done.stdout
    assert "nothing listens on port 9" in done.stdout
