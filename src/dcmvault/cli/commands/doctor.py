"""`dcmvault doctor`: find out what is wrong here, and what to do."""

from __future__ import annotations

import click

from dcmvault.app.doctor import examine
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import mark, print_json, say
from dcmvault.config.places import config_path, state_folder
from dcmvault.i18n import format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "doctor",
        callback=_doctor,
        text=_(
            "Look at the program, the state folder, the configuration and every configured place. "
            "Exit status: 1 if something is wrong."
        ),
        params=[json_option()],
        examples=[(_("A check-up"), "dcmvault doctor")],
    )


def _doctor(as_json: bool) -> int:
    home = state_folder()
    checks = examine(home, config_path(home))
    wrong = sum(check.ok is False for check in checks)
    status = 1 if wrong else 0
    if as_json:
        print_json(
            {
                "checks": [
                    {
                        "name": check.name,
                        "ok": check.ok,
                        "detail": check.detail,
                        "hint": check.hint,
                    }
                    for check in checks
                ],
                "exit_status": status,
            }
        )
        return status
    width = max(len(check.name) for check in checks)
    for check in checks:
        say(f"{mark(check.ok)} {check.name.ljust(width)}  {visible(sentence(check.detail))}")
        if check.hint:
            say(f"  → {visible(sentence(check.hint))}")
    if wrong:
        say(ngettext("%s thing is wrong.", "%s things are wrong.", wrong) % format_number(wrong))
    else:
        say(_("All is well."))
    return status
