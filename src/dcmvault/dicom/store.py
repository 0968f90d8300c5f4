"""Sending one Part 10 file by C-STORE: our check before, the stream, the peer's status after."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, cast

from dcmvault.dicom.association import IMPLICIT_VR_LITTLE_ENDIAN, PeerAssociation
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.messages import Answer
from dcmvault.dicom.status import StatusKind, StatusMeaning, store_status
from dcmvault.dicom.transcode import transcoded
from dcmvault.dicom.transfer_syntaxes import uid_words
from dcmvault.errors import (
    DestinationStoppedError,
    EntryChangedError,
    EntryUnreadableError,
    EntryVanishedError,
    InstanceDeferredError,
    InstanceRefusedError,
    InstanceUnsendableError,
)
from dcmvault.model.instance import Fingerprint, InstanceFile, InstanceHeader, InstanceKind
from dcmvault.ports.pacing import Pacer

#: Read and sent at once; even, so that fragments stay even.
_CHUNK = 1024 * 1024
_EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_UNDEFINED_LENGTH = 0xFFFFFFFF
_UNSENDABLE_HINT = "Keep such instances in a vault or folder, which take them as they are."


@dataclass(frozen=True, slots=True)
class Sent:
    """What went over the wire and what the peer said to it.

    `status` is four hexadecimal digits; `warning` is empty for a plain success.
    """

    status: str
    warning: str
    #: What a warning means and what to do about it.
    hint: str
    file_sha256: bytes
    transferred_bytes: int
    #: The peer said that it had something under this UID before (0111).
    already_there: bool
    #: What it was sent as, if that is not the file's own; and that in words.
    transfer_syntax_uid: str = ""
    transcoding: str = ""


@dataclass(frozen=True, slots=True)
class Begun:
    """A file that went over the wire to its last byte, and whose answer is still to come."""

    #: Of the request (0000,0110), as its answer names it.
    message_id: int
    file_sha256: bytes
    transferred_bytes: int
    #: As in `Sent`.
    transfer_syntax_uid: str = ""
    transcoding: str = ""

    def sent(self, peer: str, answer: Answer) -> Sent:
        """Read the peer's answer; raise what it means where it is no success, as `send_file`."""
        meaning = store_status(answer.status)
        status = f"{answer.status:04X}"
        if meaning.kind in _FAILURES:
            raise _failure(peer, status, meaning)
        warning = "" if meaning.kind is StatusKind.STORED else f"{status}: {meaning.meaning}"
        return Sent(
            status,
            warning,
            _cause_and_remedy(meaning) if warning else "",
            self.file_sha256,
            self.transferred_bytes,
            meaning.kind is StatusKind.DUPLICATE,
            self.transfer_syntax_uid,
            self.transcoding,
        )


def check_sendable(file: InstanceFile) -> InstanceHeader:
    """Return the header of a file that peers can take; InstanceUnsendableError for another.

    Without its UIDs nothing can be stored or found again. Data sets of odd length and truncated
    ones make peers abort or hang (PS3.5 section 7.1: all lengths are even); what shows only in
    the bytes is checked by `check_bytes` before any are sent.
    """
    header = file.header
    if header is None:
        raise _unsendable("it does not parse as DICOM")
    check_header(header, file.fingerprint.size)
    return header


def check_header(header: InstanceHeader, size: int) -> None:
    """Raise InstanceUnsendableError for a file of `size` bytes that no peer can take."""
    uids = {
        "SOP Class UID": header.sop_class_uid,
        "SOP Instance UID": header.sop_instance_uid,
        "Study Instance UID": header.study_instance_uid,
        "Series Instance UID": header.series_instance_uid,
        "Transfer Syntax UID": header.transfer_syntax_uid,
    }
    for name, uid in uids.items():
        if not uid:
            raise _unsendable(f"it has no {name}")
        if not is_usable_uid(uid):
            raise _unsendable(f"its {name} is not a UID")
    if max(header.data_set_end, header.pixel_data_end) > size:
        raise _unsendable("it is truncated")
    if header.data_set_end <= header.data_set_start:
        raise _unsendable("its data set is empty")


def _unsendable(reason: str) -> InstanceUnsendableError:
    return InstanceUnsendableError(f"the instance cannot be sent: {reason}", hint=_UNSENDABLE_HINT)


