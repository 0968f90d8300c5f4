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
from dcmvault.config.reverification import age_s, sample_of
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.plan import RunKind, Sample


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
            *_sample_options(),
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
            (
                _("Each night a twentieth, what was proven longest ago first"),
                "dcmvault verify main --at pacs --level proven --sample 5%",
            ),
        ],
    )


def _sample_options() -> list[click.Parameter]:
    """Build the options that choose studies by the age of their evidence."""
    return [
        click.Option(
            ["--sample"],
            metavar="SHARE|NUMBER",
            default="",
            help=_(
                "Verify only so many studies, those with the oldest evidence first: “5%” of "
                "all, or a number."
            ),
        ),
        click.Option(
            ["--older-than"],
            metavar="AGE",
            default="",
            help=_(
                "Verify only studies without evidence of the level that is younger: “30d”, "
                "“12h” or “8w”."
            ),
        ),
        click.Option(
            ["--due"],
            is_flag=True,
            help=_(
                "Verify what the configuration says is due: “reverify_after” and "
                "“reverify_share” of each destination."
            ),
        ),
    ]


def _verify(
    source: str,
    at: tuple[str, ...],
    level: str | None,
    sample: str,
    older_than: str,
    due: bool,
    as_json: bool,
    progress: str,
) -> int:
    settings = current_settings()
    if due and (sample or older_than):
        raise UsageError(_("Write --due, or --sample and --older-than."))
    request = make_request(
        settings,
        kind=RunKind.VERIFY,
        source=source,
        destinations=at,
        level=level_of(level),
        sample=_sample(sample, older_than),
        due=due,
    )
    with opened(settings) as session:
        refuse_unknown_source(session.workplace, request.source)
        done = carry_out(session, request, as_json=as_json, progress=progress)
    if as_json:
        print_json(done.summary)
    return done.exit_status


def _sample(share: str, older_than: str) -> Sample | None:
    if not (share or older_than):
        return None
    try:
        return sample_of(share, age_s(older_than) if older_than else 0)
    except ValueError as error:
        raise UsageError(str(error)) from None
