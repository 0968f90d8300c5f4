"""Which class checks the options of a channel: one of ours, or a plug-in's."""

from __future__ import annotations

from dcmvault.config.addresses import did_you_mean
from dcmvault.config.notifications_section import CHANNELS, ChannelSection
from dcmvault.config.plugins import PluginGroup, plugin, plugin_names
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
