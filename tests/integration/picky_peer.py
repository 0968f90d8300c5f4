"""A PACS by pynetdicom that takes few transfer syntaxes, and keeps what it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pynetdicom import AE, _config, evt
from pynetdicom.dimse_primitives import C_STORE

from dcmvault.dicom.received import part10_head
from dcmvault.testing.peers import grant_window


@dataclass
class PickyPeer:
    """What runs: its port, and where the files lie, by SOP Instance UID."""

    port: int
    folder: Path
    associations: int = 0

    def stored(self, sop_instance_uid: str) -> Path:
        return self.folder / f"{sop_instance_uid}.dcm"


@contextmanager
def picky_peer(
    folder: Path,
    sop_classes: Sequence[str],
    transfer_syntaxes: Sequence[str],
    *,
    idle_s: float = 60,
    async_window: int = 1,
) -> Iterator[PickyPeer]:
    """Serve these SOP classes in these transfer syntaxes only; end idle associations."""
    entity = AE(ae_title="SIMULATED")
    entity.network_timeout = idle_s
    entity.add_supported_context("1.2.840.10008.1.1")
    for uid in sorted(set(sop_classes)):
        entity.add_supported_context(uid, list(transfer_syntaxes))
    folder.mkdir()
    peer = PickyPeer(0, folder)

    def keep(event: evt.Event) -> int:
        request = cast(C_STORE, event.request)
        assert request.DataSet is not None
        head = part10_head(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
        )
        path = peer.stored(str(request.AffectedSOPInstanceUID))
        path.write_bytes(head + request.DataSet.getvalue())
        return 0x0000

    def count(_event: evt.Event) -> None:
        peer.associations += 1

    # A switch of the whole process, which other peers turn on: everything would be accepted.
    unrestricted, _config.UNRESTRICTED_STORAGE_SERVICE = _config.UNRESTRICTED_STORAGE_SERVICE, False
    _config.LOG_HANDLER_LEVEL = "none"
    server = entity.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[
            (evt.EVT_C_STORE, keep),
            (evt.EVT_ESTABLISHED, count),
            (evt.EVT_REQUESTED, grant_window, [async_window]),
        ],
    )
    assert server is not None
    assert server.socket is not None
    peer.port = server.socket.getsockname()[1]
    try:
        yield peer
    finally:
        server.shutdown()
        _config.UNRESTRICTED_STORAGE_SERVICE = unrestricted
