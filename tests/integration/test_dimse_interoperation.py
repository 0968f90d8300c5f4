"""Every transfer syntax of real files, at every kind of peer that takes it: it arrives intact."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import cast

import pydicom
import pytest
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.dimse_primitives import C_STORE
from scripts import peer_processes
from scripts.peer_packages import PeerMissingError
from scripts.peer_processes import DicomPeer, Orthanc
from tests.integration.dimse_story import destination_at, file_of, kinds_of

from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom.digest import data_set_digest
from dcmvault.dicom.part10 import scan
from dcmvault.dicom.store import check_sendable
from dcmvault.errors import (
    AssociationLostError,
    DcmvaultError,
    InstanceUnsendableError,
    MalformedDicomError,
)
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.testing.corpus import real_files
from dcmvault.testing.destination_suite import ORIGIN
from dcmvault.testing.dicom_files import make_instance, make_uid

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_LOSSY = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
RLE = "1.2.840.10008.1.2.5"
NATIVE = frozenset({IMPLICIT, EXPLICIT, BIG_ENDIAN})
ALL = NATIVE | {
    *(DEFLATED, JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LS, JPEG_LS_LOSSY),
    *(JPEG_2000_LOSSLESS, JPEG_2000, RLE),
}
#: Bytes; what is larger is another length of the same.
_LARGEST = 1_000_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[InstanceFile, ...]:
    """The real files that may be sent, and one for each syntax of which there is none."""
    made = tmp_path_factory.mktemp("made")
    found: list[InstanceFile] = []
    for path in (*real_files(), _deflated(made), _jpeg_ls_lossy(made)):
        try:
            file = file_of(path)
            check_sendable(file)
        except (MalformedDicomError, InstanceUnsendableError):
            continue
        if file.entry.fingerprint.size <= _LARGEST:
            found.append(file)
    return tuple(found)


def _deflated(folder: Path) -> Path:
    """Make a deflated instance of even length: the real one is odd, which no peer takes."""
    for number in range(100):
        path = folder / f"{number}.dcm"
        uids = (make_uid("deflated"), make_uid("deflated", 1), make_uid("deflated", 2, number))
        make_instance(path, *uids, transfer_syntax=DEFLATED)
        if len(_data_set(path)) % 2 == 0:
            return path
    raise AssertionError


def _jpeg_ls_lossy(folder: Path) -> Path:
    """Give a real instance the UIDs that it lacks."""
    (real,) = (path for path in real_files() if path.name == "JPEGLSNearLossless_16.dcm")
    dataset = pydicom.dcmread(real)
    dataset.StudyInstanceUID = make_uid("lossy")
    dataset.SeriesInstanceUID = make_uid("lossy", 1)
    dataset.save_as(folder / "lossy.dcm")
    return folder / "lossy.dcm"


@pytest.fixture(scope="module")
def sample(corpus: tuple[InstanceFile, ...]) -> tuple[InstanceFile, ...]:
    """The two smallest files of each transfer syntax and the largest."""
    by_syntax: dict[str, list[InstanceFile]] = defaultdict(list)
    for file in sorted(corpus, key=lambda one: one.entry.fingerprint.size):
        by_syntax[_syntax(file)].append(file)
    chosen = (file for files in by_syntax.values() for file in (*files[:2], files[-1]))
    return tuple({file.path: file for file in chosen}.values())


def _uid(file: InstanceFile) -> str:
    assert file.header is not None
    return file.header.sop_instance_uid


def _syntax(file: InstanceFile) -> str:
    assert file.header is not None
    return file.header.transfer_syntax_uid


def _data_set(path: Path) -> bytes:
    header = scan(path)
    return path.read_bytes()[header.data_set_start : header.data_set_end]


def _waves(files: Sequence[InstanceFile]) -> list[list[InstanceFile]]:
    """Divide files so that each UID comes once in a wave: some are others, compressed."""
    divided: list[dict[str, InstanceFile]] = []
    for file in files:
        for wave in divided:
            if _uid(file) not in wave:
                wave[_uid(file)] = file
                break
        else:
            divided.append({_uid(file): file})
    return [list(wave.values()) for wave in divided]


def _deliver(
    destination: DimseDestination, files: Sequence[InstanceFile]
) -> dict[Path, Receipt | DcmvaultError]:
    """Put every file; over some of them a peer ends the association, then there is another."""
    outcomes: dict[Path, Receipt | DcmvaultError] = {}
    left = list(files)
    while left:
        with destination.open(kinds_of(files), ORIGIN) as delivery:
            while left:
                file = left.pop(0)
                try:
                    outcomes[file.path] = delivery.put(file)
                except AssociationLostError as error:
                    outcomes[file.path] = error
                    break
                except DcmvaultError as error:
                    outcomes[file.path] = error
    return outcomes


def taken_by(
    destination: DimseDestination,
    files: Sequence[InstanceFile],
    stored: Callable[[], Mapping[str, Path]],
    empty: Callable[[], None],
    read: Callable[[Path], object] = data_set_digest,
) -> dict[str, int]:
    """Send files wave by wave; what has a receipt is stored as it was, as `read` sees it.

    Count the files that were taken by transfer syntax.
    """
    taken: dict[str, int] = defaultdict(int)
    for wave in _waves(files):
        outcomes = _deliver(destination, wave)
        there = stored()
        for file in wave:
            if isinstance(outcomes[file.path], Receipt):
                taken[_syntax(file)] += 1
                assert read(there[_uid(file)]) == read(file.path), file.path.name
        empty()
    return taken


@contextmanager
def _running(starting: AbstractContextManager[DicomPeer]) -> Iterator[DicomPeer]:
    try:
        with starting as peer:
            yield peer
    except PeerMissingError as error:
        pytest.fail(str(error), pytrace=False)


def _taken_by_dcmtk(
    peer: DicomPeer, files: Sequence[InstanceFile], read: Callable[[Path], object] = data_set_digest
) -> dict[str, int]:
    def stored() -> dict[str, Path]:
        paths = (path for path in peer.storage.rglob("*") if path.is_file())
        return {scan(path).sop_instance_uid: path for path in paths if path.name != "index.dat"}

    def empty() -> None:
        for path in stored().values():
            path.unlink()

    destination = destination_at(peer.dicom_port, peer.ae_title, transcode="never")
    return taken_by(destination, files, stored, empty, read)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("preference", "taken"),
    [
        ("+x=", NATIVE),
        ("+xe", NATIVE),
        ("+xb", NATIVE),
        ("+xi", {IMPLICIT}),
        ("+xs", NATIVE | {JPEG_LOSSLESS}),
        ("+xy", NATIVE | {JPEG_BASELINE}),
        ("+xx", NATIVE | {JPEG_EXTENDED}),
        ("+xv", NATIVE | {JPEG_2000_LOSSLESS}),
        ("+xw", NATIVE | {JPEG_2000}),
        ("+xt", NATIVE | {JPEG_LS}),
        ("+xu", NATIVE | {JPEG_LS_LOSSY}),
        ("+xr", NATIVE | {RLE}),
        ("+xd", NATIVE | {DEFLATED}),
        ("+xa", ALL),
    ],
)
def test_storescp(sample: tuple[InstanceFile, ...], preference: str, taken: set[str]) -> None:
    with _running(peer_processes.storescp(preference)) as storescp:
        assert set(_taken_by_dcmtk(storescp, sample)) == taken


@pytest.mark.peers
def test_storescp_that_re_encodes(corpus: tuple[InstanceFile, ...]) -> None:
    with _running(peer_processes.storescp()) as storescp:
        taken = _taken_by_dcmtk(storescp, corpus)
    assert set(taken) == ALL
    assert sum(taken.values()) > 90


@pytest.mark.peers
def test_storescp_that_keeps_bytes(corpus: tuple[InstanceFile, ...]) -> None:
    with _running(peer_processes.storescp("+B")) as storescp:
        taken = _taken_by_dcmtk(storescp, corpus, _data_set)
    assert set(taken) == ALL
    assert sum(taken.values()) > 90


@pytest.mark.peers
@pytest.mark.parametrize(
    ("preference", "taken"),
    [
        ("+x=", NATIVE),
        ("+xs", NATIVE | {JPEG_LOSSLESS}),
        ("+xv", NATIVE | {JPEG_2000_LOSSLESS}),
        ("+xr", NATIVE | {RLE}),
        ("+xi", {IMPLICIT}),
    ],
)
def test_dcmqrscp(sample: tuple[InstanceFile, ...], preference: str, taken: set[str]) -> None:
    with _running(peer_processes.dcmqrscp(preference)) as dcmqrscp:
        assert set(_taken_by_dcmtk(dcmqrscp, sample)) == taken


@pytest.mark.peers
def test_orthanc(corpus: tuple[InstanceFile, ...], orthanc: Orthanc, tmp_path: Path) -> None:
    def stored() -> dict[str, Path]:
        found = {}
        for number, uid in enumerate(orthanc.instances()):
            found[uid] = tmp_path / f"{number}.dcm"
            found[uid].write_bytes(orthanc.file(uid))
        return found

    destination = destination_at(orthanc.dicom_port, orthanc.ae_title)
    taken = taken_by(destination, corpus, stored, orthanc.wipe)
    assert set(taken) == ALL
    assert sum(taken.values()) > 90


def test_pynetdicom(corpus: tuple[InstanceFile, ...], tmp_path: Path) -> None:
    received: dict[str, Path] = {}

    def store(event: evt.Event) -> int:
        uid = str(cast(C_STORE, event.request).AffectedSOPInstanceUID)
        received[uid] = tmp_path / f"{uid}.dcm"
        received[uid].write_bytes(event.encoded_dataset())
        return 0x0000

    entity = AE("PYNETDICOM")
    for uid in {kind.sop_class_uid for kind in kinds_of(corpus)}:
        entity.add_supported_context(uid, ALL_TRANSFER_SYNTAXES)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    assert server is not None
    try:
        destination = destination_at(server.server_address[1], "PYNETDICOM")
        taken = taken_by(destination, corpus, lambda: received, received.clear, _data_set)
    finally:
        server.shutdown()
    assert set(taken) == ALL
    assert sum(taken.values()) > 90
