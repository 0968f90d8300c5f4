"""What is checked of channels beyond their options: their kind, and the plans they are for."""

from __future__ import annotations

from collections.abc import Iterator

from dcmvault.config.addresses import did_you_mean
from dcmvault.config.hooks_section import HooksSection
from dcmvault.config.notifications_section import CHANNELS, ChannelSection
from dcmvault.config.plugins import PluginGroup, plugin, plugin_names
from dcmvault.config.settings import Settings
from dcmvault.errors import AddressError
from dcmvault.i18n import gettext as _


def channel_class(kind: object) -> type[ChannelSection]:
    """Return the class of a kind of channel.

    Raises AddressError for one that there is not, and PluginError for a plug-in that is broken.
    """
    if isinstance(kind, str) and kind in CHANNELS:
        return CHANNELS[kind]
    if isinstance(kind, str) and (found := plugin(PluginGroup.NOTIFIERS, kind)):
        assert issubclass(found.section, ChannelSection)
        return found.section
    known = [*CHANNELS, *plugin_names(PluginGroup.NOTIFIERS)]
    meant = did_you_mean(kind, known) if isinstance(kind, str) else ""
    raise AddressError(
        _("Say what kind of channel this is."), hint=meant or _("Kinds: %s.") % ", ".join(known)
    )


def unknown_plans(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Name the plans that channels and hooks are for, and that there are not: where, and why."""
    users: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
        (("notifications", name, "plans"), channel.plans)
        for name, channel in settings.notifications.items()
    ]
    for when in HooksSection.model_fields:
        hook = getattr(settings.hooks, when)
        if hook is not None:
            users.append((("hooks", when, "plans"), hook.plans))
    for where, names in users:
        for name in names:
            if name not in settings.plans:
                reason = _("There is no plan “%s”.") % name
                yield where, " ".join([reason, did_you_mean(name, settings.plans)]).rstrip()
