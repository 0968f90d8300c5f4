"""Which places this worker reaches, where several share the work: what it lacks is for others."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from dcmvault.config import secrets
from dcmvault.config.listener_section import ListenerSourceSection
from dcmvault.config.sections import (
    DestinationSection,
    FolderDestinationSection,
    SourceSection,
    VaultSection,
)
from dcmvault.config.settings import Settings
from dcmvault.errors import ConfigurationError, DestinationAbsentError
from dcmvault.model.plan import RunRequest
from dcmvault.ports.queue import LeftToOthers
from dcmvault.ports.workers import WorkerBook

#: Seconds for which it is remembered that a place could not be reached; a disk may be plugged in.
_REMEMBERED_S = 60.0
#: And for which others are remembered as they were when they were asked about.
_OTHERS_S = 1.0


class Whose(Enum):
    """Who is to do what needs some places."""

    #: This worker.
    OURS = auto()
    #: Another one; it lives, or it is waited for.
    OTHERS = auto()
    #: Nobody can; whoever looks says so.
    NOBODYS = auto()


@dataclass(frozen=True, slots=True)
class _Lack:
    """Why a place cannot be reached from here."""

    why: str
    #: The configuration says that it belongs to other hosts: then those are waited for.
    is_declared: bool = False
    #: It could be made here, and would then be in the wrong place for ever.
    must_not_be_made: bool = False


def name_of_host(settings: Settings) -> str:
    """Return how this host is called among those that share the database."""
    return settings.host or socket.gethostname()


@dataclass(slots=True)
class Reach:
    """What one worker reaches. Safe for threads."""

    settings: Callable[[], Settings]
    source_section: Callable[[str], SourceSection]
    destination_section: Callable[[str], DestinationSection]
    name: str
    worker_id: str
    #: None where nobody else works.
    book: WorkerBook | None
    _lacks: dict[str, tuple[float, str]] = field(default_factory=dict)
    _others: tuple[float, Sequence[Mapping[str, str]]] = (float("-inf"), ())
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def whose(self, request: RunRequest, destinations: Sequence[str]) -> Whose:
        """Say who is to do what needs the request's source and these destinations."""
        if self.book is None:
            return Whose.OURS
        lacking = self._lacking(request, destinations)
        if not lacking:
            return Whose.OURS
        others = self._lacks_of_others(self.book)
        if any(lack.is_declared for lack in lacking.values()):
            return Whose.OTHERS
        if any(not (lacking.keys() & lacks.keys()) for lacks in others):
            return Whose.OTHERS
        if others and any(lack.must_not_be_made for lack in lacking.values()):
            return Whose.NOBODYS
        return Whose.OURS

    def claim(self, request: RunRequest) -> None:
        """Leave a run to others where this worker does not reach all of its places.

        Raises LeftToOthers for one that another worker is to do, DestinationAbsentError for a
        folder that none has.
        """
        addresses = [wanted.address for wanted in request.destinations]
        whose = self.whose(request, addresses)
        if whose is Whose.OTHERS:
            raise LeftToOthers
        if whose is Whose.NOBODYS:
            raise self.refusal(request, addresses)

    def refusal(self, request: RunRequest, destinations: Sequence[str]) -> DestinationAbsentError:
        """Say what nobody has."""
        lacking = self._lacking(request, destinations)
        return DestinationAbsentError(
            f"none of the workers has {', '.join(sorted(lacking))}",
            hint="make the folder on the host where it is to be, or name that in [hosts]",
        )

    def lacks(self) -> Mapping[str, str]:
        """Return what could not be reached lately, by address, and why."""
        before = time.monotonic() - _REMEMBERED_S
        with self._lock:
            self._lacks = {place: lack for place, lack in self._lacks.items() if lack[0] >= before}
            return {place: why for place, (_at, why) in self._lacks.items()}

    def _lacking(self, request: RunRequest, destinations: Sequence[str]) -> dict[str, _Lack]:
        settings = self.settings()
        found: dict[str, _Lack | None] = {request.source: self._of_source(settings, request.source)}
        for address in destinations:
            found[address] = self._of_destination(settings, address)
        now_s = time.monotonic()
        with self._lock:
            for place, lack in found.items():
                if lack is None:
                    self._lacks.pop(place, None)
                else:
                    self._lacks[place] = (now_s, lack.why)
        return {place: lack for place, lack in found.items() if lack is not None}

    def _of_source(self, settings: Settings, address: str) -> _Lack | None:
        names = [name for name, one in settings.sources.items() if one.address == address]
        if lack := self._elsewhere(settings, [*names, address]):
            return lack
        section = self.source_section(address)
        if isinstance(section, VaultSection):
            return _of_vault(section)
        if isinstance(section, ListenerSourceSection):
            path: object = settings.listener.spool
        else:
            path = getattr(section, "path", None)
        if isinstance(path, Path) and not path.exists():
            return _Lack("there is no such folder here")
        return None

    def _of_destination(self, settings: Settings, address: str) -> _Lack | None:
        names = [n for n, one in settings.destinations.items() if one.section.address == address]
        if lack := self._elsewhere(settings, [*names, address]):
            return lack
        section = self.destination_section(address)
        if isinstance(section, VaultSection):
            return _of_vault(section)
        if isinstance(section, FolderDestinationSection) and not section.path.is_dir():
            if self._is_declared_here(settings, [*names, address]):
                return None
            return _Lack("there is no such folder here", must_not_be_made=True)
        return None

    def _elsewhere(self, settings: Settings, names: Sequence[str]) -> _Lack | None:
        """Say whether the configuration gives a place to other hosts only."""
        owners = _owners(settings, names)
        if owners and self.name not in owners:
            return _Lack(f"it belongs to {', '.join(owners)}", is_declared=True)
        return None

    def _is_declared_here(self, settings: Settings, names: Sequence[str]) -> bool:
        return self.name in _owners(settings, names)

    def _lacks_of_others(self, book: WorkerBook) -> Sequence[Mapping[str, str]]:
        """Return what each of the other living workers lacks."""
        at_s, others = self._others
        now_s = time.monotonic()
        if now_s - at_s >= _OTHERS_S:
            others = [
                worker.doing.lacks
                for worker in book.workers()
                if worker.identity.worker_id != self.worker_id
            ]
            self._others = (now_s, others)
        return others


def _owners(settings: Settings, names: Sequence[str]) -> list[str]:
    return [host for host, places in settings.hosts.items() if not {*places}.isdisjoint(names)]


def _of_vault(section: VaultSection) -> _Lack | None:
    if "://" not in section.location and not Path(section.location).is_dir():
        return _Lack("there is no such folder here")
    for reference in (section.passphrase, section.access_key, section.secret_key):
        try:
            if reference:
                secrets.resolve(reference)
        except ConfigurationError as error:
            return _Lack(error.message)
    for file in (section.key_file, section.identity_file):
        if file and not Path(file).is_file():
            return _Lack("the file of its key is not here")
    return None
