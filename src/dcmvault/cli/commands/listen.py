"""`dcmvault listen`: take what is pushed to us, and back it up as soon as its study has settled."""

from __future__ import annotations

import json
import threading

import click

from dcmvault.app.backup import follow, make_request, start
from dcmvault.app.listen import Arrivals, Listening
from dcmvault.app.wiring.audit import forwarding_audit
from dcmvault.app.wiring.listener import receiving
from dcmvault.cli.building import ExampleCommand, level_of, level_option, progress_option
from dcmvault.cli.interrupts import stoppable
from dcmvault.cli.output import is_operators_screen, say, tell, tell_error
from dcmvault.cli.progress import shown
from dcmvault.cli.session import Session, current_settings, opened
from dcmvault.cli.summary import summarise
from dcmvault.errors import RunInterruptedError
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.plan import RunKind, RunRequest
from dcmvault.model.report import Privacy, RunReport
from dcmvault.reports.summary import summary


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "listen",
        callback=_listen,
        text=_(
            "Take studies that are sent to us (C-STORE), and back them up as they come.\n\n"
            "Listens as [listener] in the configuration says, until Ctrl-C or SIGTERM. An instance "
            "is answered with success only when it is durable in the spool; a study is backed up "
            "when it got no new instance for a while. Instances leave the spool when every "
            "destination holds them. After an interruption, even a power cut, the same command "
            "goes on with what is in the spool."
        ),
        params=[
            click.Option(
                ["--to"],
                multiple=True,
                required=True,
                metavar="DESTINATION",
                help=_("Where to: an address or a configured name. May be given several times."),
            ),
            level_option("--verify"),
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                help=_("Print one JSON object per event and line on stdout, and nothing else."),
            ),
            progress_option(),
        ],
        examples=[
            (
                _("Protect all that a modality or Horos sends, in a vault and at a PACS"),
                "dcmvault listen --to vault:/Volumes/Backup/vault --to pacs",
            )
        ],
    )


def _listen(to: tuple[str, ...], level: str | None, as_json: bool, progress: str) -> int:
    settings = current_settings()
    request = make_request(
        settings,
        kind=RunKind.BACKUP,
        source="listener:",
        destinations=to,
        level=level_of(level),
    )
    events = _Events(as_json=as_json)
    arrivals = Arrivals()
    with (
        opened(settings) as session,
        forwarding_audit(session.home, settings.audit),
        stoppable() as stop,
        receiving(
            settings.listener, session.workplace.catalogue.holdings, arrivals.arrived
        ) as receiver,
    ):
        events.listening(settings.listener.ae_title, settings.listener.host, receiver.port)
        listening = Listening(session.workplace, request, receiver, arrivals, events.cleared)
        while listening.wait(stop):
            try:
                report = _run(session, request, stop, progress)
            except RunInterruptedError:
                break
            events.ran(report)
            listening.ended(is_good=report.exit_status == 0)
    events.stopped()
    return 0


def _run(session: Session, request: RunRequest, stop: threading.Event, progress: str) -> RunReport:
    """Back up what has settled, and then let go of the state folder: others may want to work."""
    started = start(session.workplace, request)
    try:
        with shown(progress, request.kind) as watch:
            return follow(session.workplace, started.run_id, watch, stop)
    finally:
        session.workplace.rest()


class _Events:
    """Says what happens, to people or as one JSON object per line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def listening(self, ae_title: str, host: str, port: int) -> None:
        """Say that instances can come."""
        if self._as_json:
            self._write("listening", {"ae_title": ae_title, "host": host, "port": port})
        else:
            say(
                _("Listening as %(title)s on %(host)s, port %(port)d. Ctrl-C ends it.")
                % {"title": ae_title, "host": host, "port": port}
            )

    def ran(self, report: RunReport) -> None:
        """Say how a backup ended."""
        if self._as_json:
            self._write("run", summary(report, Privacy.FULL))
            return
        if report.error is None or report.counts.selected:
            say(summarise(report, show_locators=is_operators_screen()))
        if report.error is not None:
            _code, message, hint = report.error
            tell_error(message, hint)

    def cleared(self, instances: int) -> None:
        """Say what left the spool."""
        if self._as_json:
            self._write("cleared", {"instances": instances})
            return
        sentence = ngettext(
            "%s instance left the spool: every destination holds it.",
            "%s instances left the spool: every destination holds them.",
            instances,
        )
        tell(sentence % format_number(instances))

    def stopped(self) -> None:
        """Say that it ends."""
        if self._as_json:
            self._write("stopped", {})
        else:
            say(_("Stopped. What is in the spool is backed up the next time."))

    def _write(self, event: str, values: dict[str, object]) -> None:
        say(json.dumps({"event": event, **values}))
