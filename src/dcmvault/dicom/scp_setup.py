"""How pynetdicom is set up wherever it serves: private, and unrestricted."""

from __future__ import annotations

from pydicom.config import IGNORE, settings
from pynetdicom import AE, _config
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

    By default pynetdicom writes the identifiers of queries, which are patient data, to its log,
    and pydicom warns of values that break the rules by quoting them: both are switched off for
    the whole process.
    """
    settings.reading_validation_mode = IGNORE
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
    # The request lies ready when an association is made of a connection.
    entity.acse_timeout = 5
    entity.dimse_timeout = 60
    entity.network_timeout = 120
    entity.add_supported_context(Verification)
    entity.add_supported_context(
        StudyRootQueryRetrieveInformationModelFind, [IMPLICIT_VR_LITTLE_ENDIAN]
    )
    return entity
