"""The packed SOP Instance UID in the index: four bits for each character."""

from __future__ import annotations

#: Code to character; 0 ends the UID, and 12 to 15 mean nothing.
_CHARACTERS = "\0" + "0123456789."


def decode_uid(packed: object) -> str:
    """Decode ZCOMPRESSEDSOPINSTANCEUID; empty when it is NULL or no packed UID.

    The high half of a byte comes first. The application packs characters that no UID may have
    with loss, so a decoded UID is an expectation: the file has the last word.
    """
    if not isinstance(packed, bytes):
        return ""
    characters: list[str] = []
    for byte in packed:
        for code in (byte >> 4, byte & 0x0F):
            if code == 0:
                return "".join(characters)
            if code >= len(_CHARACTERS):
                return ""
            characters.append(_CHARACTERS[code])
    return "".join(characters)