def check_bytes(descriptor: int, header: InstanceHeader, size: int) -> None:
    """Raise InstanceUnsendableError for what shows only in the bytes, however they are sent.

    `descriptor` is the open file of `size` bytes; OSError where it cannot be read.
    """

    def read(start: int, length: int) -> bytes:
        return os.pread(descriptor, length, start)

    check_read_bytes(read, header, size)


def check_read_bytes(read: Callable[[int, int], bytes], header: InstanceHeader, size: int) -> None:
    """As `check_bytes`, of what `read` gives from a start and of a length."""
    syntax = header.transfer_syntax_uid
    if _pixels_are_cut_off(read, header, size):
        raise _unsendable("it is truncated")
    if syntax == _DEFLATED:
        return
    # Tag, then in explicit VR two capital letters (PS3.5 section 7.1.2). Peers that are told
    # one encoding and get the other hang or store nonsense.
    vr = read(header.data_set_start + 4, 2)
    if (vr.isalpha() and vr.isupper()) is (syntax == IMPLICIT_VR_LITTLE_ENDIAN):
        raise _unsendable(f"its data set is not encoded as {uid_words(syntax)}")


def check_even(header: InstanceHeader) -> None:
    """Raise InstanceUnsendableError for what the fragments of DIMSE cannot carry."""
    if (header.data_set_end - header.data_set_start) % 2:
        # Not even a deflated one can be padded on the way: DCMTK aborts at the padding.
        raise _unsendable("the length of its data set is odd")


def _pixels_are_cut_off(
    read: Callable[[int, int], bytes], header: InstanceHeader, size: int
) -> bool:
    """Say whether the file ends inside its pixel data, by the length in their element header.

    A sound encapsulated element is followed by its delimitation item (PS3.5 Annex A.4).
    """
    if header.pixel_data_start < 4 or header.pixel_data_end < size:
        return False
    order: Literal["little", "big"] = (
        "big" if header.transfer_syntax_uid == _EXPLICIT_VR_BIG_ENDIAN else "little"
    )
    length = int.from_bytes(read(header.pixel_data_start - 4, 4), order)
    return length == _UNDEFINED_LENGTH or header.pixel_data_start + length > size


def send_file(
    association: PeerAssociation,
    file: InstanceFile,
    header: InstanceHeader,
    pacer: Pacer | None = None,
) -> Sent:
    """Send one file's data set as it stands, as `begin_file`, and wait for the peer's answer.

    Raises also InstanceRefusedError and InstanceDeferredError for the peer's word, and
    DestinationStoppedError for status 0124.
    """
    begun = begin_file(association, file, header, pacer)
    return begun.sent(association.peer.name, association.stored())


def begin_file(
    association: PeerAssociation,
    file: InstanceFile,
    header: InstanceHeader,
    pacer: Pacer | None = None,
) -> Begun:
    """Send one file's data set as it stands and hash the whole file in the same read.

    `header` has passed `check_sendable`; all bytes wait for the `pacer`, if any. The file is
    closed and its hash final before the answer is awaited.
    Raises InstanceUnsendableError (no context for it),
    EntryUnreadableError (the association may be aborted then: ask `is_open`),
    AssociationLostError when the fate of the instance is unknown.
    """
    context_id = _context_id(association, header.kind)
    with _reading(file) as stream:
        reader = _HashingReader(stream, file.fingerprint)
        length = header.data_set_end - header.data_set_start
        check_bytes(stream.fileno(), header, file.fingerprint.size)
        check_even(header)
        reader.skip(header.data_set_start)
        message_id = association.begin_store(
            context_id,
            header.sop_class_uid,
            header.sop_instance_uid,
            reader.rest_in_chunks(length),
            length,
            pacer,
        )
    return Begun(message_id, reader.digest(), length)


