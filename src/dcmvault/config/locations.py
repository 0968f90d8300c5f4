"""Places of vaults that are not folders: buckets, containers, and folders reached by SFTP."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit

from dcmvault.config.plugins import plugin_store
from dcmvault.config.sections import VAULT_SCHEMES
from dcmvault.errors import AddressError
from dcmvault.i18n import gettext as _

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+]*)://")
#: What S3, Azure and Google allow in common, and dots and underscores, which some do.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]\Z")
#: Parts of keys (`ports.object_store`), so that a prefix needs no quoting anywhere.
_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*\Z")
_SSH_PORT = 22


def is_url(text: str) -> bool:
    """Say whether the place of a vault is written as a URL, not as a path."""
    return _URL.match(text) is not None


def url_location(text: str) -> str:
    """Make the URL of a vault's place canonical; AddressError says what is wrong with it."""
    found = _URL.match(text)
    scheme = found[1].lower() if found else ""
    if scheme not in VAULT_SCHEMES:
        if section := plugin_store(text, {}):
            return section.url
        raise AddressError(
            _("A vault cannot be at “%(scheme)s://”.") % {"scheme": scheme},
            hint=_("Write vault:PATH, or vault: and a URL that begins with one of: %s.")
            % ", ".join(f"{known}://" for known in VAULT_SCHEMES),
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _malformed(_("the host or the port cannot be read.")) from None
    if parts.query or parts.fragment:
        raise _malformed(_("nothing may follow the path; options stand in the configuration."))
    if parts.password is not None:
        raise _malformed(
            _("a secret does not belong in an address; a configured destination refers to it.")
        )
    if scheme == "sftp":
        return _sftp(parts, port)
    return _bucket(scheme, parts, port)


def _bucket(scheme: str, parts: SplitResult, port: int | None) -> str:
    if parts.username is not None or port is not None:
        raise _malformed(_("after “%s://” stands the name of a bucket alone.") % scheme)
    bucket = parts.netloc
    if not _BUCKET.match(bucket):
        raise _malformed(
            _("the name of a bucket has 3 to 63 small letters, digits, “-”, “_” and “.”.")
        )
    prefix = "/".join(part for part in parts.path.split("/") if part)
    if prefix and not _PREFIX.match(prefix):
        raise _malformed(
            _("a prefix has letters, digits, “-”, “_” and “.” only, and no part begins with “.”.")
        )
    return f"{scheme}://{bucket}/{prefix}" if prefix else f"{scheme}://{bucket}"


def _sftp(parts: SplitResult, port: int | None) -> str:
    host, user = parts.hostname or "", unquote(parts.username or "")
    if not host:
        raise _malformed(_("the host is missing."))
    if port == 0:
        raise _malformed(_("the port must be a number from 1 to 65535."))
    path = posixpath.normpath("/" + unquote(parts.path).lstrip("/"))
    if path == "/" or "\0" in path:
        raise _malformed(_("the path of the folder is missing."))
    where = f"[{host}]" if ":" in host else host
    if user:
        where = f"{quote(user, safe='')}@{where}"
    if port not in (None, _SSH_PORT):
        where = f"{where}:{port}"
    return f"sftp://{where}{quote(path, safe='/~ ')}"


@dataclass(frozen=True, slots=True)
class SftpPlace:
    """A folder on another machine; an empty user is whoever the SSH configuration says."""

    user: str
    host: str
    port: int
    path: str


def sftp_place(location: str) -> SftpPlace:
    """Take a canonical `sftp://` location apart."""
    parts = urlsplit(location)
    return SftpPlace(
        unquote(parts.username or ""),
        parts.hostname or "",
        parts.port or _SSH_PORT,
        unquote(parts.path),
    )


def _malformed(reason: str) -> AddressError:
    return AddressError(
        _("This is not the place of a vault: %s") % reason,
        hint=_("For example vault:/Volumes/Backup/vault, vault:s3://bucket/prefix or %s.")
        % "vault:sftp://user@host/path",
    )
