"""The sub-operations of a C-MOVE or C-GET: one C-STORE for each instance, counted (PS3.4 C.4.2)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dcmvault.dicom.byte_source import ViewBytes
from dcmvault.dicom.part10 import scan_bytes
from dcmvault.dicom.status import StatusKind, store_status
from dcmvault.dicom.store import check_even, check_header, check_read_bytes
from dcmvault.dicom.transcode import target_for, transcoded
from dcmvault.errors import InstanceUnsendableError, MalformedDicomError
from dcmvault.model.query import InstanceBytes

_CHUNK = 1024 * 1024

Chunks = Iterator[bytes | memoryview]
#: Whether a peer takes (SOP class, transfer syntax).
Takes = Callable[[str, str], bool]


@dataclass(slots=True)
class Counts:
    """How the sub-operations of a request stand; the numbers of PS3.7 section 9.3.3.2."""

    remaining: int
    completed: int = 0
    warned: int = 0
    #: SOP Instance UIDs.
    failed: list[str] = field(default_factory=list)
    bytes: int = 0

    def stored(self, sop_instance_uid: str, status: int, length: int) -> None:
        """Count an instance by the status that it was answered with."""
        self.remaining -= 1
        kind = store_status(status).kind
        if kind is StatusKind.STORED:
            self.completed += 1
        elif kind in (StatusKind.STORED_WITH_CHANGES, StatusKind.DUPLICATE):
            self.warned += 1
        else:
            self.failed.append(sop_instance_uid)
            return
        self.bytes += length

    def fail(self, sop_instance_uid: str) -> None:
        """Count an instance that was not stored."""
        self.remaining -= 1
        self.failed.append(sop_instance_uid)

    @property
    def stored_any(self) -> bool:
        """Whether any instance arrived."""
        return bool(self.completed or self.warned)


@dataclass(frozen=True, slots=True)
class Sendable:
    """The data set of an instance as it goes over the wire."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    chunks: Chunks
    length: int


@contextmanager
def sendable(
    whole: InstanceBytes, takes: Takes, accepted: Callable[[str], Collection[str]]
) -> Iterator[Sendable]:
    """Make an instance ready for a peer: its bytes as they stand, where the peer takes them.

    Else in a transfer syntax of those `accepted` for its SOP class, without loss.
    Raises InstanceUnsendableError where there is none, or the instance cannot be sent at all.
    """
    source = ViewBytes(whole.data)
    try:
        header = scan_bytes(source)
    except MalformedDicomError as error:
        raise InstanceUnsendableError(f"the instance cannot be sent: {error.message}") from error
    check_header(header, source.size)
    check_read_bytes(source.read, header, source.size)
    sop_class, syntax = header.sop_class_uid, header.transfer_syntax_uid
    if takes(sop_class, syntax):
        check_even(header)
        data = whole.data[header.data_set_start : header.data_set_end]
        yield Sendable(sop_class, header.sop_instance_uid, syntax, _cut(data), len(data))
        return
    target = target_for(syntax, accepted(sop_class))
    if not target:
        raise InstanceUnsendableError(
            "the instance cannot be sent: the peer does not take its kind"
        )
    with tempfile.TemporaryFile(prefix="dcmvault-") as file:
        file.write(whole.data)
        file.flush()
        with transcoded(file.fileno(), target) as result:
            yield Sendable(
                sop_class, header.sop_instance_uid, target, result.chunks(), result.length
            )


def _cut(data: memoryview) -> Chunks:
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]
