"""How pynetdicom is set up wherever it serves: private, unrestricted, and quick to answer."""

from __future__ import annotations

import socket

from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dcmvault.dicom.association import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

#: What we announce as a receiver; longer PDUs mean fewer system calls.
_MAXIMUM_LENGTH = 128 * 1024


def new_scp(ae_title: str) -> AE:
    """Make an application entity that offers Verification, storage of anything, and queries.

    By default pynetdicom writes the identifiers of queries, which are patient data, to its log:
    that is switched off for the whole process.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    # Private SOP classes, and those of a newer Standard than the library's, are taken too.
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    entity = AE(ae_title=ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = _MAXIMUM_LENGTH
    entity.maximum_associations = 32
    entity.acse_timeout = 30
    entity.dimse_timeout = 60
    entity.network_timeout = 120
    entity.add_supported_context(Verification)
    entity.add_supported_context(
        StudyRootQueryRetrieveInformationModelFind, [IMPLICIT_VR_LITTLE_ENDIAN]
    )
    return entity


def send_at_once(event: evt.Event) -> None:
    """Set TCP_NODELAY on a new connection: a response goes out in two small segments."""
    wrapped = event.assoc.dul.socket
    if wrapped is not None and wrapped.socket is not None:
        wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
