"""Reading back by C-GET in the Study Root model: what a peer really has under UIDs (PS3.4 Annex C).

The peer sends on the association that asks (PS3.4 section C.4.3), so that it needs to know no
address of ours, and TLS and user identity are those of every other association. It is not
trusted: only UIDs that were asked for are taken, in files that nobody else can open and that are
gone when they are closed or this process ends, and no more bytes than instances of that size
can need; every wait has an end.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self, cast

from dcmvault.dicom import command as commands
from dcmvault.dicom.association import (
    IMPLICIT_VR_LITTLE_ENDIAN,
    PeerAssociation,
)
from dcmvault.dicom.contexts import plan_contexts
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.dicom.received import part10_head
from dcmvault.errors import DestinationError, MalformedDicomError
from dcmvault.model.instance import InstanceKind

STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
GET_PROPOSAL = ContextProposal(STUDY_ROOT_GET, (IMPLICIT_VR_LITTLE_ENDIAN,))

#: Instances asked for at once. Each may need three presentation contexts, of 128 in all.
MAX_ASKED = 40
#: Copies under one UID: peers keep one for each patient, study and series.
_MAX_COPIES = 4
#: Instances that were not asked for, and are thrown away, before the peer is given up.
_MAX_UNASKED = 1000
#: Bytes that may come back for a request: its files decompressed, and this much more.
_EXPANSION = 8
_ROOM_BYTES = 256 << 20
#: Seconds that one request may take in all; each part has a limit of its own, too.
_LONGEST_S = 2 * 3600.0

#: Elements of group 0000: sub-operations completed and failed.
_COMPLETED, _FAILED = 0x1021, 0x1022
#: Statuses for the peer (PS3.4 table B.2-1).
_TAKEN, _NO_ROOM, _NOT_ASKED_FOR = 0x0000, 0xA700, 0xC000


@dataclass(frozen=True, slots=True)
class WantedInstance:
    """What is asked for: its UID, and the size of its file in bytes."""

    sop_instance_uid: str
    size: int


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The peer's last word on one request, and what it sent that could not be taken.

    `status` is four hexadecimal digits; `failed` and `completed` are its own counts.
    """

    status: str
    #: Why the peer refused, or ended early; empty where it did its best.
    refusal: str
    completed: int
    failed: int
    #: UIDs of copies that were larger than can be taken.
    too_large: frozenset[str]


def retrieval_proposals(kinds: Collection[InstanceKind]) -> tuple[ContextProposal, ...]:
    """Return what to propose so that the peer sends instances of these kinds (at most MAX_ASKED).

    Each is proposed in its own transfer syntax, so that nothing needs to be transcoded, and in
    what it may have been transcoded to.
    """
    return (GET_PROPOSAL, *_storage(kinds))


def require_retrieval(association: PeerAssociation) -> None:
    """Raise DestinationError where the peer offers no C-GET."""
    if association.contexts.id_of(STUDY_ROOT_GET, IMPLICIT_VR_LITTLE_ENDIAN) is None:
        name = association.peer.name
        raise DestinationError(
            f"{name} offers no retrieval (C-GET, Study Root), so nothing can be proven there",
            hint="Allow our AE title to retrieve by C-GET at the peer, or ask for `complete`.",
        )


def was_proposed(association: PeerAssociation, kinds: Collection[InstanceKind]) -> bool:
    """Say whether instances of all these kinds may come on an association."""
    return association.contexts.proposed.issuperset(_storage(kinds))


def _storage(kinds: Collection[InstanceKind]) -> list[ContextProposal]:
    return [
        ContextProposal(one.abstract_syntax_uid, one.transfer_syntax_uids, peer_sends=True)
        for one in plan_contexts(sorted(kinds), transcodes=True)
    ]


