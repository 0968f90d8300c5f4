"""Addresses: one string that names a source or a destination (`PATH`, `horos:PATH`, `vault:PATH`, `dicom://...`).

Parsing touches nothing but the file system's answer to "is `Database.sql` in this folder?".
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import ValidationError

from dcmvault.config.listener_section import ListenerSourceSection
from dcmvault.config.locations import is_url, url_location
from dcmvault.config.peer_sections import (
    DICOM_PORT,
    DICOM_TLS_PORT,
    DicomwebSourceSection,
    DimseDestinationSection,
    DimsePeerSection,
    DimseSourceSection,
    OrthancSourceSection,
    StowDestinationSection,
    WebPeerSection,
)
from dcmvault.config.plugin_sections import PluginDestinationSection, PluginSourceSection
from dcmvault.config.plugins import PluginGroup, plugin_names, plugin_place
from dcmvault.config.sections import (
    DestinationSection,
    FolderDestinationSection,
    FolderSourceSection,
    HorosSourceSection,
    SourceSection,
    VaultDestinationSection,
    VaultSourceSection,
)
from dcmvault.errors import AddressError
from dcmvault.i18n import gettext as _

#: The index of an OsiriX or Horos library, in its base folder.
LIBRARY_INDEX = "Database.sql"

#: Two letters at least: `C:` is a drive, not a kind of address.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+]+):(.*)\Z", re.DOTALL)
#: A snapshot's name, a beginning of its digest, or `latest`.
_SNAPSHOT = re.compile(r"[0-9A-Za-z-]+\Z")
#: A PACS, without and with TLS, and the ports for it.
_DIMSE = {"dicom": DICOM_PORT, "dicoms": DICOM_TLS_PORT}
_DICOMWEB = ("dicomweb+http", "dicomweb+https")
_ORTHANC = ("orthanc+http", "orthanc+https")
#: A service that is reached over HTTP, in one of its roles.
_WebSection = TypeVar("_WebSection", bound=WebPeerSection)
_PORTS = range(1, 65_536)
#: Bytes of a name and of a path, as file systems allow them (NAME_MAX and PATH_MAX of Linux).
_LONGEST_NAME = 255
_LONGEST_PATH = 4_000
_Dimse = TypeVar("_Dimse", bound=DimsePeerSection)
#: What may stand in the path of a URL (RFC 3986 section 3.3), in parts that are not empty.
_ROOT = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*\Z")


def source_section(address: str, *, allow_plain_http: bool = False) -> SourceSection:
    """Read the address of a source; AddressError says what is wrong with it.

    `allow_plain_http` is what the configuration says beside the address.

    A folder that holds `Database.sql` is an OsiriX or Horos library. Paths become absolute,
    `~` is expanded; whether a folder exists is for the source itself to find out.
    """
    scheme, rest = _split(address)
    if not scheme:
        path = _path(address)
        if path.name == LIBRARY_INDEX:
            return HorosSourceSection(path=path.parent)
        if is_library(path):
            return HorosSourceSection(path=path)
        return FolderSourceSection(path=path)
    if scheme == "horos":
        path = _path(rest)
        return HorosSourceSection(path=path.parent if path.name == LIBRARY_INDEX else path)
    if scheme in _DIMSE:
        return _dimse(address, DimseSourceSection)
    if scheme in _DICOMWEB:
        return _web(address, DicomwebSourceSection, allow_plain_http)
    if scheme in _ORTHANC:
        return _web(address, OrthancSourceSection, allow_plain_http)
    if scheme == "vault":
        place, mark, snapshot = rest.rpartition("#")
        if not mark:
            return VaultSourceSection(location=_vault_location(rest))
        return VaultSourceSection(location=_vault_location(place), snapshot=_snapshot(snapshot))
    if scheme == "listener":
        if rest:
            raise AddressError(
                _("Nothing may follow “listener:”."),
                hint=_("There is one listener; its options are in [listener]."),
            )
        return ListenerSourceSection()
    if found := plugin_place(PluginGroup.SOURCES, scheme, rest):
        assert isinstance(found, PluginSourceSection)
        return found
    if scheme in plugin_names(PluginGroup.DESTINATIONS):
        raise AddressError(_("“%s:” can be written to only.") % scheme)
    raise _other_kind(scheme, address)


def destination_section(address: str, *, allow_plain_http: bool = False) -> DestinationSection:
    """Read the address of a destination; AddressError says what is wrong with it.

    `allow_plain_http` is what the configuration says beside the address.
    """
    scheme, rest = _split(address)
    if not scheme:
        path = _path(address)
        if path.name == LIBRARY_INDEX or is_library(path):
            raise _library_as_destination()
        return FolderDestinationSection(path=path)
    if scheme == "horos":
        _path(rest)
        raise _library_as_destination()
    if scheme == "listener":
        raise AddressError(
            _("The listener takes what others send; it cannot be a destination."),
            hint=_("Choose a folder, a vault, or a PACS (dicom://CALLED@host:port)."),
        )
    if scheme in _DIMSE:
        return _dimse(address, DimseDestinationSection)
    if scheme in _DICOMWEB:
        return _web(address, StowDestinationSection, allow_plain_http)
    if scheme in _ORTHANC:
        _web(address, OrthancSourceSection, allow_plain_http=True)
        raise AddressError(
            _("An Orthanc is sent to by DICOM or DICOMweb; its REST interface is for reading."),
            hint=_("Write dicom://ORTHANC@host:4242 or dicomweb+https://host/dicom-web"),
        )
    if scheme == "vault":
        section = VaultDestinationSection(location=_vault_location(rest))
        if section.path is not None and is_library(section.path):
            raise _library_as_destination()
        return section
    if found := plugin_place(PluginGroup.DESTINATIONS, scheme, rest):
        assert isinstance(found, PluginDestinationSection)
        return found
    if scheme in plugin_names(PluginGroup.SOURCES):
        raise AddressError(_("“%s:” can be read only.") % scheme)
    raise _other_kind(scheme, address)


def is_peer_address(address: str) -> bool:
    """Say whether an address is that of a PACS or of a DICOMweb service, well formed or not."""
    scheme, _rest = _split(address)
    return scheme in _DIMSE or scheme in _DICOMWEB or scheme in _ORTHANC


def require_path(address: str) -> None:
    """Raise AddressError for what looks like an address of some kind, and so is no path."""
    scheme, _rest = _split(address)
    if scheme:
        raise _other_kind(scheme, address)


def is_library(path: Path) -> bool:
    """Say whether a folder is an OsiriX or Horos library (False where it cannot be looked at)."""
    try:
        return (path / LIBRARY_INDEX).is_file()
    except OSError:
        return False


def is_plain_word(address: str) -> bool:
    """Say whether an address could be a misspelt name: neither a kind nor a path is written."""
    separators = {"/", os.sep, os.altsep or os.sep}
    return not (_SCHEME.match(address) or address.startswith(("~", ".")) or separators & {*address})


def _split(address: str) -> tuple[str, str]:
    """Split `kind:rest`; the kind is empty for a path."""
    if not address.strip():
        raise AddressError(
            _("The address is empty."),
            hint=_("Write a folder, horos:PATH or dicom://CALLED@host:port, or a configured name."),
        )
    found = _SCHEME.match(address)
    if found is None or "/" in found[1]:
        return "", address
    return found[1].lower(), found[2]


def _path(text: str) -> Path:
    if not text:
        raise AddressError(
            _("The address names no folder."), hint=_("Write the path after the colon.")
        )
    if "\0" in text:
        raise AddressError(_("The path contains a NUL character."))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise AddressError(
            _("The path is not valid UTF-8, so it cannot be written down."),
            hint=_("Rename the folder, or address a folder above it."),
        ) from None
    is_long = any(len(part.encode()) > _LONGEST_NAME for part in Path(text).parts)
    if is_long or len(text.encode()) > _LONGEST_PATH:
        # Asking the file system for it would fail, not say no.
        raise AddressError(
            _("The path is longer than file systems allow."),
            hint=_("Name a folder that there is."),
        )
    try:
        expanded = Path(text).expanduser()
    except RuntimeError:
        raise AddressError(
            _("The home folder of this user is not known (~)."), hint=_("Write the whole path.")
        ) from None
    # Lexical: a symbolic link stays what the user calls it, and nothing need exist.
    return Path(os.path.abspath(expanded))  # noqa: PTH100


def _vault_location(text: str) -> str:
    """Make the place of a vault canonical: a path becomes absolute, a URL is taken apart."""
    return url_location(text) if is_url(text) else str(_path(text))


def _snapshot(text: str) -> str:
    if text and not _SNAPSHOT.match(text):
        raise AddressError(
            _("“%s” is no snapshot of a vault.") % text,
            hint=_(
                "After “#” stands the id of a snapshot, as `dcmvault snapshots` shows it, or "
                "“latest”. Put “#” behind a path that contains one."
            ),
        )
    return text.lower()


def _dimse(address: str, kind: type[_Dimse]) -> _Dimse:
    """Read `dicom[s]://CALLED@host:port?calling=AET`; AE titles may be percent-encoded."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _malformed_dimse(_("The host or the port cannot be read.")) from None
    if not host:
        raise _malformed_dimse(_("The host is missing."))
    if parts.password is not None:
        raise _malformed_dimse(_("An AE title is one word without a colon (or write %3A for it)."))
    if parts.path not in {"", "/"} or parts.fragment:
        raise _malformed_dimse(_("Nothing may follow the port but ?calling=AET."))
    if port is not None and port not in _PORTS:
        raise _malformed_dimse(_("The port must be a number from 1 to 65535."))
    options = _options(parts.query, known=("calling",))
    fields: dict[str, object] = {
        "host": host,
        "port": _DIMSE[parts.scheme] if port is None else port,
        "tls": parts.scheme == "dicoms",
    }
    if parts.username:
        fields["called_ae_title"] = unquote(parts.username)
    if calling := options.get("calling"):
        fields["calling_ae_title"] = calling
    try:
        return kind.model_validate(fields)
    except ValidationError:
        raise _malformed_dimse(
            _("An AE title has 1 to 16 ASCII characters and no backslash (PS3.5, AE).")
        ) from None


