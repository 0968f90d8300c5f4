"""What options are made of: the root of every section, and kinds of values."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from dcmvault.config.secrets import is_reference
from dcmvault.i18n import gettext as _

#: PS3.5 section 6.2, AE: 1 to 16 characters of the default repertoire, no backslash, not blank.
AETitle = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$"),
]

#: The same, or nothing.
OptionalAETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=16, pattern=r"^[ -\[\]-~]*$")
]


def _tags_without_pixels(text: str) -> str:
    if any(tag[1:5].upper() in ("0028", "7FE0") for tag in text.split()):
        raise ValueError(_("What describes pixels is never coerced."))
    return text


#: Tags of data elements as PS3.6 writes them, "(0010,0020) (0008,0050)".
AttributeTags = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        pattern=r"^(\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\)(\s+|$))*$",
        max_length=4000,
    ),
    AfterValidator(_tags_without_pixels),
]


def _reference_or_nothing(text: str) -> str:
    if text and not is_reference(text):
        raise ValueError(_("What opens it never stands here: write env:NAME or file:PATH."))
    return text


def _fingerprint_or_nothing(text: str) -> str:
    """Make the SHA-256 fingerprint of a certificate canonical: 64 small hexadecimal digits."""
    found = _FINGERPRINT.fullmatch(text.strip())
    if text and found is None:
        raise ValueError(
            _("A SHA-256 fingerprint has 64 hexadecimal digits, with or without colons.")
        )
    return found[1].replace(":", "").lower() if found else ""


#: As tools write it: `sha256:` or not, with colons between two digits or not.
_FINGERPRINT = re.compile(r"(?:sha-?256[:=])?([0-9a-f]{64}|[0-9a-f]{2}(?::[0-9a-f]{2}){31})", re.I)

#: Where a secret is (`env:NAME`, `file:PATH`), never what it is; empty for none.
SecretReference = Annotated[str, AfterValidator(_reference_or_nothing)]

#: The SHA-256 fingerprint of a certificate, 64 hexadecimal digits; empty for none.
Fingerprint = Annotated[str, AfterValidator(_fingerprint_or_nothing)]


class Section(BaseModel):
    """Root of every section: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
