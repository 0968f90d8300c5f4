"""DCMTK's getscu and movescu, Orthanc and we ourselves retrieve from a vault: bit for bit."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import cast

import pydicom
import pytest
from pydicom.uid import RLELossless
from pynetdicom import AE, build_role, evt
from pynetdicom.dimse_primitives import C_STORE
from scripts.peer_launch import free_port
from scripts.peer_processes import Orthanc
from tests.conftest import StartOrthanc
from tests.integration.archive_world import ArchiveWorld
from tests.integration.listener_world import dcmtk, echoes
from tests.integration.serving_studies import instance_uid, make_studies, series_uid, study_uid
from tests.integration.serving_world import (
    AE_TITLE,
    Answering,
    EndlessArchive,
    answering,
    find,
    findscu,
    getscu,
    movescu,
)
from tests.integration.tls_world import Authority

from dcmvault.archives.vault import VaultArchive
from dcmvault.dicom.association_scp import AllowedPeer
from dcmvault.dicom.byte_source import MemoryBytes
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.file_meta import read_file_meta
from dcmvault.dicom.tls import TlsAcceptor, TlsOptions
from dcmvault.model.query import (
    ArchivedInstance,
    InstanceBytes,
    Selection,
    UnreadableInstance,
)
from dcmvault.testing.dicom_files import MadeInstance
from dcmvault.testing.peer_faults import refuse_every
from dcmvault.testing.peers import SimulatedPacs

pytestmark = pytest.mark.peers

GET = "1.2.840.10008.5.1.4.1.2.2.3"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
REPORT = "1.2.840.10008.5.1.4.1.1.88.11"


@dataclass
class World:
    """A vault that answers, and what is in it."""

    made: Sequence[MadeInstance]
    vault: ArchiveWorld
    archive: VaultArchive
    ours: Answering
    #: Where MOVER takes instances.
    move_port: int

    def of(self, patient: int, study: int, series: int = 0) -> list[MadeInstance]:
        """Return the files of a study, or of a series of it."""
        return [
            one
            for one in self.made
            if one.study_instance_uid == study_uid(patient, study)
            and (not series or one.series_instance_uid == series_uid(patient, study, series))
        ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("serve-retrieve")
    made = make_studies(folder / "studies")
    vault = ArchiveWorld(folder / "vault")
    vault.back_up([one.path for one in made])
    move_port = free_port()
    destinations = {"MOVER": Peer("127.0.0.1", move_port, "MOVER", AE_TITLE)}
    with vault.archive() as archive, answering(archive, destinations=destinations) as ours:
        yield World(made, vault, archive, ours, move_port)


def _data_set(content: bytes) -> bytes:
    return content[read_file_meta(MemoryBytes(content)).data_set_start :]


def _data_sets(paths: Sequence[Path]) -> dict[str, bytes]:
    """Return the data sets of files by SOP Instance UID."""
    return {
        str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID): _data_set(
            path.read_bytes()
        )
        for path in paths
    }


def _originals(made: Sequence[MadeInstance]) -> dict[str, bytes]:
    return {one.sop_instance_uid: _data_set(one.path.read_bytes()) for one in made}


def _keys(patient: int, study: int, series: int = 0, instance: int = 0) -> list[str]:
    keys = [f"StudyInstanceUID={study_uid(patient, study)}"]
    if series:
        keys.append(f"SeriesInstanceUID={series_uid(patient, study, series)}")
    if instance:
        keys.append(f"SOPInstanceUID={instance_uid(patient, study, series, instance)}")
    return [f"QueryRetrieveLevel={('STUDY', 'SERIES', 'IMAGE')[len(keys) - 1]}", *keys]


#: Model, keys, and (patient, study, series) of what they name.
RETRIEVALS: list[tuple[str, list[str], tuple[int, int, int]]] = [
    ("-S", _keys(0, 0), (0, 0, 0)),
    ("-S", _keys(0, 0, 1), (0, 0, 1)),
    ("-S", _keys(0, 0, 2, 1), (0, 0, 2)),
    # Implicit VR, and big endian.
    ("-S", _keys(1, 0), (1, 0, 0)),
    ("-S", _keys(2, 0), (2, 0, 0)),
    ("-P", ["QueryRetrieveLevel=PATIENT", "PatientID=P5"], (4, 0, 0)),
    ("-P", [*_keys(4, 0), "PatientID=P5"], (4, 0, 0)),
    ("-P", [*_keys(4, 0, 1), "PatientID=P5"], (4, 0, 1)),
    ("-P", [*_keys(4, 0, 1, 1), "PatientID=P5"], (4, 0, 1)),
]


@pytest.mark.parametrize(("model", "keys", "named"), RETRIEVALS)
def test_getscu_gets_the_bytes_that_were_stored(
    world: World, tmp_path: Path, model: str, keys: list[str], named: tuple[int, int, int]
) -> None:
    ran = getscu(world.ours.port, tmp_path, keys, model)
    assert ran.returncode == 0, ran.stderr
    originals = _originals(world.of(*named))
    assert _data_sets(list(tmp_path.iterdir())) == originals
    access = world.ours.journal.accesses[-1]
    assert (access.service, access.sent, access.failed) == ("C-GET", len(originals), 0)
    assert access.bytes == sum(map(len, originals.values()))
    assert access.study_instance_uids == (study_uid(*named[:2]),)


@pytest.mark.parametrize(("model", "keys", "named"), [*RETRIEVALS, ("-S", _keys(0, 1), (0, 1, 0))])
def test_movescu_gets_the_bytes_that_were_stored(
    world: World, tmp_path: Path, model: str, keys: list[str], named: tuple[int, int, int]
) -> None:
    """With +xr it takes RLE as it stands."""
    options = ("+xr",) if named == (0, 1, 0) else ()
    ran = movescu(world.ours.port, tmp_path, keys, model, *options, receives_at=world.move_port)
    assert ran.returncode == 0, ran.stderr
    assert "Success" in ran.stderr
    assert _data_sets(list(tmp_path.iterdir())) == _originals(world.of(*named))
    access = world.ours.journal.accesses[-1]
    assert (access.service, access.who, access.destination) == ("C-MOVE", "MOVER", "MOVER")


@pytest.mark.parametrize("by", ["get", "move"])
def test_what_a_peer_does_not_take_as_it_stands_is_decompressed(
    world: World, tmp_path: Path, by: str
) -> None:
    if by == "get":
        ran = getscu(world.ours.port, tmp_path, _keys(0, 1), "-S")
    else:
        ran = movescu(
            world.ours.port, tmp_path, _keys(0, 1), "-S", "+xe", receives_at=world.move_port
        )
    assert ran.returncode == 0, ran.stderr
    came = {str(one.SOPInstanceUID): one for one in map(pydicom.dcmread, tmp_path.iterdir())}
    originals = world.of(0, 1)
    assert came.keys() == {one.sop_instance_uid for one in originals}
    for one in originals:
        original = pydicom.dcmread(one.path)
        assert original.file_meta.TransferSyntaxUID == RLELossless
        assert not came[one.sop_instance_uid].file_meta.TransferSyntaxUID.is_compressed
        assert (came[one.sop_instance_uid].pixel_array == original.pixel_array).all()


def _get(
    port: int,
    study: str,
    classes: Sequence[str],
    status: int = 0,
    *,
    cancel: bool = False,
    tls: ssl.SSLContext | None = None,
) -> tuple[list[pydicom.Dataset], list[str]]:
    """Retrieve by pynetdicom: all words on how it stands, and the instances that came."""
    came: list[str] = []
    entity = AE(ae_title="READER")
    entity.add_requested_context(GET)
    for uid in classes:
        entity.add_requested_context(uid)
    asked = pydicom.Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", study

    def store(event: evt.Event) -> int:
        came.append(str(cast(C_STORE, event.request).AffectedSOPInstanceUID))
        if cancel:
            event.assoc.send_c_cancel(5, query_model=GET)
        return status

    association = entity.associate(
        "127.0.0.1",
        port,
        ae_title=AE_TITLE,
        ext_neg=[build_role(uid, scp_role=True) for uid in classes],
        evt_handlers=[(evt.EVT_C_STORE, store)],
        tls_args=(tls, "127.0.0.1") if tls else None,
    )
    assert association.is_established
    told = []
    for answer, identifier in association.send_c_get(asked, GET, msg_id=5):
        if identifier is not None and "FailedSOPInstanceUIDList" in identifier:
            answer.FailedSOPInstanceUIDList = identifier.FailedSOPInstanceUIDList
        told.append(answer)
    association.release()
    return told, came


def test_who_hangs_up_in_the_middle_is_noted_all_the_same(world: World) -> None:
    """An access counts from its first instance on, whatever the end of its association."""

    def hang_up(event: evt.Event) -> int:
        if len(came) == 1:
            event.assoc.abort()
        came.append(event.message_id)
        return 0

    came: list[int] = []
    asked = pydicom.Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", study_uid(0, 0)
    entity = AE(ae_title="READER")
    entity.add_requested_context(GET)
    entity.add_requested_context(CT)
    with answering(world.archive) as ours:
        association = entity.associate(
            "127.0.0.1",
            ours.port,
            ae_title=AE_TITLE,
            ext_neg=[build_role(CT, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, hang_up)],
        )
        assert association.is_established
        list(association.send_c_get(asked, GET))
    (access,) = ours.journal.accesses
    assert (access.service, access.who, access.outcome) == ("C-GET", "READER", "broken off")
    assert access.sent == 1
    assert access.study_instance_uids == (study_uid(0, 0),)


def test_what_no_context_carries_is_a_failed_sub_operation(world: World) -> None:
    """The study has a CT and a report; only CT was negotiated."""
    told, came = _get(world.ours.port, study_uid(0, 0), [CT])
    final = told[-1]
    assert final.Status == 0xB000
    assert (final.NumberOfCompletedSuboperations, final.NumberOfFailedSuboperations) == (3, 1)
    assert final.FailedSOPInstanceUIDList == instance_uid(0, 0, 2, 1)
    assert len(came) == 3


@pytest.mark.parametrize(
    ("status", "final", "counts"),
    [
        (0x0000, 0x0000, (2, 0, 0)),
        (0xB000, 0x0000, (0, 2, 0)),
        (0xA700, 0xA702, (0, 0, 2)),
    ],
)
def test_the_peers_statuses_are_counted(
    world: World, status: int, final: int, counts: tuple[int, int, int]
) -> None:
    told, _came = _get(world.ours.port, study_uid(1, 0), [MR], status)
    last = told[-1]
    assert last.Status == final
    assert (
        last.NumberOfCompletedSuboperations,
        last.NumberOfWarningSuboperations,
        last.NumberOfFailedSuboperations,
    ) == counts


def test_a_retrieval_can_be_cancelled(world: World) -> None:
    told, came = _get(world.ours.port, study_uid(0, 0), [CT], cancel=True)
    assert told[-1].Status == 0xFE00
    assert told[-1].NumberOfRemainingSuboperations >= 1
    assert 1 <= len(came) < 4


def test_a_move_counts_what_its_destination_refuses(world: World, tmp_path: Path) -> None:
    with SimulatedPacs(refuse_every(2, 0xA900)) as pacs:
        destinations = {"PACS": Peer("127.0.0.1", pacs.port, "SIMULATED", AE_TITLE)}
        with answering(world.archive, destinations=destinations) as ours:
            ran = dcmtk(
                "movescu", "-v", "-S", "-aem", "PACS", "-aec", AE_TITLE,
                *(part for key in _keys(0, 0) for part in ("-k", key)),
                "127.0.0.1", ours.port,
            )  # fmt: skip
        assert "OneOrMoreFailures" in ran.stderr, ran.stderr
        (access,) = ours.journal.accesses
        assert (access.outcome, access.sent, access.failed) == ("B000", 2, 2)
        assert len(pacs.held()) == 2


def test_who_asks_for_a_move_hears_of_it_before_the_destination_accepts(world: World) -> None:
    """One that asks and receives in turn would not look at its port otherwise, for a while."""
    entity = AE(ae_title="READER")
    entity.add_requested_context(MOVE)
    association = entity.associate("127.0.0.1", world.ours.port, ae_title=AE_TITLE)
    asked = pydicom.Dataset()
    asked.QueryRetrieveLevel = "STUDY"
    asked.StudyInstanceUID = study_uid(0, 0)
    with socket.create_server(("127.0.0.1", world.move_port)) as destination:
        answers = association.send_c_move(asked, "MOVER", MOVE)
        status, _failed = next(answers)
        assert (status.Status, status.NumberOfRemainingSuboperations) == (0xFF00, 4)
        destination.accept()[0].close()
    *_pending, (status, _failed) = answers
    assert (status.Status, status.NumberOfFailedSuboperations) == (0xA702, 4)
    association.release()


@pytest.mark.parametrize(("title", "outcome"), [("NOBODY", "A801"), ("GONE", "A702")])
def test_a_move_to_nowhere_fails(world: World, title: str, outcome: str) -> None:
    destinations = {"GONE": Peer("127.0.0.1", free_port(), "GONE", AE_TITLE)}
    with answering(world.archive, destinations=destinations) as ours:
        dcmtk(
            "movescu", "-S", "-aem", title, "-aec", AE_TITLE,
            *(part for key in _keys(0, 0) for part in ("-k", key)),
            "127.0.0.1", ours.port,
        )  # fmt: skip
        (access,) = ours.journal.accesses
        assert (access.outcome, access.sent) == (outcome, 0)
        assert access.failed == (4 if title == "GONE" else 0)


def test_orthanc_queries_and_retrieves(world: World, start_orthanc: StartOrthanc) -> None:
    orthanc: Orthanc = start_orthanc(
        DicomModalities={"vault": [AE_TITLE, "127.0.0.1", world.ours.port]}
    )
    destinations = {"ORTHANC": Peer("127.0.0.1", orthanc.dicom_port, "ORTHANC", AE_TITLE)}
    with answering(world.archive, destinations=destinations) as ours:
        where = {"AET": AE_TITLE, "Host": "127.0.0.1", "Port": ours.port}
        orthanc.rest("/modalities/vault", method="PUT", body=where)
        query = {"Level": "Study", "Query": {"PatientName": "doe*"}}
        asked = orthanc.rest("/modalities/vault/query", method="POST", body=query)
        assert len(orthanc.rest(f"/queries/{asked['ID']}/answers")) == 3
        orthanc.rest(f"/queries/{asked['ID']}/retrieve", method="POST", body={"Synchronous": True})
    expected = [*world.of(0, 0), *world.of(0, 1), *world.of(1, 0)]
    assert orthanc.instances() == sorted(one.sop_instance_uid for one in expected)
    for one in expected:
        assert _data_set(orthanc.file(one.sop_instance_uid)) == _data_set(one.path.read_bytes())


def test_nothing_is_stored(world: World) -> None:
    ran = dcmtk("storescu", "-aec", AE_TITLE, "127.0.0.1", world.ours.port, world.made[0].path)
    assert ran.returncode != 0
    assert len(find(world.ours.port, "STUDY", StudyInstanceUID="")) == 7


def test_a_damaged_instance_fails_and_the_others_come(tmp_path: Path) -> None:
    made = make_studies(tmp_path / "studies")
    vault = ArchiveWorld(tmp_path / "vault")
    vault.back_up([one.path for one in made])
    wanted = [one for one in made if one.study_instance_uid == study_uid(0, 0)]
    with vault.archive() as archive:
        broken = _Broken(archive, wanted[1].sop_instance_uid)
        with answering(broken) as ours:
            ran = getscu(ours.port, tmp_path / "got", _keys(0, 0), "-S")
            (access,) = ours.journal.accesses
    assert re.search(r"Failed Suboperations\s*:\s*1", ran.stderr), ran.stderr
    assert (access.outcome, access.sent, access.failed) == ("B000", 3, 1)
    came = _data_sets(list((tmp_path / "got").iterdir()))
    assert came == _originals([one for one in wanted if one is not wanted[1]])


def test_what_damage_hides_is_never_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can name what is hidden: all that there is comes, and the end says that more was."""
    made = make_studies(tmp_path / "studies")
    vault = ArchiveWorld(tmp_path / "vault")
    vault.back_up([one.path for one in made])
    monkeypatch.setattr(VaultArchive, "is_whole", lambda _archive, _selection, _found: False)
    with vault.archive() as archive, answering(archive) as ours:
        getscu(ours.port, tmp_path / "got", _keys(0, 0), "-S")
        (access,) = ours.journal.accesses
    assert (access.outcome, access.sent, access.failed) == ("B000", 4, 0)


