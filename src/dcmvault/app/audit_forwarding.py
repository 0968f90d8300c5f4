"""The duty of telling the audit collector what the journal gets while the daemon runs."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dcmvault.app.wiring.audit import audit_forwarding
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.audit_section import AuditSection
from dcmvault.errors import DcmvaultError

if TYPE_CHECKING:
    from dcmvault.audit.forwarding import Forwarding

_log = logging.getLogger(__name__)

#: Between looks; and after a failure, twice as long each time, at most.
_LOOK = timedelta(seconds=1)
_LONGEST_WAIT = timedelta(minutes=1)


class AuditForwarding:
    """Sends what waits, by the settings of the moment, as a function of the time."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._section: AuditSection | None = None
        self._forwarding: Forwarding | None = None
        self._wait = _LOOK

    def __call__(self, now: datetime) -> datetime:
        """Send what the collector does not have; say when to look again."""
        try:
            forwarding = self._current()
            if forwarding is not None:
                forwarding.forward()
            self._wait = _LOOK
        except (DcmvaultError, OSError) as error:
            if self._wait == _LOOK:
                _log.warning("audit messages wait: %s", error)
            self._wait = min(self._wait * 2, _LONGEST_WAIT)
        return now + self._wait

    def _current(self) -> Forwarding | None:
        """Return what sends; made once for each configuration: there may be a secret to fetch."""
        section = self._workplace.settings.audit
        if section != self._section:
            self._forwarding = audit_forwarding(self._workplace.home, section)
            self._section = section
        return self._forwarding
