"""Whether two addresses are one place: a copy there would be none, or be counted twice."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from dcmvault.config.peer_sections import (
    DicomwebSourceSection,
    DimseDestinationSection,
    DimseSourceSection,
    OrthancSourceSection,
    StowDestinationSection,
)
from dcmvault.config.sections import DestinationSection, SourceSection, VaultSection

_PacsSource = DimseSourceSection | DicomwebSourceSection | OrthancSourceSection
_PacsDestination = DimseDestinationSection | StowDestinationSection


def overlap(source: SourceSection, destination: DestinationSection) -> bool:
    """Say whether one contains the other: folders, or a vault that would be copied into itself.

    Also behind links and mounts, and on file systems that do not tell case apart.
    """
    if isinstance(source, _PacsSource) or isinstance(destination, _PacsDestination):
        return False
    if source.path is None or destination.path is None:
        return _location(source) == _location(destination) != ""
    one, other = source.path.resolve(), destination.path.resolve()
    return _is_within(one, other) or _is_within(other, one)


def is_same_pacs(source: SourceSection, destination: DestinationSection) -> bool:
    """Say whether a PACS is its own destination, whatever we call ourselves there."""
    if isinstance(source, DimseSourceSection) and isinstance(destination, DimseDestinationSection):
        return (source.host.lower(), source.port, source.called_ae_title) == (
            destination.host.lower(),
            destination.port,
            destination.called_ae_title,
        )
    if isinstance(source, OrthancSourceSection) and isinstance(destination, StowDestinationSection):
        # Its DICOMweb plug-in answers where its REST interface does.
        return urlsplit(source.url).netloc == urlsplit(destination.url).netloc
    return isinstance(source, _PacsSource) and source.address == destination.address


def may_be_at_source(source: SourceSection, destination: DestinationSection) -> bool:
    """Say whether a destination is the source, inside it or around it, or may be.

    One PACS has several ports, and speaks DIMSE and DICOMweb: at one host nothing tells two apart.
    """
    if isinstance(source, _PacsSource) and isinstance(destination, _PacsDestination):
        return _host_of(source) == _host_of(destination)
    return overlap(source, destination)


def place_of(destination: DestinationSection) -> str:
    """Return what all addresses of one place have in common; a host is one for all its PACSs."""
    if isinstance(destination, _PacsDestination):
        return f"host {_host_of(destination)}"
    if destination.path is None:
        return destination.address
    path = destination.path.resolve()
    with suppress(OSError):
        found = path.stat()
        return f"folder {found.st_dev}:{found.st_ino}"
    return str(path)


def _location(section: SourceSection | DestinationSection) -> str:
    """Return where a vault is, whichever snapshot of it is read; empty for anything else."""
    return section.location if isinstance(section, VaultSection) else ""


def _is_within(path: Path, folder: Path) -> bool:
    """Say whether a path is a folder or below it."""
    if path.is_relative_to(folder):
        return True
    with suppress(OSError):
        wanted = folder.stat()
        for one in (path, *path.parents):
            with suppress(OSError):
                if os.path.samestat(one.stat(), wanted):
                    return True
    return False


def _host_of(section: _PacsSource | _PacsDestination) -> str:
    """Return the least address of a host, or its name where nobody knows it now."""
    if isinstance(section, DimseSourceSection | DimseDestinationSection):
        name = section.host
    else:
        name = urlsplit(section.url).hostname or ""
    try:
        found = {str(row[4][0]) for row in socket.getaddrinfo(name, None)}
    except (OSError, UnicodeError):
        return name.lower()
    if any(ip_address(one.partition("%")[0]).is_loopback for one in found):
        return "localhost"
    return min(found)