def _web(address: str, section: type[_WebSection], allow_plain_http: bool) -> _WebSection:
    """Read `KIND+https://host:port/root`; the canonical URL has no slash at its end."""
    malformed = _malformed_orthanc if section is OrthancSourceSection else _malformed_dicomweb
    scheme, rest = _split(address)
    try:
        parts = urlsplit(f"{scheme.partition('+')[2]}:{rest}")
        # As it is looked up, and as HTTP and TLS call it (RFC 5890).
        host, port = _ascii_host(parts.hostname or ""), parts.port
    except ValueError:
        raise malformed(_("The host or the port cannot be read.")) from None
    if not host:
        raise malformed(_("The host is missing."))
    if parts.username is not None or parts.password is not None:
        raise malformed(
            _("Who logs in, and its secret, stand in the configuration, not in the address.")
        )
    if parts.query or parts.fragment:
        raise malformed(_("Nothing may follow the path of the service."))
    if port is not None and port not in _PORTS:
        raise malformed(_("The port must be a number from 1 to 65535."))
    root = parts.path.rstrip("/")
    if not _ROOT.match(root) or {".", ".."} & {*root.split("/")}:
        raise malformed(_("The path has signs that do not belong there."))
    where = f"[{host}]" if ":" in host else host
    if port not in (None, 443 if parts.scheme == "https" else 80):
        where = f"{where}:{port}"
    try:
        return section(url=f"{parts.scheme}://{where}{root}", allow_plain_http=allow_plain_http)
    except ValidationError as error:
        raise malformed(
            str(error.errors(include_url=False)[0].get("ctx", {}).get("error", ""))
        ) from None


