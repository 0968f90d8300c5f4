"""A PACS that answers success to everything, and lies about some of it.

    with LyingPacs(Lie.PIXEL_BIT, every=2) as pacs:
        ...  # send to 127.0.0.1:pacs.port, read back by C-GET
    assert found == pacs.lied_about

    python -m dcmvault.testing.lying_pacs --lie pixel-bit --every 2

It stores, answers queries, sends back by C-GET and commits. The process writes a line
`{"port": ...}`; a line on its standard input is answered by a line `{"lied_about": [...],
"coerced": [...]}`, and it runs until its standard input ends. The protocol is pynetdicom's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_STORE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelGet,
)

from dcmvault.dicom.acceptor import GuardedAcceptor, serve
from dcmvault.dicom.association import IMPLICIT_VR_LITTLE_ENDIAN
from dcmvault.dicom.command import decode_flat
from dcmvault.dicom.query_answers import InstanceIndex
from dcmvault.dicom.received import part10_head, read_received
from dcmvault.dicom.scp_setup import new_scp
from dcmvault.testing.lies import (
    ALTERATIONS,
    GONE,
    Lie,
    StoredInstance,
    coerced,
    with_pixels_of,
)

_QUERY_LEVEL, _SOP_INSTANCE_UID = (0x0008, 0x0052), (0x0008, 0x0018)
_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
_ALL_COMMITTED = 1
_SEED = 20_240_101


class LyingPacs:
    """A storage, query, retrieval and commitment SCP on a free port of the loopback.

    It lies about each `every`-th instance that it gets to know, always the same ones however often
    they come (0: about none), and writes the `coercions` (by keyword) into each `coerces`-th of
    the others. `every` must divide what `Lie.SWAPS` is to exchange into pairs.
    """

    def __init__(
        self,
        lie: Lie,
        *,
        every: int = 2,
        coerces: int = 0,
        coercions: Mapping[str, str] | None = None,
        ae_title: str = "LYING",
    ) -> None:
        """Describe it."""
        self.ae_title = ae_title
        #: SOP Instance UIDs about which it lies, and those that it altered as a PACS may.
        self.lied_about: set[str] = set()
        self.coerced: set[str] = set()
        #: SOP Instance UIDs of all that it sent back, in order.
        self.sent_back: list[str] = []
        self._lie = lie
        self._every = every
        self._coerces = coerces
        self._coercions = coercions or {}
        self._chance = random.Random(f"{_SEED} {lie}")  # noqa: S311 - no secret
        #: What it really has, by UID, and what came.
        self._disk: dict[str, StoredInstance] = {}
        self._came: dict[str, StoredInstance] = {}
        self._known: list[str] = []
        #: Waits for the one to exchange pixels with.
        self._unpaired: StoredInstance | None = None
        self._lock = threading.RLock()
        #: What it names, and what it counts.
        self._named, self._counted = InstanceIndex(), InstanceIndex()
        self._running: GuardedAcceptor | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._running is not None, "not started"
        return self._running.port

    @property
    def address(self) -> str:
        """The address as dcmvault takes it."""
        return f"dicom://{self.ae_title}@127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        entity = new_scp(self.ae_title)
        entity.add_supported_context(
            StudyRootQueryRetrieveInformationModelGet, [IMPLICIT_VR_LITTLE_ENDIAN]
        )
        entity.add_supported_context(
            StorageCommitmentPushModel,
            [IMPLICIT_VR_LITTLE_ENDIAN],
            scu_role=True,
            scp_role=True,
        )
        self._running = serve(
            entity,
            ("127.0.0.1", 0),
            [
                (evt.EVT_C_ECHO, lambda _event: 0x0000),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_FIND, self._find),
                (evt.EVT_C_GET, self._get),
                (evt.EVT_N_ACTION, self._commit),
            ],
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._running is not None:
            acceptor, self._running = self._running, None
            acceptor.shutdown()

    def _store(self, event: evt.Event) -> int:
        request = cast(C_STORE, event.request)
        stored = StoredInstance(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            request.DataSet.getvalue() if request.DataSet else b"",
        )
        with self._lock:
            self._keep(stored)
        return 0x0000

    def _keep(self, stored: StoredInstance) -> None:
        uid = stored.sop_instance_uid
        self._came[uid] = stored
        if uid not in self._known:
            self._known.append(uid)
        number = self._known.index(uid) + 1
        # The first time: again it is found altered in the same way.
        if uid in self._disk:
            return
        is_lie = bool(self._every) and number % self._every == 0
        if is_lie and self._lie in GONE:
            self.lied_about.add(uid)
        elif is_lie and self._lie is Lie.SWAPS:
            self._exchange(stored)
        elif is_lie:
            self.lied_about.add(uid)
            self._disk[uid] = ALTERATIONS[self._lie](stored, self._chance)
        elif self._coerces and number % self._coerces == 1:
            self.coerced.add(uid)
            self._disk[uid] = coerced(stored, self._coercions)
        else:
            self._disk[uid] = stored
        self._index(stored)

    def _exchange(self, stored: StoredInstance) -> None:
        """Keep an instance, and exchange pixels with the last one that waits for that."""
        self._disk[stored.sop_instance_uid] = stored
        if self._unpaired is None:
            self._unpaired = stored
            return
        other, self._unpaired = self._unpaired, None
        for one, of in ((stored, other), (other, stored)):
            self._disk[one.sop_instance_uid] = with_pixels_of(one, of)
            self.lied_about.add(one.sop_instance_uid)

    def _index(self, stored: StoredInstance) -> None:
        head = part10_head(
            stored.sop_class_uid, stored.sop_instance_uid, stored.transfer_syntax_uid
        )
        with tempfile.NamedTemporaryFile(suffix=".dcm") as stream:
            stream.write(head + stored.data_set)
            stream.flush()
            received = read_received(Path(stream.name))
        is_there = stored.sop_instance_uid in self._disk
        if is_there:
            self._named.add(received)
        if is_there or self._lie is not Lie.DROPS:
            self._counted.add(received)

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        identifier = cast(C_FIND, event.request).Identifier
        keys = dict(decode_flat(identifier.getvalue() if identifier else b""))
        level = keys.get(_QUERY_LEVEL, b"").strip()
        yield from (self._named if level == b"IMAGE" else self._counted).answer(event)

    def _get(self, event: evt.Event) -> Iterator[Any]:
        """Send what is asked for by UID, as the bytes that it has."""
        identifier = cast(C_GET, event.request).Identifier
        keys = dict(decode_flat(identifier.getvalue() if identifier else b""))
        asked = keys.get(_SOP_INSTANCE_UID, b"").decode("ascii").strip("\0 ").split("\\")
        with self._lock:
            found = [self._disk[uid] for uid in asked if uid in self._disk]
        # What the library would send is what it had decoded and encoded.
        event.assoc.send_c_store = lambda carrier, **_options: _send(  # type: ignore[method-assign]
            event.assoc, carrier.stored
        )
        yield len(found)
        for stored in found:
            carrier = Dataset()
            carrier.SOPInstanceUID = stored.sop_instance_uid
            carrier.stored = self._as_read(stored)
            yield 0xFF00, carrier

    def _as_read(self, stored: StoredInstance) -> StoredInstance:
        uid = stored.sop_instance_uid
        with self._lock:
            is_cached = self._lie is Lie.CACHE and uid not in self.sent_back
            self.sent_back.append(uid)
            return self._came[uid] if is_cached else stored

    def _commit(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """Commit whatever is asked for, whether it is there or not."""
        asked = event.action_information
        result = Dataset()
        result.TransactionUID = asked.TransactionUID
        result.ReferencedSOPSequence = asked.ReferencedSOPSequence
        association = event.assoc

        def report() -> None:
            # Who asked may have left meanwhile: then it is told nothing.
            with contextlib.suppress(RuntimeError):
                association.send_n_event_report(
                    result, _ALL_COMMITTED, StorageCommitmentPushModel, _COMMITMENT_INSTANCE
                )

        # After the answer to the request has gone.
        threading.Timer(0.1, report).start()
        return 0x0000, None


def _send(association: Association, stored: StoredInstance) -> Dataset:
    """Send bytes by C-STORE in the midst of a C-GET; return the status of the answer."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = stored.sop_class_uid
    request.AffectedSOPInstanceUID = stored.sop_instance_uid
    request.Priority = 2
    request.DataSet = BytesIO(stored.data_set)
    context_id = next(
        one.context_id
        for one in association.accepted_contexts
        if one.abstract_syntax == stored.sop_class_uid
        and one.transfer_syntax[0] == stored.transfer_syntax_uid
    )
    association.dimse.send_msg(request, cast(int, context_id))
    _context_id, answer = association.dimse.get_msg(block=True)
    status = Dataset()
    status.Status = cast(C_STORE, answer).Status if answer is not None else 0xC000
    return status


def main(arguments: list[str] | None = None) -> None:
    """Run a lying PACS as this process until its standard input ends."""
    parser = argparse.ArgumentParser(
        prog="python -m dcmvault.testing.lying_pacs", description=main.__doc__
    )
    parser.add_argument("--lie", type=Lie, required=True, help=", ".join(Lie))
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--coerces", type=int, default=0)
    parser.add_argument("--coercion", action="append", default=[], metavar="KEYWORD=VALUE")
    options = parser.parse_args(arguments)
    coercions = dict(text.split("=", 1) for text in options.coercion)
    with LyingPacs(
        options.lie, every=options.every, coerces=options.coerces, coercions=coercions
    ) as pacs:
        _say({"port": pacs.port})
        for _line in sys.stdin:
            _say({"lied_about": sorted(pacs.lied_about), "coerced": sorted(pacs.coerced)})


def _say(words: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
