"""The packed SOP Instance UID in the index: four bits for each character."""

from __future__ import annotations

#: Code (a hexadecimal digit) to character; 0 ends the UID, and 12 to 15 mean nothing.
_CHARACTERS = str.maketrans("0123456789abcdef", "\0" + "0123456789." + "?" * 4)


def decode_uid(packed: object) -> str:
    """Decode ZCOMPRESSEDSOPINSTANCEUID; empty when it is NULL or no packed UID.

    The high half of a byte comes first. The application packs characters that no UID may have
    with loss, so a decoded UID is an expectation: the file has the last word.
    """
    if not isinstance(packed, bytes):
        return ""
    uid = packed.hex().translate(_CHARACTERS).partition("\0")[0]
    return "" if "?" in uid else uid