def _ascii_host(host: str) -> str:
    """Return a host name in ASCII; ValueError for one that has none."""
    return host if host.isascii() else host.encode("idna").decode("ascii")


def _options(query: str, *, known: tuple[str, ...]) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise AddressError(
                _("The address has an unknown option “%(option)s”.") % {"option": name},
                hint=did_you_mean(name, known) or _("Known options: %s.") % ", ".join(known),
            )
        if not value or name in options:
            raise AddressError(
                _("The option “%(option)s” of the address needs one value.") % {"option": name}
            )
        options[name] = value
    return options


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a sentence that offers the known word nearest to `word`, or nothing."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return _("Did you mean “%s”?") % nearest[0] if nearest else ""


def _malformed_dimse(reason: str) -> AddressError:
    return AddressError(
        _("This is not the address of a PACS: %s") % reason,
        hint=_("Write dicom://CALLED@host:port?calling=AET, for example dicom://ORTHANC@pacs:4242"),
    )


def _malformed_dicomweb(reason: str) -> AddressError:
    return AddressError(
        _("This is not the address of a DICOMweb service: %s") % reason,
        hint=_("Write dicomweb+https://host/root, for example dicomweb+https://pacs/dicom-web"),
    )


def _malformed_orthanc(reason: str) -> AddressError:
    return AddressError(
        _("This is not the address of an Orthanc: %s") % reason,
        hint=_("Write orthanc+http://localhost:8042, or orthanc+https://host"),
    )


def _library_as_destination() -> AddressError:
    return AddressError(
        _("An OsiriX or Horos library cannot be a destination: nothing is ever written into it."),
        hint=_("Choose a folder outside the library, or a PACS (dicom://CALLED@host:port)."),
    )


def _other_kind(scheme: str, address: str) -> AddressError:
    plugins = (*plugin_names(PluginGroup.SOURCES), *plugin_names(PluginGroup.DESTINATIONS))
    kinds = ("horos", *_DIMSE, "listener", "vault", *_DICOMWEB, *_ORTHANC, *plugins)
    return AddressError(
        _("“%(scheme)s:” is no kind of address.") % {"scheme": scheme},
        hint=did_you_mean(scheme, kinds) or _("If you mean a folder, write ./%s") % address,
    )
