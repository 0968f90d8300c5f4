"""The sections `[notifications.NAME]`: who is told of what, how, and in which language."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, model_validator

from dcmvault.config.options import SecretReference, Section
from dcmvault.config.secrets import is_reference
from dcmvault.i18n import gettext as _
from dcmvault.model.notice import Event, Severity
from dcmvault.model.report import Privacy

#: What a channel can ask for; an end comes with its begin.
EVENT_WORDS = tuple(
    event.value for event in Event if event.subscription is event and event is not Event.TEST
)
SEVERITY_WORDS = tuple(severity.value for severity in Severity)
WEEKDAY_WORDS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])\Z")
#: Addresses as RFC 5321 has them, unquoted and in ASCII: what every server takes and every header.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_MAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*\Z")
#: What people who should look would want to hear of.
_WHAT_MATTERS = ("run_incomplete", "run_failed", "alert", "overdue", "weekly")
_RUNS = ("run_started", "run_ok", "run_incomplete", "run_failed")


def _checked_event(word: str) -> str:
    if word not in EVENT_WORDS:
        raise ValueError(_("Write one of: %s.") % ", ".join(EVENT_WORDS))
    return word


def _checked_time(text: str) -> str:
    if not _TIME.match(text):
        raise ValueError(_("Write a time of day such as “07:00”."))
    return text


def _checked_mail(text: str) -> str:
    if not _MAIL.match(text):
        raise ValueError(_("Write one mail address, such as “name@example.org”."))
    return text


def _checked_url(text: str) -> str:
    if is_reference(text):
        return text
    parts = require_service(text)
    if parts.username is not None or parts.password is not None:
        raise ValueError(_("A password does not belong here: write env:NAME or file:PATH."))
    return text


_Event = Annotated[str, AfterValidator(_checked_event)]
_TimeOfDay = Annotated[str, AfterValidator(_checked_time)]
MailAddress = Annotated[str, AfterValidator(_checked_mail)]
#: A URL, or where one is that nobody should read.
ServiceUrl = Annotated[str, AfterValidator(_checked_url)]


class ChannelSection(Section):
    """What all channels have: of what they tell, when, and in which words."""

    #: Events that the channel tells of where the configuration names none.
    usual_events: ClassVar[tuple[str, ...]] = _WHAT_MATTERS

    #: The kind: “mail”, “webhook”, “healthchecks”, “apprise”, or that of a plug-in.
    channel: str
    #: Plans that it tells of; empty: of all, and of runs that belong to none.
    plans: tuple[str, ...] = ()
    #: What matters less is not told.
    severity: Literal["info", "warning", "critical"] = "info"
    #: What it tells of; empty: what such a channel usually tells of.
    events: tuple[_Event, ...] = ()
    #: Language of its messages; empty: as everything else.
    language: Literal["", "en", "pt-BR"] = ""
    #: How much patient data leaves with its messages.
    privacy: Privacy = Privacy.OFF
    #: Local time of the digest and of the weekly message.
    at: _TimeOfDay = "07:00"
    #: Day of the weekly message.
    weekday: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] = "mon"

    @property
    def told_events(self) -> tuple[str, ...]:
        """The events that it tells of."""
        return self.events or self.usual_events

    @property
    def minute_of_day(self) -> int:
        """When digests are sent, in minutes after midnight."""
        hours, minutes = self.at.split(":")
        return int(hours) * 60 + int(minutes)


class MailSection(ChannelSection):
    """Mail, by SMTP."""

    channel: Literal["mail"] = "mail"
    #: The mail server.
    host: str = Field(min_length=1)
    #: 0: the usual port of `security`.
    port: int = Field(default=0, ge=0, le=65_535)
    #: “starttls”, “tls” from the first byte, or “none” (on this machine only).
    security: Literal["starttls", "tls", "none"] = "starttls"
    #: Who logs in; empty: nobody does.
    user: str = ""
    password: SecretReference = ""
    #: The sender.
    sender: MailAddress
    #: Who gets it.
    to: Annotated[tuple[MailAddress, ...], Field(min_length=1)]
    #: Whether the report of a run goes with the mail about it.
    report: Literal["attached", "none"] = "attached"
    #: Path of the certificates (PEM) that sign the server's; empty: the system's.
    tls_ca_file: str = ""

    @model_validator(mode="after")
    def _is_private(self) -> Self:
        if self.security == "none" and not _is_this_machine(self.host):
            raise ValueError(
                _("Without TLS mail can be read on the way: write “starttls” or “tls”.")
            )
        if bool(self.user) != bool(self.password):
            raise ValueError(_("A login needs both, “user” and “password”."))
        return self

    @property
    def relay_port(self) -> int:
        """The port to connect to."""
        return self.port or {"starttls": 587, "tls": 465, "none": 25}[self.security]


class WebSection(ChannelSection):
    """A channel that is reached over HTTP."""

    #: Where to: a URL, or `env:NAME` or `file:PATH` where the URL itself is a secret.
    url: ServiceUrl
    #: HTTP without TLS to another machine: all that is sent can be read on the way.
    allow_plain_http: bool = False
    #: Path of the certificates (PEM) that sign the server's; empty: the system's.
    tls_ca_file: str = ""

    @model_validator(mode="after")
    def _is_encrypted(self) -> Self:
        if not is_reference(self.url):
            require_tls(self.url, allow_plain_http=self.allow_plain_http)
        return self


class WebhookSection(WebSection):
    """JSON by POST, for programs."""

    usual_events: ClassVar[tuple[str, ...]] = EVENT_WORDS

    channel: Literal["webhook"] = "webhook"
    #: The key of the signature (HMAC-SHA256) in the header `Dcmvault-Signature`.
    secret: SecretReference = ""


class HealthchecksSection(WebSection):
    """Pings as healthchecks.io and its kin take them: an alarm goes off when they stay away."""

    usual_events: ClassVar[tuple[str, ...]] = _RUNS

    channel: Literal["healthchecks"] = "healthchecks"


class AppriseSection(ChannelSection):
    """Whatever service apprise knows: push, SMS, chat. Needs the extra `apprise`."""

    channel: Literal["apprise"] = "apprise"
    #: Where the URL of the service is, as apprise writes it.
    service: Annotated[SecretReference, Field(min_length=1)]


#: Sections by their kind.
CHANNELS: dict[str, type[ChannelSection]] = {
    "mail": MailSection,
    "webhook": WebhookSection,
    "healthchecks": HealthchecksSection,
    "apprise": AppriseSection,
}


def require_service(url: str) -> SplitResult:
    """Return the parts of a URL that HTTP can reach; ValueError for another, without quoting it."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, no IPv6 address
        is_good = False
    if not (is_good and url.isascii() and url.isprintable() and " " not in url):
        raise ValueError(_("Write a URL that begins with https://, or env:NAME or file:PATH."))
    return parts


def require_tls(url: str, *, allow_plain_http: bool) -> None:
    """Raise ValueError for HTTP without TLS to another machine, unless that is allowed."""
    parts = urlsplit(url)
    if parts.scheme == "https" or allow_plain_http or _is_this_machine(parts.hostname or ""):
        return
    raise ValueError(
        _("HTTP without TLS can be read on the way: write https://, or allow_plain_http = true.")
    )


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
