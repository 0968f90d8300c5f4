"""Pings: a service elsewhere raises the alarm when they stay away, also if this machine is dead."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from dcmvault.errors import NotificationRefusedError
from dcmvault.model.notice import Event, Message, Severity
from dcmvault.notify.posting import place_of, post

#: Names of runs become UUIDs in it: the service measures by them how long a run takes.
_RUNS = uuid.UUID("5c0e7d2a-6f3c-4c61-9a53-0d0b0f2d7e11")
#: What is said of a check must fit (healthchecks.io keeps 100 kB).
_LONGEST_WORDS = 10_000
_FAIL = "/fail"
#: Exit statuses that a URL can tell.
_STATUSES = range(256)
_SUFFIXES = {
    Event.RUN_STARTED: "/start",
    Event.RUN_OK: "",
    Event.ALERT: _FAIL,
    Event.OVERDUE: _FAIL,
    Event.TEST: "/log",
}


@dataclass(frozen=True, slots=True)
class HealthchecksNotifier:
    """Pings `URL/start`, `URL` and `URL/STATUS` as healthchecks.io and its kin take them."""

    url: str = field(repr=False)
    ca_file: str = ""

    @property
    def name(self) -> str:
        """Say where it goes; the path names the check, and is a secret."""
        return place_of(self.url)

    def send(self, message: Message) -> str:
        """Ping."""
        answer = post(
            self._url_of(message),
            message.text.encode()[:_LONGEST_WORDS],
            {"Content-Type": "text/plain; charset=utf-8"},
            ca_file=self.ca_file,
        )
        if b"not found" in answer.body[:100]:
            # healthchecks.io answers 200 to a ping of a check that there is not.
            raise NotificationRefusedError(
                f"{self.name} does not know this check",
                hint="copy the ping URL from its page once more",
            )
        return f"{self.name} was pinged"

    def _url_of(self, message: Message) -> str:
        notice = message.notice
        suffix = _SUFFIXES.get(notice.event)
        if suffix is None:
            # Not about a run: well, unless it says that something is not.
            is_well = not notice.run_id and notice.severity is Severity.INFO
            status = notice.facts.get("plan_exit_status", 0 if is_well else 1)
            is_told = isinstance(status, int) and status in _STATUSES
            suffix = f"/{status}" if is_told else _FAIL
        elif notice.event is Event.RUN_OK and notice.facts.get("plan_exit_status", 0):
            suffix = f"/{notice.facts['plan_exit_status']}"
        parts = urlsplit(self.url)
        query = parts.query
        if notice.run_id:
            query = "&".join(filter(None, (query, f"rid={uuid.uuid5(_RUNS, notice.run_id)}")))
        return urlunsplit(parts._replace(path=parts.path.rstrip("/") + suffix, query=query))
