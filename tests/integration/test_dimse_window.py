"""Several C-STORE on their way at once: what peers grant, in any order, and when it goes wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian
from scripts.peer_processes import DicomPeer, Orthanc
from tests.integration.dimse_story import destination_at, kinds_of, sop_uids, study_files
from tests.integration.flow_world import Flow, counts_of
from tests.integration.picky_peer import picky_peer
from tests.integration.raw_peer import C_STORE_RSP, Asked, data_pdu, raw_peer, response
from tests.integration.test_dimse_pacing import CountingPacing
from tests.integration.test_dimse_quarantine import Choosy

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDelivery, DimseDestination
from dcmvault.errors import (
    AssociationLostError,
    DcmvaultError,
    DestinationUnreachableError,
    EntryChangedError,
    InstanceRefusedError,
)
from dcmvault.model.evidence import Level
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.destination_suite import ORIGIN
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peer_faults import Ending
from dcmvault.testing.peers import SimulatedPacs

Came = dict[Path, Receipt | DcmvaultError]


def answered(asked: Asked, status: int = 0, *, message_id: int | None = None) -> bytes:
    number = asked.message_id if message_id is None else message_id
    command = response(C_STORE_RSP, number, status)
    return data_pdu(asked.context_id, command, is_command=True)


class Hoarder:
    """Keeps requests until there are `count`, then says something to all of them at once."""

    def __init__(self, count: int, say: Callable[[Sequence[Asked]], bytes | None]) -> None:
        self.count = count
        self.say = say
        self.kept: list[Asked] = []
        #: How many there were whenever something was said.
        self.rounds: list[int] = []

    def __call__(self, asked: Asked) -> None:
        self.kept.append(asked)
        if len(self.kept) < self.count:
            return
        kept, self.kept = self.kept, []
        self.rounds.append(len(kept))
        said = self.say(kept)
        if said is None:
            asked.connection.close()
            raise EOFError
        asked.connection.sendall(said)


def backwards(kept: Sequence[Asked]) -> bytes:
    return b"".join(answered(asked) for asked in reversed(kept))


@contextmanager
def delivery_to(
    port: int, files: Sequence[InstanceFile], window: int, called: str = "SIMULATED"
) -> Iterator[DimseDelivery]:
    destination = destination_at(port, called, async_window=window, dimse_timeout_s=5)
    with destination.open(kinds_of(files), ORIGIN) as delivery:
        yield delivery
    destination.close_idle()


def deliver(delivery: DimseDelivery, files: Sequence[InstanceFile]) -> Came:
    """Keep the window full; return what came of each file."""
    came: Came = {}
    on_their_way = 0
    for file in files:
        while on_their_way >= delivery.window:
            finish(delivery, came)
            on_their_way -= 1
        try:
            delivery.begin(file)
        except DcmvaultError as error:
            came[file.path] = error
        else:
            on_their_way += 1
    for _ in range(on_their_way):
        finish(delivery, came)
    assert len(came) == len(files)
    return came


def finish(delivery: DimseDelivery, came: Came) -> None:
    file, what = delivery.finish()
    assert file.path not in came
    came[file.path] = what


def assert_receipts(came: Came, files: Sequence[InstanceFile]) -> None:
    for file in files:
        receipt = came[file.path]
        assert isinstance(receipt, Receipt), receipt
        assert receipt.locator == file.entry.locator
        assert receipt.file_sha256 == hashlib.sha256(file.path.read_bytes()).digest()


@pytest.mark.parametrize(
    ("asked", "granted", "window"), [(8, 8, 8), (8, 3, 3), (4, 9, 4), (8, 0, 8)]
)
def test_a_peer_grants_what_it_likes(tmp_path: Path, asked: int, granted: int, window: int) -> None:
    files = study_files(tmp_path, 12)
    with (
        SimulatedPacs(async_window=granted) as pacs,
        delivery_to(pacs.port, files, asked) as delivery,
    ):
        assert delivery.window == window
        assert_receipts(deliver(delivery, files), files)
        assert pacs.held() == set(sop_uids(files))
        assert pacs.associations == 1


def test_nothing_is_proposed_unasked(tmp_path: Path) -> None:
    files = study_files(tmp_path, 2)
    with (
        SimulatedPacs(async_window=8) as pacs,
        delivery_to(pacs.port, files, 1) as delivery,
    ):
        assert delivery.window == 1
        assert_receipts(deliver(delivery, files), files)


@pytest.mark.peers
def test_peers_that_never_answer_it_get_one_after_the_other(
    orthanc: Orthanc, storescp: DicomPeer, tmp_path: Path
) -> None:
    files = study_files(tmp_path, 6)
    for port, called in ((orthanc.dicom_port, orthanc.ae_title), (storescp.port, "STORESCP")):
        with delivery_to(port, files, 8, called) as delivery:
            assert delivery.window == 1
            assert_receipts(deliver(delivery, files), files)
    assert len(orthanc.rest("/instances")) == 6


def test_answers_come_in_any_order(tmp_path: Path) -> None:
    files = study_files(tmp_path, 16)
    peer = Hoarder(8, backwards)
    with raw_peer(peer, window=8) as port, delivery_to(port, files, 8) as delivery:
        order: list[Path] = []
        for _ in range(2):
            for file in files[len(order) : len(order) + 8]:
                delivery.begin(file)
            came: Came = {}
            for _ in range(8):
                finish(delivery, came)
            assert_receipts(came, files[len(order) : len(order) + 8])
            order += list(came)
    paths = [file.path for file in files]
    assert order == [*reversed(paths[:8]), *reversed(paths[8:])]
    assert peer.rounds == [8, 8]


def test_each_gets_its_own_status(tmp_path: Path) -> None:
    files = study_files(tmp_path, 4)
    statuses = {uid: 0xC000 if n % 2 else 0 for n, uid in enumerate(sop_uids(files))}

    def say(kept: Sequence[Asked]) -> bytes:
        return b"".join(answered(one, statuses[one.sop_instance_uid]) for one in reversed(kept))

    with raw_peer(Hoarder(4, say), window=4) as port, delivery_to(port, files, 4) as delivery:
        came = deliver(delivery, files)
    assert_receipts(came, files[::2])
    assert all(isinstance(came[file.path], InstanceRefusedError) for file in files[1::2])


def wrong_message(kept: Sequence[Asked]) -> bytes:
    return answered(kept[0]) + answered(kept[0], message_id=kept[-1].message_id + 1)


def same_message_twice(kept: Sequence[Asked]) -> bytes:
    return answered(kept[0]) * 2


def wrong_context(kept: Sequence[Asked]) -> bytes:
    command = response(C_STORE_RSP, kept[1].message_id, 0)
    return answered(kept[0]) + data_pdu(kept[1].context_id + 2, command, is_command=True)


def one_and_the_end(kept: Sequence[Asked]) -> None:
    kept[0].connection.sendall(answered(kept[0]))


def one_and_silence(kept: Sequence[Asked]) -> bytes:
    return answered(kept[0])


@pytest.mark.parametrize(
    "say", [wrong_message, same_message_twice, wrong_context, one_and_the_end, one_and_silence]
)
def test_a_loss_leaves_all_that_are_outstanding_unknown(
    tmp_path: Path, say: Callable[[Sequence[Asked]], bytes | None]
) -> None:
    files = study_files(tmp_path, 9)
    with raw_peer(Hoarder(8, say), window=8) as port:
        destination = destination_at(port, async_window=8, dimse_timeout_s=0.5)
        with destination.open(kinds_of(files), ORIGIN) as delivery:
            came: Came = {}
            for file in files[:8]:
                delivery.begin(file)
            for _ in range(8):
                finish(delivery, came)
            assert_receipts(came, files[:1])
            lost = [came[file.path] for file in files[1:8]]
            assert all(isinstance(error, AssociationLostError) for error in lost)
            assert len({id(error) for error in lost}) == 1
            with pytest.raises(DestinationUnreachableError):
                delivery.begin(files[8])


class ChangingPacing(CountingPacing):
    """Changes a file while a part of it is on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.path: Path | None = None

    def take(self, size: int) -> None:
        super().take(size)
        if self.path is not None:
            with self.path.open("r+b") as stream:
                stream.truncate(1_200_000)
            self.path = None


