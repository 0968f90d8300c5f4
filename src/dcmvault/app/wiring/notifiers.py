"""Which adapter stands behind a channel's section."""

from __future__ import annotations

from dcmvault.config import secrets
from dcmvault.config.notifications_section import (
    AppriseSection,
    ChannelSection,
    HealthchecksSection,
    MailSection,
    WebhookSection,
    WebSection,
    require_service,
    require_tls,
)
from dcmvault.config.plugins import PluginGroup, plugin
from dcmvault.errors import ConfigurationError
from dcmvault.i18n import gettext as _
from dcmvault.ports.clock import Clock
from dcmvault.ports.notifier import Notifier
from dcmvault.ports.surroundings import Surroundings


def build_notifier(section: ChannelSection, clock: Clock) -> Notifier:
    """Make the adapter of a channel with the secrets that it refers to; nothing is connected.

    Raises ConfigurationError where a reference leads nowhere or an extra is not installed, and
    PluginError.
    """
    if isinstance(section, MailSection):
        from dcmvault.notify.mail import MailNotifier, MailRelay  # noqa: PLC0415 - when needed

        server = MailRelay(
            section.host,
            section.relay_port,
            section.security,
            section.user,
            _secret(section.password),
            section.tls_ca_file,
        )
        return MailNotifier(server, section.sender, section.to)
    if isinstance(section, WebhookSection):
        from dcmvault.notify.webhook import WebhookNotifier  # noqa: PLC0415 - when needed

        return WebhookNotifier(_url(section), clock, _secret(section.secret), section.tls_ca_file)
    if isinstance(section, HealthchecksSection):
        from dcmvault.notify.healthchecks import HealthchecksNotifier  # noqa: PLC0415 - when needed

        return HealthchecksNotifier(_url(section), section.tls_ca_file)
    if isinstance(section, AppriseSection):
        try:
            from dcmvault.notify.apprise_services import AppriseNotifier  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                _("A part of dcmvault that apprise needs is not installed."),
                hint="pip install 'dcmvault[apprise]'",
            ) from error

        return AppriseNotifier(_secret(section.service))
    found = plugin(PluginGroup.NOTIFIERS, section.channel)
    assert found is not None  # its section was made by it
    notifier: Notifier = found.build(section, Surroundings(clock, secrets.resolve))
    return notifier


def _secret(reference: str) -> str:
    return secrets.resolve(reference) if reference else ""


def _url(section: WebSection) -> str:
    """Return the URL, also where it is referred to; then it is checked as others are."""
    if not secrets.is_reference(section.url):
        return section.url
    url = secrets.resolve(section.url)
    try:
        require_service(url)
        require_tls(url, allow_plain_http=section.allow_plain_http)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return url
