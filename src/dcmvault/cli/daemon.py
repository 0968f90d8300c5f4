"""`dcmvault serve` without a vault: the daemon, what it says, and what signals ask of it."""

from __future__ import annotations

import json

from dcmvault.cli.interrupts import hangups, stoppable
from dcmvault.cli.output import say, tell
from dcmvault.cli.session import begin_log, current_settings
from dcmvault.config.places import state_folder
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.i18n import sentence

try:
    from dcmvault.daemon.reloading import Reloaded, as_data
    from dcmvault.daemon.running import Running, running
    from dcmvault.web.asset_files import missing_assets
except ModuleNotFoundError as error:  # the extra `web`
    raise UsageError(
        _("The daemon needs a package that is not installed: %s.") % error.name,
        hint=_("Install dcmvault with the extra “web”: pip install 'dcmvault[web]'"),
    ) from error


def run_daemon(web_port: int | None, *, as_json: bool) -> int:
    """Be the daemon until SIGINT or SIGTERM; a second one does not wait."""
    settings = current_settings()
    home = state_folder()
    begin_log(home)
    says = _Says(as_json=as_json)
    with (
        hangups() as asked,
        stoppable() as stop,
        running(home, settings, says.reloaded, web_port) as daemon,
    ):
        says.running(daemon)
        asked.action = daemon.reload
        stop.wait()
    says.stopped()
    return 0


class _Says:
    """Says what happens, to people or as one JSON object per line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def running(self, daemon: Running) -> None:
        """Say that it runs, and where; show a new token, this once."""
        if self._as_json:
            self._write(
                "running",
                {
                    "address": daemon.address,
                    "working": daemon.working,
                    "listener_port": daemon.listener_port or None,
                    "token": daemon.token or None,
                    "first_link": daemon.first_link or None,
                },
            )
            return
        say(_("The daemon runs. Its API: %s. Ctrl-C ends it.") % daemon.address)
        if daemon.token:
            say(_("The token of the API, shown this once: %s") % daemon.token)
        if daemon.first_link:
            say(_("Begin here, on this machine; the link works once, for an hour:"))
            say(f"  {daemon.first_link}")
        if daemon.listener_port:
            say(_("What is sent to port %d is backed up as it comes.") % daemon.listener_port)
        if missing_assets():
            tell(
                _(
                    "The pages of the dashboard lack their scripts; they work without. Run "
                    "“make assets” where the checkout is."
                )
            )
        if not daemon.working:
            say(_("Another command does the work now; the daemon takes over when that ends."))

    def reloaded(self, what: Reloaded) -> None:
        """Say what became of a changed configuration."""
        if self._as_json:
            self._write("configuration", as_data(what))
            return
        if what.refusal is not None:
            message, hint = what.refusal
            tell(_("The changed configuration is wrong; the one before stays in force."))
            tell(f"  {sentence(message)}\n  → {hint}")
            return
        tell(_("The configuration was read anew."))
        if what.in_force:
            tell("  " + _("In force: %s") % ", ".join(what.in_force))
        if what.after_restart:
            tell("  " + _("After a restart: %s") % ", ".join(what.after_restart))

    def stopped(self) -> None:
        """Say that it ended."""
        if self._as_json:
            self._write("stopped", {})
        else:
            say(_("Stopped. What is unfinished goes on at the next start."))

    @staticmethod
    def _write(event: str, values: dict[str, object]) -> None:
        say(json.dumps({"event": event, **values}))
