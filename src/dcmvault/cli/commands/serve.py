"""`dcmvault serve`: a vault answers as a PACS, so that people keep reading during a disaster."""

from __future__ import annotations

import json

import click

from dcmvault.app.serve import ServeRequest, Serving, serving
from dcmvault.cli.building import ExampleCommand
from dcmvault.cli.interrupts import stoppable
from dcmvault.cli.output import say
from dcmvault.cli.session import begin_log, current_settings
from dcmvault.cli.vault_views import as_of_option, asked_moment, snapshot_option, vault_argument
from dcmvault.config.places import state_folder
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "serve",
        callback=_serve,
        text=_(
            "Let VAULT answer as a PACS: C-ECHO, C-FIND, C-MOVE and C-GET, and QIDO-RS and WADO-RS "
            "with --web-port, until Ctrl-C or SIGTERM.\n\n"
            "Viewers read from the backup as it stands, instances bit for bit, and nothing is "
            "ever written to it. Whom it answers, and where C-MOVE may send to, stands in [serve] "
            "of the configuration. The present state follows new snapshots. Every access is "
            "noted in the audit journal (dcmvault audit search --event access)."
        ),
        params=[
            vault_argument(),
            click.Option(
                ["--dicom-port"],
                type=click.IntRange(0, 65_535),
                metavar="PORT",
                help=_("The port to listen on; 0: any free one. Default: as configured."),
            ),
            click.Option(
                ["--web-port"],
                type=click.IntRange(0, 65_535),
                metavar="PORT",
                help=_(
                    "Answer QIDO-RS and WADO-RS on this port, too; 0: any free one. "
                    "Default: as configured, at first not at all."
                ),
            ),
            snapshot_option(),
            as_of_option(),
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                help=_("Print one JSON object per event and line on stdout, and nothing else."),
            ),
        ],
        examples=[
            (_("Keep reading from the backup"), "dcmvault serve disk --dicom-port 11113"),
            (
                _("For viewers in a browser, too"),
                "dcmvault serve disk --web-port 8080",
            ),
            (_("As it was before an accident"), "dcmvault serve disk --as-of 2026-01-31"),
        ],
    )


def _serve(
    vault: str,
    dicom_port: int | None,
    web_port: int | None,
    snapshot: str,
    as_of: str,
    as_json: bool,
) -> int:
    request = ServeRequest(vault, snapshot, asked_moment(as_of), dicom_port, web_port)
    settings = current_settings()
    home = state_folder()
    begin_log(home)
    with stoppable() as stop, serving(settings, request, home) as answering:
        _tell(answering, as_json=as_json)
        stop.wait()
    if as_json:
        say(json.dumps({"event": "stopped"}))
    else:
        say(_("Stopped."))
    return 0


def _tell(answering: Serving, *, as_json: bool) -> None:
    if as_json:
        event = {
            "event": "serving",
            "vault": answering.vault,
            "studies": answering.studies,
            "ae_title": answering.ae_title,
            "host": answering.host,
            "dicom_port": answering.dicom_port,
            "web_address": answering.web_address,
        }
        say(json.dumps(event))
        return
    studies = ngettext("%s study", "%s studies", answering.studies)
    say(
        _(
            "%(vault)s (%(studies)s) answers as %(title)s on %(host)s, port %(port)d. "
            "Ctrl-C ends it."
        )
        % {
            "vault": answering.vault,
            "studies": studies % format_number(answering.studies),
            "title": answering.ae_title,
            "host": answering.host,
            "port": answering.dicom_port,
        }
    )
    if answering.web_address:
        say(_("QIDO-RS and WADO-RS: %s") % answering.web_address)