def test_a_file_that_changes_on_its_way_costs_the_others_nothing(tmp_path: Path) -> None:
    """The peer has part of it: the association ends, but not before the others' answers."""
    files = study_files(tmp_path, 8, rows=1024, columns=1024)
    pacing = ChangingPacing()
    with SimulatedPacs(async_window=4) as pacs:
        section = DimseDestinationSection(
            host="127.0.0.1", port=pacs.port, called_ae_title="SIMULATED", async_window=4
        )
        destination = DimseDestination(section, FakeClock(), pacing)
        with destination.open(kinds_of(files), ORIGIN) as delivery:
            for file in files[:3]:
                delivery.begin(file)
            pacing.path = files[3].path
            with pytest.raises(EntryChangedError):
                delivery.begin(files[3])
            delivery.begin(files[4])
            came: Came = {}
            for _ in range(4):
                finish(delivery, came)
            assert_receipts(came, [*files[:3], files[4]])
            assert_receipts(deliver(delivery, files[5:]), files[5:])
        assert pacs.associations == 2
        assert pacs.held() == set(sop_uids([*files[:3], *files[4:]]))
    assert sum(pacing.taken) > sum(file.entry.fingerprint.size - 1_000 for file in files[1:])


def test_a_kind_that_was_not_announced_waits_for_what_is_on_its_way(tmp_path: Path) -> None:
    files = [*study_files(tmp_path / "a", 5), *study_files(tmp_path / "b", 5, modality="MR")]
    with (
        SimulatedPacs(async_window=8) as pacs,
        delivery_to(pacs.port, files[:5], 8) as delivery,
    ):
        assert_receipts(deliver(delivery, files), files)
        assert pacs.associations == 2
        assert pacs.held() == set(sop_uids(files))


