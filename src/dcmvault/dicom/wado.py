"""Retrieving instances from a DICOMweb service as they are stored: WADO-RS (PS3.18 section 10.4).

One instance per request: then an answer belongs to what was asked for, and a connection that is
cut costs one instance.
"""

from __future__ import annotations

from collections.abc import Callable

from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.dicomweb import DicomwebConnection
from dcmvault.dicom.http_connection import HttpStream
from dcmvault.dicom.http_status import http_status
from dcmvault.dicom.multipart import CutOffError, MultipartReader, boundary_of
from dcmvault.dicom.status import StatusKind
from dcmvault.errors import (
    AssociationLostError,
    EntryUnreadableError,
    EntryVanishedError,
    MalformedDicomError,
)
from dcmvault.model.instance import InstanceIdentity

#: Files as they are stored, in whatever transfer syntax (PS3.18 section 8.7.3.5.2).
_AS_STORED = "; ".join(("multipart/related", 'type="application/dicom"', "transfer-syntax=*"))
_BUFFER = 256 * 1024
#: Takes the bytes of the file from front to back.
Write = Callable[[memoryview], None]


def retrieve_instance(
    service: DicomwebConnection, identity: InstanceIdentity, write: Write
) -> None:
    """Retrieve one Part 10 file; on return `write` has been given all of it.

    Whether it is the one that was asked for stands in the file. Raises EntryVanishedError where
    the service has no such instance, EntryUnreadableError for an answer that is no such file,
    AssociationLostError for one that is cut off, other kinds of DestinationError where the service
    refuses, and what `write` raises.
    """
    uids = (
        identity.study_instance_uid,
        identity.series_instance_uid,
        identity.sop_instance_uid,
    )
    if not all(map(is_usable_uid, uids)):
        raise EntryUnreadableError("It has a UID that cannot be asked for.")
    resource = "/studies/{}/series/{}/instances/{}".format(*uids)
    with service.retrieving(resource, _AS_STORED) as answer:
        if answer.status in (404, 410):
            raise EntryVanishedError("The service does not have this instance any more.")
        meaning = http_status(answer.status)
        if answer.status != 200 or meaning.kind is not StatusKind.STORED:
            failure = service.failure(answer.status, answer.header("Retry-After"))
            if answer.status == 406:  # it may send others as they are stored
                raise EntryUnreadableError(failure.message, hint=failure.hint)
            raise failure
        encoding = answer.header("Content-Encoding").strip().lower()
        if encoding not in ("", "identity"):
            raise EntryUnreadableError("The service sends it compressed, which nobody asked for.")
        try:
            _receive(answer, write)
        except CutOffError as error:
            message = f"{service.peer.name} did not send all of the instance"
            hint = "Look at the peer's log and at the network between."
            raise AssociationLostError(message, hint=hint) from error
        except MalformedDicomError as error:
            raise EntryUnreadableError(f"The service sends {error.message}.") from error


def _receive(answer: HttpStream, write: Write) -> None:
    content_type = answer.header("Content-Type")
    boundary = boundary_of(content_type)
    if not boundary:
        if content_type.partition(";")[0].strip().lower() != "application/dicom":
            raise MalformedDicomError("something else than a DICOM file")
        _receive_single(answer, write)
        return
    received = 0
    for part in MultipartReader(answer.read_into, boundary).parts():
        received += 1
        if received > 1:
            raise MalformedDicomError("more than the one instance that was asked for")
        for chunk in part.chunks:
            write(chunk)
    if not received:
        raise MalformedDicomError("an answer without the instance")
    # Nothing of worth follows, and the connection can be used again.
    epilogue = memoryview(bytearray(1024))
    answer.read_into(epilogue)


def _receive_single(answer: HttpStream, write: Write) -> None:
    if not (answer.header("Content-Length") or answer.header("Transfer-Encoding")):
        raise MalformedDicomError("a file and does not say where it ends")
    buffer = memoryview(bytearray(_BUFFER))
    while read := answer.read_into(buffer):
        write(buffer[:read])
