"""The duty of working: the daemon is the worker, and becomes it again when it has lost that."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import StateError
from dcmvault.ports.events import Announcements, Topic

_log = logging.getLogger(__name__)

#: Between looks whether the work can be taken over from a command that did it.
_LOOK = timedelta(seconds=1)
#: Seconds for what is in flight when a shared database was lost.
_GRACE_S = 5.0


class Working:
    """Takes work, unless a command of this state folder does it at the moment."""

    def __init__(self, workplace: Workplace, announcements: Announcements) -> None:
        self._workplace = workplace
        self._announcements = announcements
        self._told: bool | None = None

    def __call__(self, now: datetime) -> datetime:
        """Begin to work if nobody does; a worker that cannot write down its work starts anew."""
        try:
            working = self._workplace.work()
        except StateError as error:
            _log.error("the work stops: %s", error.message)
            self._tell(working=False)
            # Where others may go on with it, what is in flight ends first.
            is_shared = self._workplace.catalogue.workers is not None
            self._workplace.rest(_GRACE_S if is_shared else 0)
            if is_shared:
                # A server that was away comes back, and then nothing is to be waited for.
                return now + _LOOK
            raise
        self._tell(working=working)
        return now + _LOOK

    def _tell(self, *, working: bool) -> None:
        if working is not self._told:
            self._told = working
            self._announcements.announce(Topic.STATUS, {"working": working})
