"""The duty of telling the audit collector what the journal gets while the daemon runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from dcmvault.app.wiring.audit import audit_forwarding
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.audit_section import AuditSection
from dcmvault.errors import DcmvaultError

_log = logging.getLogger(__name__)

#: Between looks; and after a failure, twice as long each time, at most.
_LOOK = timedelta(seconds=1)
_LONGEST_WAIT = timedelta(minutes=1)


class AuditForwarding:
    """Sends what waits, by the settings of the moment, as a function of the time."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._section: AuditSection | None = None
        #: Sends what waits; None where there is no collector.
        self._forward: Callable[[], object] | None = None
        self._wait = _LOOK

    def __call__(self, now: datetime) -> datetime:
        """Send what the collector does not have; say when to look again."""
        try:
            self._follow_settings()
            if self._forward is not None:
                self._forward()
            self._wait = _LOOK
        except (DcmvaultError, OSError) as error:
            if self._wait == _LOOK:
                _log.warning("audit messages wait: %s", error)
            self._wait = min(self._wait * 2, _LONGEST_WAIT)
        return now + self._wait

    def _follow_settings(self) -> None:
        """Make what sends, once for each configuration: there may be a secret to fetch."""
        section = self._workplace.settings.audit
        if section != self._section:
            self._forward = None
            forwarding = audit_forwarding(self._workplace.home, section)
            self._forward = None if forwarding is None else forwarding.forward
            self._section = section
