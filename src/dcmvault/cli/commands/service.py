"""`dcmvault service`: have systemd or launchd run the daemon."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from dcmvault.app import service
from dcmvault.cli.building import ExampleCommand, FamilyGroup, json_option
from dcmvault.cli.output import print_json, say, tell
from dcmvault.cli.session import current_settings
from dcmvault.config.places import state_folder
from dcmvault.i18n import gettext as _


def command() -> click.Command:
    """Build the group in the language in use."""
    return FamilyGroup(
        "service",
        text=_("Have the system run the daemon: systemd on Linux, launchd on macOS."),
        members=[_install_command(), _uninstall_command(), _status_command()],
    )


def _whose() -> list[click.Parameter]:
    return [
        click.Option(
            ["--system", "is_system"],
            is_flag=True,
            help=_("A service of the system, which runs before anybody logs in (Linux, as root)."),
        ),
        click.Option(
            ["--user"],
            default="",
            metavar=_("NAME"),
            help=_("With --system: the user that it runs as."),
        ),
    ]


def _dry_run() -> click.Option:
    return click.Option(
        ["--dry-run"], is_flag=True, help=_("Show the file and what would be run; do nothing.")
    )


def _install_command() -> click.Command:
    return ExampleCommand(
        "install",
        callback=_install,
        text=_(
            "Write the service, start it, and have it started from now on.\n\n"
            "Variables for secrets (env:NAME) stand in the file “environment” of the state folder. "
            "A service of a user runs while that user is logged in; on Linux also without, after: "
            "loginctl enable-linger"
        ),
        params=[*_whose(), _dry_run()],
        examples=[
            (_("What would be written"), "dcmvault service install --dry-run"),
            (_("For this user"), "dcmvault service install"),
            (_("For the machine"), "sudo dcmvault service install --system --user radiology"),
        ],
    )


def _uninstall_command() -> click.Command:
    return ExampleCommand(
        "uninstall",
        callback=_uninstall,
        text=_("Stop the service and remove it. State, configuration and copies stay."),
        params=[*_whose(), _dry_run()],
        examples=[(_("For this user"), "dcmvault service uninstall")],
    )


def _status_command() -> click.Command:
    return ExampleCommand(
        "status",
        callback=_status,
        text=_("Say whether the service is installed and runs. Exit status: 1 if it does not."),
        params=[*_whose(), json_option()],
        examples=[(_("At a glance"), "dcmvault service status")],
    )


def _asked(*, is_system: bool, user: str) -> service.Service:
    return service.service(
        current_settings(), _home(is_system=is_system), is_system=is_system, user=user
    )


def _home(*, is_system: bool) -> Path:
    at_system = is_system and "DCMVAULT_HOME" not in os.environ
    return service.SYSTEM_HOME if at_system else state_folder()


def _install(is_system: bool, user: str, dry_run: bool) -> int:
    one = _asked(is_system=is_system, user=user)
    if dry_run:
        say(f"# {one.path}")
        say(one.content.rstrip("\n"))
        _say_commands(one.install)
        return 0
    token = service.write(one, _home(is_system=is_system), is_own=not is_system)
    # Before the system is asked: whatever it answers, the token is not shown again.
    if token:
        say(_("The token of the API, shown this once: %s") % token)
    service.begin(one)
    say(_("The daemon is a service now: %s") % one.path)
    return 0


def _uninstall(is_system: bool, user: str, dry_run: bool) -> int:
    # What the configuration says does not matter for it.
    one = _asked(is_system=is_system, user=user or ("root" if is_system else ""))
    if dry_run:
        _say_commands(one.uninstall)
        say(f"rm {shlex.quote(str(one.path))}")
        _say_commands(one.after_removal)
        return 0
    if service.uninstall(one):
        say(_("The service is removed. State, configuration and copies stay."))
    else:
        tell(_("The service is not installed: %s") % one.path)
    return 0


def _status(is_system: bool, user: str, as_json: bool) -> int:
    found = service.state(_asked(is_system=is_system, user=user or ("root" if is_system else "")))
    status = 0 if found.running else 1
    if as_json:
        print_json(
            {
                "path": str(found.path),
                "installed": found.installed,
                "running": found.running,
                "told": found.told,
                "exit_status": status,
            }
        )
    elif not found.installed:
        say(_("The service is not installed: %s") % found.path)
    else:
        say(_("The service runs.") if found.running else _("The service does not run."))
    return status


def _say_commands(commands: tuple[tuple[str, ...], ...]) -> None:
    for one in commands:
        say(shlex.join(one))
