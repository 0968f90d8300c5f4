"""How each kind of place is tried, step by step, with what hears of each step at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dcmvault.app.wiring.destinations import NO_RETRY, build_destination
from dcmvault.app.wiring.sources import build_source
from dcmvault.app.wiring.stores import open_vault_at, open_vault_store
from dcmvault.config.listener_section import ListenerSection
from dcmvault.config.peer_sections import (
    DicomwebSourceSection,
    DimseDestinationSection,
    DimsePeerSection,
    OrthancSourceSection,
    StowDestinationSection,
    WebPeerSection,
)
from dcmvault.config.plugin_sections import PluginDestinationSection
from dcmvault.config.sections import (
    DestinationSection,
    FolderDestinationSection,
    SourceSection,
    VaultSection,
)
from dcmvault.model.probe import ProbeStep
from dcmvault.ports.clock import Clock
from dcmvault.ports.destination import Probes

#: Waits of a test, in seconds: somebody sits before it.
_SHORT = {
    "connect_timeout_s": 5.0,
    "association_timeout_s": 8.0,
    "dimse_timeout_s": 15.0,
    "response_timeout_s": 15.0,
}

Tell = Callable[[ProbeStep], None]
_S = TypeVar("_S", DimsePeerSection, WebPeerSection)


def try_destination(
    section: DestinationSection, clock: Clock, tell: Tell, *, stores: bool, makes_vault: bool
) -> None:
    """Try a destination; what fails is told as a step.

    With `stores` a PACS is sent a test instance, which stays there. With `makes_vault` a vault
    need not be there yet: its place is tried instead.
    """
    if isinstance(section, DimseDestinationSection):
        _try_peer(section, clock, tell, stores=stores, receives=True)
    elif isinstance(section, StowDestinationSection):
        _try_web(section, clock, tell, stores=True)
    elif isinstance(section, VaultSection):
        if makes_vault:
            _try_store(section, clock, tell)
        else:
            _try_vault(section, clock, tell)
    else:
        assert isinstance(section, FolderDestinationSection | PluginDestinationSection)
        _tell_steps(build_destination(section, clock, retry=NO_RETRY), tell)


def try_source(section: SourceSection, clock: Clock, tell: Tell) -> None:
    """Try a source; what fails is told as a step, or raised as DcmvaultError."""
    if isinstance(section, DimsePeerSection):
        _try_peer(section, clock, tell, stores=False, receives=False)
    elif isinstance(section, DicomwebSourceSection):
        _try_web(section, clock, tell, stores=False)
    elif isinstance(section, OrthancSourceSection):
        from dcmvault.dicom.orthanc_probe import OrthancProbe  # noqa: PLC0415 - when needed
        from dcmvault.dicom.web_access import LookedUpAccess  # noqa: PLC0415 - when needed

        access = LookedUpAccess(_shortened(section), clock.monotonic)
        OrthancProbe(access, clock, tell).run()
    elif isinstance(section, VaultSection):
        _try_vault(section, clock, tell, writes=False)
    else:
        source = build_source(section, ListenerSection())
        begun = clock.monotonic()
        next(iter(source.studies()), None)
        tell(ProbeStep("list", True, "it can be read", clock.monotonic() - begun))


def _try_peer(
    section: DimsePeerSection, clock: Clock, tell: Tell, *, stores: bool, receives: bool
) -> None:
    from dcmvault.destinations.dimse_probe import DimseProbe  # noqa: PLC0415 - when needed
    from dcmvault.dicom.configured_peer import peer_of  # noqa: PLC0415 - when needed

    peer = peer_of(_shortened(section))
    if all(step.ok for step in DimseProbe(peer, clock, tell).climb()):
        DimseProbe(peer, clock, tell).survey(stores=stores, receives=receives)


def _try_web(section: WebPeerSection, clock: Clock, tell: Tell, *, stores: bool) -> None:
    from dcmvault.dicom.web_access import LookedUpAccess  # noqa: PLC0415 - when needed
    from dcmvault.dicom.web_probe import WebProbe  # noqa: PLC0415 - when needed

    access = LookedUpAccess(_shortened(section), clock.monotonic)
    WebProbe(access, clock, stores, tell).run()


def _try_vault(section: VaultSection, clock: Clock, tell: Tell, *, writes: bool = True) -> None:
    from dcmvault.destinations.vault_probe import VaultProbe  # noqa: PLC0415 - when needed

    VaultProbe(
        lambda: open_vault_at(section, clock, NO_RETRY), section.path, clock, tell, writes=writes
    ).run()


def _try_store(section: VaultSection, clock: Clock, tell: Tell) -> None:
    from dcmvault.object_stores.probe import StoreProbe  # noqa: PLC0415 - when needed

    if section.path is not None and not section.path.is_dir():
        # It is made with the vault, if what is above it allows that.
        _tell_steps(build_destination(FolderDestinationSection(path=section.path), clock), tell)
        return
    StoreProbe(open_vault_store(section, clock, NO_RETRY, cached=False), clock, tell).run()


def _tell_steps(place: object, tell: Tell) -> None:
    if isinstance(place, Probes):
        for step in place.probe():
            tell(step)


def _shortened(section: _S) -> _S:
    """Wait no longer than somebody who sits before it would."""
    waits = {
        name: min(getattr(section, name), longest)
        for name, longest in _SHORT.items()
        if hasattr(section, name)
    }
    return section.model_copy(update=waits)
