"""`dcmvault verify`: look for evidence again; nothing is sent."""

from __future__ import annotations

import click

from dcmvault.app.backup import make_request
from dcmvault.app.verify import refuse_unknown_source
from dcmvault.cli.building import (
    ExampleCommand,
    json_option,
    level_of,
    level_option,
    progress_option,
)
from dcmvault.cli.output import print_json
from dcmvault.cli.runs import carry_out
from dcmvault.cli.session import current_settings, opened
from dcmvault.i18n import gettext as _
from dcmvault.model.plan import RunKind


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "verify",
        callback=_verify,
        text=_(
            "Verify that destinations hold everything of SOURCE; nothing is sent.\n\n"
            "What is found missing or damaged is due again in the next backup. Exit status: 0 if "
            "every instance reached the level, 3 if some did not."
        ),
        params=[
            click.Argument(["source"], metavar="SOURCE"),
            click.Option(
                ["--at"],
                multiple=True,
                required=True,
                metavar="DESTINATION",
                help=_("Where: an address or a configured name. May be given several times."),
            ),
            level_option("--level"),
            json_option(),
            progress_option(),
        ],
        examples=[
            (
                _("Ask a PACS again for every instance"),
                'dcmvault verify "~/Documents/Horos Data" --at pacs --level complete',
            ),
            (
                _("Read every copy on a disk back, and compare"),
                "dcmvault verify main --at /Volumes/Backup --level proven",
            ),
        ],
    )


def _verify(
    source: str, at: tuple[str, ...], level: str | None, as_json: bool, progress: str
) -> int:
    settings = current_settings()
    request = make_request(
        settings,
        kind=RunKind.VERIFY,
        source=source,
        destinations=at,
        level=level_of(level),
    )
    with opened(settings) as session:
        refuse_unknown_source(session.workplace, request.source)
        done = carry_out(session, request, as_json=as_json, progress=progress)
    if as_json:
        print_json(done.summary)
    return done.exit_status
