"""What an alert is called, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

from dcmvault.i18n import gettext as _


def alert_title(code: str) -> str:
    """Say what kind of alert a code is; a code that is not known speaks for itself."""
    titles: Mapping[str, str] = {
        "stalled": _("A transfer stands still"),
        "disk_low": _("Little space is left"),
        "disk_full_forecast": _("The disk will soon be full"),
        "cpu_high": _("The machine is busy"),
        "destination_down": _("A destination cannot be reached"),
        "certificate_expiring": _("A certificate ends soon"),
        "verification_debt": _("Copies wait to be verified again"),
        "mass_change": _("Unusually many files of a source changed"),
        "mass_disappearance": _("Unusually many files of a source are gone"),
    }
    return titles.get(code, code)


def alert_next_step(code: str) -> str:
    """Say what to do about an alert."""
    held = _("The run waits for you: look at the source, then let it go on or cancel it.")
    steps: Mapping[str, str] = {
        "stalled": _("Check with `dcmvault node echo` that the destination answers."),
        "disk_low": _("Make room on this volume."),
        "disk_full_forecast": _("Make room on this volume, or move what is on it."),
        "cpu_high": _("If it slows other work down, give backups a window at night."),
        "destination_down": _("Check with `dcmvault node echo` that the destination answers."),
        "certificate_expiring": _("Have the certificate renewed before it ends."),
        "verification_debt": _("Verify what is due: dcmvault verify SOURCE --at DESTINATION --due"),
        "mass_change": held,
        "mass_disappearance": held,
    }
    return steps.get(code, _("Look at what is protected where, and mend the first that is not."))
