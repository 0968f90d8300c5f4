"""Working for an installation of several hosts: nothing but the work, until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.config.settings import Settings
from dcmvault.errors import ConfigurationError, StateError
from dcmvault.i18n import gettext as _

_log = logging.getLogger(__name__)

WORKER = "worker"
#: Seconds between looks whether the work goes on, and for what is in flight when it does not.
_LOOK_S = 1.0
_GRACE_S = 5.0
#: Seconds for what is in flight at a stop; all is over within five.
_STOP_S = 2.5


@contextmanager
def worker_of(home: Path, settings: Settings, name: str = "") -> Iterator[Workplace]:
    """Open a workplace to be a worker of, and work within; `name` is that of the host.

    Raises ConfigurationError where the installation is of one host, StateError where another
    process works in this state folder, or the database cannot be used.
    """
    if not settings.database:
        raise ConfigurationError(
            _("Workers of several hosts share a PostgreSQL database, and none is configured."),
            hint=_(
                'Write database = "postgresql://..." into the configuration; see “several hosts”.'
            ),
        )
    with open_workplace(home, settings) as workplace:
        workplace.together.role = WORKER
        if name:
            workplace.together.reach.name = name
        if not workplace.work():
            raise StateError(
                _("Another process works in this state folder."),
                hint=_("Give each worker a folder of its own with DCMVAULT_HOME."),
            )
        try:
            yield workplace
        finally:
            workplace.rest(_STOP_S)


def keep_working(workplace: Workplace, stop: threading.Event) -> None:
    """Work until the stop; begin anew whenever the database was lost, as soon as it is back."""
    is_lost = False
    while not stop.wait(_LOOK_S):
        try:
            workplace.work()
        except StateError as error:
            if not is_lost:
                _log.error("the work waits: %s", error.message)
            is_lost = True
            workplace.rest(_GRACE_S)
        else:
            if is_lost:
                _log.warning("the work goes on")
            is_lost = False
