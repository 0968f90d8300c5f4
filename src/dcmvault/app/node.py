"""Nodes: whether a destination is there and answers."""

from __future__ import annotations

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.destinations import NO_RETRY, build_destination
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.probe import ProbeStep
from dcmvault.ports.destination import Probes, Surveys


def echo(settings: Settings, address: str) -> tuple[ProbeStep, ...]:
    """Try a destination step by step, ending with C-ECHO at a PACS or a test write on a disk."""
    destination = build_destination(
        settings.destination(address).section, SystemClock(), retry=NO_RETRY
    )
    if not isinstance(destination, Probes):
        raise UsageError(_("%(address)s cannot be tried.") % {"address": address})
    return destination.probe()


def probe(settings: Settings, address: str, *, stores: bool) -> tuple[ProbeStep, ...]:
    """Try a destination step by step, then find out what it offers and how fast it is.

    With `stores` a test object is sent, and stays there.
    """
    destination = build_destination(
        settings.destination(address).section, SystemClock(), retry=NO_RETRY
    )
    if stores and not isinstance(destination, Surveys):
        raise UsageError(
            _("Bandwidth is measured at a PACS only."), hint=_("Leave out --bandwidth.")
        )
    steps = echo(settings, address)
    if isinstance(destination, Surveys) and all(step.ok for step in steps):
        steps += destination.survey(stores=stores)
    return steps
