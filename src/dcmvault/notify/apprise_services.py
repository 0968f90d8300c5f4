"""Every service that apprise knows: push, SMS, chat. Needs the extra `apprise`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import apprise

from dcmvault.errors import NotificationRefusedError, NotificationUnreachableError
from dcmvault.model.notice import Message, Severity

_KINDS = {
    Severity.INFO: apprise.NotifyType.INFO,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
}


@dataclass(frozen=True, slots=True)
class AppriseNotifier:
    """Hands messages to one service by its apprise URL, which is a secret."""

    url: str = field(repr=False)

    @property
    def name(self) -> str:
        """Say which service it is, without where and who."""
        kind, is_url, _secrets = self.url.partition("://")
        return f"apprise ({kind})" if is_url and kind.isalnum() else "apprise"

    def send(self, message: Message) -> str:
        """Hand it over; apprise tells only whether it went well."""
        # Its log quotes addresses.
        logging.getLogger("apprise").disabled = True
        service = apprise.Apprise()
        if not service.add(self.url):
            raise NotificationRefusedError(
                f"{self.name}: this is not the URL of a service that apprise knows",
                hint="https://github.com/caronc/apprise/wiki lists them",
            )
        taken = service.notify(
            body=message.text,
            title=message.subject,
            notify_type=_KINDS[message.notice.severity],
            body_format=apprise.NotifyFormat.TEXT,
        )
        if not taken:
            raise NotificationUnreachableError(
                f"{self.name} did not take it",
                hint="check the URL of the service and the network",
            )
        return f"{self.name} took it"