def test_what_is_transcoded_has_company_on_its_way(tmp_path: Path) -> None:
    files = study_files(tmp_path / "study", 6)
    accepted = [ImplicitVRLittleEndian]
    with (
        picky_peer(tmp_path / "pacs", [CTImageStorage], accepted, async_window=4) as peer,
        delivery_to(peer.port, files, 4) as delivery,
    ):
        assert delivery.window == 4
        came = deliver(delivery, files)
        assert peer.associations == 1
    assert_receipts(came, files)
    for receipt in came.values():
        assert isinstance(receipt, Receipt)
        assert receipt.transfer_syntax_uid == ImplicitVRLittleEndian
    for file, uid in zip(files, sop_uids(files), strict=True):
        there, here = pydicom.dcmread(peer.stored(uid)), pydicom.dcmread(file.path)
        assert there.PixelData == here.PixelData
        assert there.InstanceNumber == here.InstanceNumber


# Runs.


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    flow = Flow(tmp_path, FakeClock())
    yield flow
    flow.catalogue.close()


def use(flow: Flow, port: int, associations: int = 2) -> str:
    destination = destination_at(port, async_window=8, max_associations=associations)
    flow.destinations[destination.name] = destination
    return destination.name


def test_a_backup_reaches_complete(flow: Flow, tmp_path: Path) -> None:
    made = make_study(tmp_path / "source", instances=120)
    with SimulatedPacs(async_window=8) as pacs:
        address = use(flow, pacs.port)
        report = flow.backup(tmp_path / "source", address)
        assert pacs.held() == {one.sop_instance_uid for one in made}
        assert len(pacs.received) == 120
    assert (counts_of(report), report.exit_status) == ({"selected": 120, "stored": 120}, 0)
    assert {row.level for row in report.destinations} == {Level.COMPLETE}


@pytest.mark.parametrize("ending", [Ending.ABORT, Ending.CLOSE])
def test_a_loss_in_the_middle_of_eight_costs_nobody_its_copy(
    flow: Flow, tmp_path: Path, ending: Ending
) -> None:
    made = make_study(tmp_path / "source", instances=24)
    choosy = Choosy(ending, times=1, async_window=8)
    choosy.poison = {made[5].sop_instance_uid}
    with choosy.pacs as pacs:
        durable = flow.ask(tmp_path / "source", use(flow, pacs.port, 1))
        flow.carry_out(durable, flow.stages())
        report = flow.report(durable)
        assert pacs.held() == {one.sop_instance_uid for one in made}
        # One loss, and so the peer is not left alone for as long as after five.
        assert max(durable.waits) <= flow.policy.wait_s
        # The one that was in flight with seven others, at most, and all of these once more.
        assert len(pacs.received) <= 24 + 8
    assert (counts_of(report), report.exit_status) == ({"selected": 24, "stored": 24}, 0)


@pytest.mark.parametrize("ending", [Ending.ABORT, Ending.CLOSE])
def test_among_eight_only_the_culprit_is_quarantined(
    flow: Flow, tmp_path: Path, ending: Ending
) -> None:
    made = make_study(tmp_path / "source", instances=24)
    choosy = Choosy(ending, async_window=8)
    choosy.poison = {made[3].sop_instance_uid}
    with choosy.pacs as pacs:
        report = flow.backup(tmp_path / "source", use(flow, pacs.port))
    assert counts_of(report) == {"selected": 24, "stored": 23, "failed": 1}
    assert [(one.sop_instance_uid, one.code) for one in report.failures] == [
        (made[3].sop_instance_uid, "quarantined")
    ]
    assert choosy.arrivals.count(made[3].sop_instance_uid) == 2
