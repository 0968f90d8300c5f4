"""Transfer syntaxes by what can be done with them: which are native, which we decode or encode.

UIDs as in PS3.6 Annex A; their encodings in PS3.5 Annex A.
"""

from __future__ import annotations

from enum import Enum

from pydicom.config import IGNORE
from pydicom.uid import UID

from dcmvault.dicom.file_meta import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from dcmvault.errors import MalformedDicomError

DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"


class Family(Enum):
    """How the frames of encapsulated pixel data are coded."""

    #: ITU-T T.81, lossy and lossless processes.
    JPEG = "JPEG"
    #: ITU-T T.87.
    JPEG_LS = "JPEG-LS"
    #: ITU-T T.800 and T.814 (high throughput).
    JPEG_2000 = "JPEG 2000"
    #: PS3.5 Annex G.
    RLE = "RLE"


#: What we decode. Video and what follows T.801 (multi-component) are not among it.
FAMILIES = {
    **dict.fromkeys((JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1), Family.JPEG),
    **dict.fromkeys((JPEG_LS_LOSSLESS, JPEG_LS_NEAR_LOSSLESS), Family.JPEG_LS),
    **dict.fromkeys(
        (JPEG_2000_LOSSLESS, JPEG_2000, HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL, HTJ2K),
        Family.JPEG_2000,
    ),
    RLE_LOSSLESS: Family.RLE,
}
NATIVE = frozenset(
    {IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, DEFLATED}
)
#: Syntaxes in which pixels may have lost something, and mostly have.
MAYBE_LOSSY = frozenset({JPEG_BASELINE, JPEG_EXTENDED, JPEG_LS_NEAR_LOSSLESS, JPEG_2000, HTJ2K})
#: What an instance may be sent as instead, best first. Explicit VR tells private attributes' VRs.
NATIVE_TARGETS = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
#: For peers that take neither, though PS3.5 section 10.1 asks for it.
COMPRESSED_TARGETS = (JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS, RLE_LOSSLESS, JPEG_LOSSLESS_SV1)


class NotTranscodableError(MalformedDicomError):
    """It cannot be turned into another transfer syntax without loss or doubt; says why."""


def is_transcodable(transfer_syntax_uid: str) -> bool:
    """Say whether we can read data sets of this transfer syntax, pixels included."""
    return transfer_syntax_uid in NATIVE or transfer_syntax_uid in FAMILIES


def uid_words(uid: str) -> str:
    """Name a UID of the Standard in words, with the UID itself; a private one is just itself."""
    name = UID(uid, validation_mode=IGNORE).name
    return uid if name == uid else f"{name} ({uid})"
