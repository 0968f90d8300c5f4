"""Forms in which somebody says where something is: by fields of a kind of place, or an address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from dcmvault.i18n import gettext as _

#: Characters of a passphrase.
_SHORTEST = 12


@dataclass(frozen=True, slots=True)
class Typed:
    """What a form says."""

    address: str
    options: Mapping[str, str | int | bool]
    #: Option by option, as they were typed; never shown and never logged.
    secrets: Mapping[str, str] = field(repr=False)


def typed_source(fields: Mapping[str, str]) -> Typed:
    """Read the form of a source; ValueError in words for what is missing."""
    kind = fields.get("kind", "")
    if kind == "pacs":
        return Typed(_dicom(fields), {}, {})
    if kind == "orthanc":
        return _with_login(_needed(fields, "url", _("Type the address of the Orthanc.")), fields)
    return _with_login(_needed(fields, "address", _("Type a folder, or an address.")), fields)


def typed_destination(fields: Mapping[str, str]) -> Typed:
    """Read the form of a destination; ValueError in words for what is missing."""
    kind = fields.get("kind", "")
    if kind == "pacs":
        return Typed(_dicom(fields), {"level": "complete"}, {})
    if kind == "dicomweb":
        url = _needed(fields, "url", _("Type the address of the service."))
        address = url if url.startswith("dicomweb+") else f"dicomweb+{url}"
        return _with_login(address, fields)
    if kind == "folder":
        return Typed(_needed(fields, "path", _("Type a folder.")), {"level": "proven"}, {})
    if kind == "vault":
        path = _needed(fields, "path", _("Type a folder."))
        # On a disk of one's own reading back costs little, and proves.
        return Typed(f"vault:{path}", {"level": "proven"}, _passphrase(fields))
    if kind == "s3":
        return _bucket(fields)
    return _with_login(_needed(fields, "address", _("Type an address.")), fields)


def _dicom(fields: Mapping[str, str]) -> str:
    host = _needed(fields, "host", _("Type the host name or IP address of the PACS."))
    called = _needed(fields, "called", _("Type the AE title of the PACS."))
    port = fields.get("port", "").strip() or "104"
    calling = fields.get("calling", "").strip() or "DCMVAULT"
    where = f"[{host}]" if ":" in host else host
    scheme = "dicoms" if fields.get("tls") else "dicom"
    return f"{scheme}://{quote(called, safe='')}@{where}:{port}?calling={quote(calling, safe='')}"


def _bucket(fields: Mapping[str, str]) -> Typed:
    bucket = _needed(fields, "bucket", _("Type the name of the bucket."))
    prefix = fields.get("prefix", "").strip().strip("/")
    options = {
        key: value
        for key in ("endpoint", "region", "object_lock")
        if (value := fields.get(key, "").strip())
    }
    secrets = {
        key: value
        for key, name in (("access_key", "key-id"), ("secret_key", "key-secret"))
        if (value := fields.get(name, "").strip())
    }
    address = f"vault:s3://{bucket}/{prefix}" if prefix else f"vault:s3://{bucket}"
    return Typed(address, options, {**secrets, **_passphrase(fields)})


def _passphrase(fields: Mapping[str, str]) -> dict[str, str]:
    passphrase = fields.get("vault-passphrase", "")
    if len(passphrase) < _SHORTEST:
        raise ValueError(
            _("A passphrase has at least %(count)d characters: whoever has it can read everything.")
            % {"count": _SHORTEST}
        )
    if passphrase != fields.get("vault-again", ""):
        raise ValueError(_("The two passphrases are not the same."))
    return {"passphrase": passphrase}


def _with_login(address: str, fields: Mapping[str, str]) -> Typed:
    user, password = fields.get("user", "").strip(), fields.get("user-password", "")
    if address.startswith(("http://", "https://")):
        address = f"orthanc+{address}"
    if not (user or password):
        return Typed(address, {}, {})
    return Typed(address, {"user": user}, {"password": password} if password else {})


def _needed(fields: Mapping[str, str], name: str, words: str) -> str:
    value = fields.get(name, "").strip()
    if not value:
        raise ValueError(words)
    return value