class _Broken(EndlessArchive):
    """An archive in which one instance is what no peer takes: its data set ends too early."""

    def __init__(self, archive: VaultArchive, sop_instance_uid: str) -> None:
        self._archive = archive
        self._uid = sop_instance_uid

    def instances(self, selection: Selection) -> Sequence[ArchivedInstance]:
        """List what there is."""
        return self._archive.instances(selection)

    def read(
        self, instances: Iterable[ArchivedInstance]
    ) -> Generator[InstanceBytes | UnreadableInstance, None, None]:
        """Give all, one of them cut short."""
        for read in self._archive.read(instances):
            if isinstance(read, InstanceBytes) and read.instance.sop_instance_uid == self._uid:
                yield InstanceBytes(read.instance, read.data[:-100])
            else:
                yield read


def test_a_byte_that_rots_in_the_vault_is_mended_or_said(tmp_path: Path) -> None:
    """One bad byte in every pack: parity gives it back; without parity nothing wrong is sent."""
    made = make_studies(tmp_path / "studies")
    vault = ArchiveWorld(tmp_path / "vault")
    vault.back_up([one.path for one in made])
    for pack in sorted((vault.folder / "packs").rglob("*")):
        if pack.is_file():
            content = bytearray(pack.read_bytes())
            content[len(content) // 3] ^= 1
            pack.chmod(0o600)
            pack.write_bytes(content)
    originals = {one.sop_instance_uid: one.path.read_bytes() for one in made}
    with vault.archive() as archive:
        uids = sorted({one.study_instance_uid for one in made})
        read = list(archive.read(archive.instances(Selection(uids))))
        assert {
            one.instance.sop_instance_uid: bytes(one.data)
            for one in read
            if isinstance(one, InstanceBytes)
        } == originals


def test_a_snapshot_stays_what_it_was_and_the_present_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcmvault.archives.vault._LOOK_S", 0.05)
    made = make_studies(tmp_path / "studies")
    first = [one for one in made if one.study_instance_uid == study_uid(0, 0)]
    vault = ArchiveWorld(tmp_path / "vault")
    snapshot = vault.back_up([one.path for one in first])
    with (
        vault.archive() as present,
        vault.archive(snapshot) as past,
        answering(present) as now,
        answering(past) as then,
    ):
        assert [len(find(port, "STUDY")) for port in (now.port, then.port)] == [1, 1]
        vault.back_up([one.path for one in made])
        for _look in range(200):
            if len(find(now.port, "STUDY")) == 7:
                break
        else:
            pytest.fail("the present does not follow")
        assert len(find(then.port, "STUDY")) == 1


def test_who_is_not_on_the_list_is_refused_and_noted(world: World, tmp_path: Path) -> None:
    peers = (AllowedPeer("READER", ip_network("127.0.0.0/8")),)
    with answering(world.archive, peers=peers) as ours:
        assert not echoes(ours.port, "-aet", "STRANGER")
        assert echoes(ours.port, "-aet", "READER")
        assert not echoes(ours.port, "-aet", "READER", called="ANOTHER")
        noted = [(one.service, one.who, one.outcome) for one in ours.journal.accesses]
    assert noted == [
        ("A-ASSOCIATE", "STRANGER", "refused"),
        ("C-ECHO", "READER", "0000"),
        ("A-ASSOCIATE", "READER", "refused"),
    ]


def test_with_tls_a_certificate_is_needed_and_noted(world: World, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    ours_id, reader = authority.issue("vault"), authority.issue("reader")
    tls = TlsAcceptor(
        TlsOptions(
            certificate_file=str(ours_id.certificate),
            key_file=str(ours_id.key),
            ca_file=str(authority.ca_file),
        )
    )
    with answering(world.archive, tls=tls) as ours:
        trust = ("+cf", str(authority.ca_file))
        shown = ("+tls", str(reader.key), str(reader.certificate), *trust)
        answers = findscu(ours.port, tmp_path, "STUDY", ("StudyInstanceUID",), "-S", *shown)
        assert len(answers) == 7
        assert "reader" in ours.journal.accesses[-1].certificate
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        context.load_cert_chain(reader.certificate, reader.key)
        told, came = _get(ours.port, study_uid(1, 0), [MR], tls=context)
        assert (told[-1].Status, len(came)) == (0, 2)
        assert not echoes(ours.port, "+tla", *trust)
