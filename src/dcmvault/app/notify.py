"""Notifications from the outside: which channels there are, how they do, and whether they work."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dcmvault.app.announcing import notice_of_a_test
from dcmvault.app.messages import MessageWriter
from dcmvault.app.wiring.notifiers import build_notifier
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.addresses import did_you_mean
from dcmvault.config.notifications_section import ChannelSection
from dcmvault.config.settings import Settings
from dcmvault.errors import DcmvaultError, NotificationPartlyTakenError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.ports.notices import ChannelState

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tried:
    """How the test of a channel ended: what was answered, or what is wrong and what to do."""

    channel: str
    kind: str
    answer: str = ""
    problem: str = ""
    hint: str = ""
    code: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the message was taken."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel: as it is configured, and what became of its messages (None: it had none)."""

    name: str
    section: ChannelSection
    state: ChannelState | None


def try_channels(workplace: Workplace, names: Iterable[str]) -> list[Tried]:
    """Send a test message to each channel, past the outbox, and say what happened."""
    settings = workplace.settings
    writer = MessageWriter(settings, workplace.catalogue.runs)
    return [_try(workplace, writer, name) for name in _chosen(settings, names)]


def channel_views(workplace: Workplace) -> list[ChannelView]:
    """List the configured channels, in the order of the configuration."""
    states = {one.channel: one for one in workplace.catalogue.notices.channel_states()}
    return [
        ChannelView(name, section, states.get(name))
        for name, section in workplace.settings.notifications.items()
    ]


def silent_channels(workplace: Workplace) -> list[ChannelView]:
    """List the channels of which messages were given up and none was taken since.

    And those of which some recipients did not get the newest one.
    """
    return [
        view
        for view in channel_views(workplace)
        if view.state is not None
        and (
            view.state.code == NotificationPartlyTakenError.code
            or (
                view.state.last_given_up_at is not None
                and (
                    view.state.last_sent_at is None
                    or view.state.last_sent_at < view.state.last_given_up_at
                )
            )
        )
    ]


def _chosen(settings: Settings, names: Iterable[str]) -> list[str]:
    names = list(names)
    known: Mapping[str, ChannelSection] = settings.notifications
    if not known:
        raise UsageError(
            _("No channel is configured."),
            hint=_("Write one into the configuration: [notifications.NAME]."),
        )
    for name in names:
        if name not in known:
            raise UsageError(
                _("There is no channel “%s”.") % name,
                hint=did_you_mean(name, known)
                or _("Configured channels: %s.") % ", ".join(sorted(known)),
            )
    return names or list(known)


def _try(workplace: Workplace, writer: MessageWriter, name: str) -> Tried:
    section = workplace.settings.notifications[name]
    notice = notice_of_a_test(name, workplace.clock.now())
    try:
        notifier = build_notifier(section, workplace.clock)
        answer = notifier.send(writer.message(notice, section))
    except DcmvaultError as error:
        return Tried(name, section.channel, "", error.message, error.hint, error.code)
    except Exception as error:  # noqa: BLE001 - a plug-in raises anything; others are still tried
        _log.exception("the channel “%s” failed by a defect", name)
        problem = f"a defect ({type(error).__name__}); the log has more"
        return Tried(name, section.channel, "", problem, "", DcmvaultError.code)
    return Tried(name, section.channel, answer)