def begin_transcoded(
    associate: Callable[[], PeerAssociation],
    file: InstanceFile,
    header: InstanceHeader,
    transfer_syntax_uid: str,
    pacer: Pacer | None = None,
) -> Begun:
    """Send one file in another transfer syntax, without loss; raises as `begin_file`.

    The hash is that of the file as it stands. `associate` is asked for the association when all
    is ready: a peer may end one that is idle for long.
    """
    with _reading(file) as stream:
        reader = _HashingReader(stream, file.fingerprint)
        reader.skip(file.fingerprint.size)
        with transcoded(stream.fileno(), transfer_syntax_uid) as result:
            reader.finish()
            association = associate()
            kind = InstanceKind(header.sop_class_uid, transfer_syntax_uid)
            message_id = association.begin_store(
                _context_id(association, kind),
                header.sop_class_uid,
                header.sop_instance_uid,
                result.chunks(),
                result.length,
                pacer,
            )
    words = (
        f"sent as {uid_words(transfer_syntax_uid)}"
        f" instead of {uid_words(header.transfer_syntax_uid)}, without loss"
    )
    if result.changed:
        words = f"{words}; changed with it: {', '.join(result.changed)}"
    return Begun(message_id, reader.digest(), result.length, transfer_syntax_uid, words)


def _context_id(association: PeerAssociation, kind: InstanceKind) -> int:
    context_id = association.contexts.id_of(kind.sop_class_uid, kind.transfer_syntax_uid)
    if context_id is None:
        raise _unsendable("the peer did not accept its kind")
    return context_id


@contextmanager
def _reading(file: InstanceFile) -> Iterator[BinaryIO]:
    """Open a file; what goes wrong while it is open and read is said as the entry's error."""
    try:
        with file.path.open("rb", buffering=0) as stream:
            yield cast(BinaryIO, stream)
    except FileNotFoundError as error:
        raise EntryVanishedError("the file is gone") from error
    except OSError as error:
        raise EntryUnreadableError(
            f"the file cannot be read ({error.strerror or type(error).__name__})",
            hint="Check permissions and the disk it lies on.",
        ) from error


def _cause_and_remedy(meaning: StatusMeaning) -> str:
    return f"{meaning.cause} {meaning.remedy}"


_FAILURES = frozenset({StatusKind.PERMANENT, StatusKind.RETRY_LATER, StatusKind.STOP_DESTINATION})


def _failure(
    peer: str, status: str, meaning: StatusMeaning
) -> InstanceRefusedError | DestinationStoppedError:
    message = f"{peer} answered the request to store with {status}: {meaning.meaning}"
    hint = _cause_and_remedy(meaning)
    if meaning.kind is StatusKind.STOP_DESTINATION:
        return DestinationStoppedError(message, hint=hint, status=status)
    if meaning.kind is StatusKind.RETRY_LATER:
        return InstanceDeferredError(message, hint=hint, status=status)
    return InstanceRefusedError(message, hint=hint, status=status)


class _Buffers(threading.local):
    """A buffer for each thread, which sends one file at a time: new pages cost as much as bytes."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(_CHUNK))


_this_threads = _Buffers()


@dataclass
class _HashingReader:
    """Reads a file once, front to back, and checks that it stays what was planned."""

    stream: BinaryIO
    planned: Fingerprint
    _sha256: hashlib._Hash = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        self._check()

    def skip(self, length: int) -> None:
        """Read what is hashed but not sent."""
        for _chunk in self.chunks(length):
            pass

    def chunks(self, length: int) -> Iterator[memoryview]:
        """Yield exactly `length` bytes; each chunk is valid until the next one is asked for."""
        while length:
            view = _this_threads.buffer[: min(length, _CHUNK)]
            filled = 0
            while filled < len(view):
                read = self.stream.readinto(view[filled:])  # type: ignore[attr-defined]
                if not read:
                    raise EntryChangedError("the file became shorter while it was read")
                filled += read
            self._sha256.update(view)
            length -= len(view)
            yield view

    def rest_in_chunks(self, length: int) -> Iterator[memoryview]:
        """Yield exactly `length` bytes, the last only when the whole file is known to be sound.

        So a peer is never given a complete instance that is half old and half new.
        """
        for chunk in self.chunks(length):
            length -= len(chunk)
            if not length:
                self.finish()
            yield chunk

    def finish(self) -> None:
        """Read to the end; EntryChangedError if the file changed meanwhile."""
        while chunk := self.stream.read(_CHUNK):
            self._sha256.update(chunk)
        self._check()

    def digest(self) -> bytes:
        """Return the SHA-256 of all that was read."""
        return self._sha256.digest()

    def _check(self) -> None:
        stat = os.fstat(self.stream.fileno())
        same = (stat.st_size, stat.st_mtime_ns) == (self.planned.size, self.planned.mtime_ns)
        if not same or self.planned.inode not in (0, stat.st_ino):
            raise EntryChangedError("the file is no longer what was planned")