def retrieve(
    association: PeerAssociation,
    study_instance_uid: str,
    series_instance_uid: str,
    wanted: Sequence[WantedInstance],
    take: Callable[[str, BinaryIO], None],
) -> Retrieved:
    """Ask for instances of one series (at most MAX_ASKED), and hand on every copy that comes.

    `take` gets the UID and a Part 10 file of which only the data set is the peer's; it owns the
    file, an unnamed temporary one (TMPDIR), and must not take longer than a peer waits for an
    answer. Raises AssociationLostError when the peer ends or does not answer in time; what came
    before has been handed on. DestinationError when there is no room for it.
    """
    context_id = association.contexts.id_of(STUDY_ROOT_GET, IMPLICIT_VR_LITTLE_ENDIAN)
    assert context_id is not None
    assert 0 < len(wanted) <= MAX_ASKED
    values = {
        (0x0008, 0x0018): "\\".join(one.sop_instance_uid for one in wanted),
        (0x0020, 0x000D): study_instance_uid,
        (0x0020, 0x000E): series_instance_uid,
    }
    identifier = commands.encode_identifier(
        [
            (0x0008, 0x0052, b"IMAGE "),
            *((*tag, commands.encode_uid(value)) for tag, value in values.items()),
        ]
    )
    with _Intake(association, wanted, take) as intake:
        answer = association.get(context_id, STUDY_ROOT_GET, identifier, intake, _LONGEST_S)
        return Retrieved(
            f"{answer.status:04X}",
            refusal_of_retrieval(answer.status),
            _count(answer.command, _COMPLETED),
            _count(answer.command, _FAILED),
            frozenset(intake.too_large),
        )


def refusal_of_retrieval(status: int) -> str:
    """Explain a final status of C-GET or C-MOVE, if it must be (PS3.4 tables C.4-2, C.4-3)."""
    if status in (0x0000, 0xB000):
        return ""
    if 0xA700 <= status <= 0xA7FF:
        return "it is out of resources"
    if 0xA900 <= status <= 0xA9FF:
        return "it does not support this request"
    if status == 0xFE00:
        return "it cancelled the request"
    return "it could not process the request"


def _count(command: Mapping[int, bytes], element: int) -> int:
    """Return a count of sub-operations, which the peer may leave out."""
    return int.from_bytes(command.get(element, b"")[:2], "little")


class _Intake:
    """Puts what comes into files; what was not asked for, or does not end, is thrown away."""

    def __init__(
        self,
        association: PeerAssociation,
        wanted: Sequence[WantedInstance],
        take: Callable[[str, BinaryIO], None],
    ) -> None:
        self._association = association
        self._take = take
        self._wanted = {one.sop_instance_uid for one in wanted}
        self._copies: Counter[str] = Counter()
        self._unasked = 0
        self._uid = ""
        self._room = _EXPANSION * sum(one.size for one in wanted) + _ROOM_BYTES
        self._file: BinaryIO | None = None
        self._status = _TAKEN
        self.too_large: set[str] = set()

    def begin(self, context_id: int, sop_class_uid: str, sop_instance_uid: str) -> None:
        """Begin an instance: say what becomes of it."""
        named = self._association.contexts.named_by(context_id)
        if named is None:
            raise MalformedDicomError("an instance under a presentation context that is none")
        self._copies[sop_instance_uid] += 1
        if (
            sop_instance_uid not in self._wanted
            or sop_class_uid != named[0]
            or self._copies[sop_instance_uid] > _MAX_COPIES
        ):
            self._unasked += 1
            if self._unasked > _MAX_UNASKED:
                raise MalformedDicomError("instances without end that were not asked for")
            self._status = _NOT_ASKED_FOR
            return
        self._uid, self._status = sop_instance_uid, _TAKEN
        file = tempfile.TemporaryFile(prefix="dcmvault-")  # noqa: SIM115 - `take` owns it
        self._file = cast(BinaryIO, file)
        self._file.write(part10_head(sop_class_uid, sop_instance_uid, named[1]))

    def write(self, data: bytes) -> None:
        """Go on with it, where it is taken."""
        if self._file is None:
            return
        self._room -= len(data)
        if self._room >= 0:
            self._file.write(data)
            return
        self._close()
        self._status = _NO_ROOM
        self.too_large.add(self._uid)

    def end(self) -> int:
        """Hand it on."""
        if self._file is not None:
            self._file.flush()
            file, self._file = self._file, None
            self._take(self._uid, file)
        return self._status

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()
        if isinstance(error, OSError):
            raise DestinationError(
                f"what came back could not be kept ({error.strerror or type(error).__name__})",
                hint="Check the room in the folder for temporary files (TMPDIR).",
            ) from error
