"""The duty of reloading: the configuration is read anew when it changed, or on SIGHUP."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from dcmvault.config.differences import changed_keys, waiting_for_restart
from dcmvault.config.load import load_settings
from dcmvault.config.settings import Settings
from dcmvault.errors import ConfigurationError
from dcmvault.ports.events import Announcements, Topic

_log = logging.getLogger(__name__)

_LOOK = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of a changed configuration, by key: “plans.nightly”, “web.port”."""

    in_force: tuple[str, ...] = ()
    after_restart: tuple[str, ...] = ()
    #: Why nothing of it is in force: a sentence and what to do.
    refusal: tuple[str, str] | None = None


class Reloading:
    """Watches the configuration file, and has the daemon work by it."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        adopt: Callable[[Settings], None],
        tell: Callable[[Reloaded], None],
        announcements: Announcements,
    ) -> None:
        self._path = path
        #: As the daemon started: what needs a restart is not in force until then.
        self._at_start = settings
        self._in_force = settings
        self._adopt = adopt
        self._tell = tell
        self._announcements = announcements
        self._seen = _look_of(path)
        self._asked = threading.Event()
        self._last = Reloaded()

    @property
    def last(self) -> Reloaded:
        """What became of the last change."""
        return self._last

    def ask(self) -> None:
        """Read it at the next look, changed or not. From any thread, and from signal handlers."""
        self._asked.set()

    def __call__(self, now: datetime) -> datetime:
        """Read the configuration if the file is not as it was, or if somebody asked."""
        look = _look_of(self._path)
        asked = self._asked.is_set()
        if asked or look != self._seen:
            self._asked.clear()
            self._seen = look
            self._reload(asked=asked)
        return now + _LOOK

    def _reload(self, *, asked: bool) -> None:
        try:
            settings = load_settings(self._path)
        except ConfigurationError as error:
            _log.warning("the changed configuration is wrong; the one before stays in force")
            self._keep(Reloaded((), self._last.after_restart, (error.message, error.hint)))
            return
        changed = changed_keys(self._in_force, settings)
        late = waiting_for_restart(self._at_start, settings, changed)
        in_force = tuple(key for key in changed if key not in late)
        if in_force:
            self._adopt(settings)
        self._in_force = settings
        since_start = changed_keys(self._at_start, settings)
        waiting = tuple(waiting_for_restart(self._at_start, settings, since_start))
        if changed or asked or self._last.refusal:
            self._keep(Reloaded(in_force, waiting))

    def _keep(self, reloaded: Reloaded) -> None:
        self._last = reloaded
        _log.info(
            "configuration: in force %s; after a restart %s",
            ", ".join(reloaded.in_force) or "-",
            ", ".join(reloaded.after_restart) or "-",
        )
        self._announcements.announce(Topic.STATUS, {"configuration": as_data(reloaded)})
        self._tell(reloaded)


def as_data(reloaded: Reloaded) -> dict[str, object]:
    """Return what became of a change, JSON-able."""
    refusal = reloaded.refusal
    return {
        "in_force": list(reloaded.in_force),
        "after_restart": list(reloaded.after_restart),
        "refusal": None if refusal is None else {"message": refusal[0], "hint": refusal[1]},
    }


def _look_of(path: Path) -> tuple[int, int, int] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino
