"""Which addresses may be tested from the dashboard, and by whom: a test makes us connect.

Without this somebody who may only look could have this machine ask others in its network, and
learn from the answers what is there (server-side request forgery).
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address

from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.account import Role


def check_may_test(role: Role, address: str, configured: Collection[str], host: str = "") -> None:
    """Raise UsageError unless somebody of this role may have an address tested.

    What is configured (names and addresses) may be tested by who steers work; anything else by
    administrators only. `host` is the host that would be connected to: places where clouds tell
    machines their secrets (link-local addresses) are for nobody.
    """
    if not role.may(Role.OPERATOR):
        raise UsageError(_("This is not for your account."))
    if address in configured:
        return
    if not role.may(Role.ADMINISTRATOR):
        raise UsageError(
            _("Only an administrator tests an address that is not configured."),
            hint=_("Choose one of the configured destinations."),
        )
    if any(_is_off_limits(one) for one in _addresses_of(host)):
        raise UsageError(
            _("Link-local addresses are not tested."),
            hint=_("Give the machine an address of your network, and use that."),
        )


def _addresses_of(host: str) -> set[IPv4Address | IPv6Address]:
    if not host:
        return set()
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()  # who connects says so better
    return {ip_address(str(one[4][0]).partition("%")[0]) for one in found}


def _is_off_limits(address: IPv4Address | IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_link_local
