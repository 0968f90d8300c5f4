"""Our own storage and query service: takes C-STORE durably, answers C-ECHO and C-FIND by UIDs.

It is the demonstration's PACS, and takes what is pushed to us.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from pynetdicom import evt
from pynetdicom.dimse_primitives import C_STORE

from dcmvault.dicom.acceptor import GuardedAcceptor, serve
from dcmvault.dicom.query_answers import InstanceIndex
from dcmvault.dicom.received import ReceivedInstance, part10_head, read_received
from dcmvault.dicom.scp_setup import new_scp
from dcmvault.durability import make_durable, make_names_durable
from dcmvault.errors import MalformedDicomError

_log = logging.getLogger(__name__)

_STORED = 0x0000
_DUPLICATE = 0x0111
_OUT_OF_RESOURCES = 0xA700
_DOES_NOT_MATCH_SOP_CLASS = 0xA900
_CANNOT_UNDERSTAND = 0xC000


class Listener:
    """A listener that keeps what it takes as Part 10 files in one folder.

    A file holds the data set bytes exactly as they came, under a name made from the SHA-256 of
    the SOP Instance UID. 0000 is answered only when the file is durable. The first content
    under a UID stays: another one is answered 0111. AE titles in `allowed_ae_titles` are a
    filter against mistakes, never authentication. Used as a context, or by `start` and `stop`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ae_title: str = "DCMVAULT",
        host: str = "127.0.0.1",
        port: int = 0,
        allowed_ae_titles: Collection[str] = (),
    ) -> None:
        self._folder = folder
        self._ae_title = ae_title
        self._address = (host, port)
        self._allowed = tuple(allowed_ae_titles)
        self._index = InstanceIndex()
        #: One writer at a time decides what lies under a name.
        self._commit = threading.Lock()
        self._running: GuardedAcceptor | None = None

    @property
    def port(self) -> int:
        """The port it listens on; the one asked for while it does not."""
        if self._running is None:
            return self._address[1]
        return self._running.port

    def start(self) -> None:
        """Read what the folder holds, and begin to listen; harmless while it listens."""
        if self._running is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._index = InstanceIndex()
        self._rescan()
        entity = new_scp(self._ae_title)
        if self._allowed:
            entity.require_calling_aet = list(self._allowed)
        self._running = serve(
            entity,
            self._address,
            [
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_FIND, self._index.answer),
                (evt.EVT_C_ECHO, lambda _event: _STORED),
            ],
        )
        _log.info("listening as %s on %s:%d", self._ae_title, self._address[0], self.port)

    def stop(self) -> None:
        """Stop listening and end what is open; harmless when it does not listen."""
        if self._running is None:
            return
        acceptor, self._running = self._running, None
        acceptor.shutdown()

    def instances(self) -> frozenset[str]:
        """Return the SOP Instance UIDs that it holds."""
        return self._index.uids()

    def forget(self, sop_instance_uid: str) -> None:
        """Lose an instance, file and all; KeyError when it does not hold it."""
        with self._commit:
            self._index.remove(sop_instance_uid)
            self._path(sop_instance_uid).unlink()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _path(self, sop_instance_uid: str) -> Path:
        return self._folder / f"{hashlib.sha256(sop_instance_uid.encode()).hexdigest()}.dcm"

    def _rescan(self) -> None:
        for leftover in self._folder.glob(".*.part"):
            leftover.unlink()
        for path in sorted(self._folder.glob("*.dcm")):
            try:
                self._index.add(read_received(path))
            except MalformedDicomError as error:
                _log.warning("a file in the listener's folder is not its own: %s", error.message)

    def _store(self, event: evt.Event) -> int:
        request = cast(C_STORE, event.request)
        if request.DataSet is None:
            return _CANNOT_UNDERSTAND
        sop_instance_uid = str(request.AffectedSOPInstanceUID)
        head = part10_head(
            str(request.AffectedSOPClassUID), sop_instance_uid, str(event.context.transfer_syntax)
        )
        partial = self._folder / f".{secrets.token_hex(8)}.part"
        try:
            with partial.open("xb") as stream:
                stream.write(head)
                stream.write(request.DataSet.getbuffer())
                stream.flush()
                make_durable(stream.fileno())
            received = read_received(partial)
            if received.identity.sop_instance_uid != sop_instance_uid:
                return _DOES_NOT_MATCH_SOP_CLASS
            with self._commit:
                return self._keep(partial, received)
        except MalformedDicomError as error:
            _log.warning("refused an instance: %s", error.message)
            return _CANNOT_UNDERSTAND
        except OSError as error:
            _log.error("cannot keep an instance: %s", error.strerror)
            return _OUT_OF_RESOURCES
        finally:
            partial.unlink(missing_ok=True)

    def _keep(self, partial: Path, received: ReceivedInstance) -> int:
        """Give a durable file its name, durably, unless the name is taken."""
        path = self._path(received.identity.sop_instance_uid)
        if path.exists():
            return _STORED if path.read_bytes() == partial.read_bytes() else _DUPLICATE
        partial.rename(path)
        make_names_durable(self._folder)
        self._index.add(received)
        return _STORED
