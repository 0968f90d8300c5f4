"""`dcmvault compare`: what two places hold, and where they differ."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import click

from dcmvault.app.compare import CompareRequest, Outcome, comparison
from dcmvault.app.study_list import read_study_list
from dcmvault.cli.building import ExampleCommand, json_option, progress_option
from dcmvault.cli.compare_progress import compare_watch
from dcmvault.cli.compare_view import say_outcome
from dcmvault.cli.output import print_json, say
from dcmvault.cli.session import current_settings
from dcmvault.errors import StateError
from dcmvault.i18n import gettext as _
from dcmvault.model.comparison import Depth
from dcmvault.reports import comparison_csv
from dcmvault.reports.comparison_json import sample_object, side_object, study_object, tally_object


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "compare",
        callback=_compare,
        text=_(
            "Compare what A and B hold: any two sources, destinations, or snapshots of vaults "
            "(vault:PATH#ID).\n\n"
            "Studies are only in A, only in B, different, or the same: by count, by their "
            "instances, or by content, and it is said which. What a PACS does not list is asked "
            "for by its UID before it counts as missing. Exit status: 0 if everything is the "
            "same, 3 if something differs or could not be found out."
        ),
        params=[
            click.Argument(["a"], metavar="A"),
            click.Argument(["b"], metavar="B"),
            click.Option(
                ["--depth"],
                type=click.Choice([depth.value for depth in Depth]),
                default=Depth.STUDY.value,
                show_default=True,
                help=_(
                    "study: a PACS's own counts, and instances where they differ. series, "
                    "instance: the instances of every study, reported by series or one by one."
                ),
            ),
            click.Option(
                ["--only"],
                metavar="FILE",
                type=click.Path(path_type=Path),
                help=_(
                    "Only the studies of this CSV file: Study Instance UIDs or accession numbers, "
                    "one in a row."
                ),
            ),
            click.Option(
                ["--csv", "csv_file"],
                metavar="FILE",
                type=click.Path(path_type=Path),
                help=_("Write every study, and what differs in it, into this CSV file."),
            ),
            json_option(),
            progress_option(),
        ],
        examples=[
            (
                _("An old and a new PACS"),
                "dcmvault compare dicom://OLD@old:104 dicom://NEW@new:104 --csv differences.csv",
            ),
            (
                _("A folder with what a vault held a while ago"),
                "dcmvault compare /Volumes/Studies vault:/backup#3f9a1c20 --depth instance",
            ),
        ],
    )


def _compare(
    a: str,
    b: str,
    depth: str,
    only: Path | None,
    csv_file: Path | None,
    as_json: bool,
    progress: str,
) -> int:
    request = CompareRequest(a, b, Depth(depth), read_study_list(only) if only else None)
    with comparison(current_settings(), request, compare_watch(progress)) as outcome:
        if csv_file is not None:
            _write(csv_file, lambda stream: _write_csv(outcome, stream))
        if as_json:
            print_json(_object(outcome))
        else:
            say_outcome(outcome)
            if csv_file is not None:
                say(_("Written: %s") % csv_file)
        return outcome.exit_status


def _write_csv(outcome: Outcome, stream: IO[str]) -> None:
    comparison_csv.write(
        stream, outcome.compared.studies(), outcome.request.depth, outcome.not_found
    )


def _write(path: Path, write: Callable[[IO[str]], object]) -> None:
    """Write a file of ours as it comes, readable by nobody else."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123
            write(stream)
    except OSError as error:
        raise StateError(
            _("%s cannot be written.") % path, hint=error.strerror or type(error).__name__
        ) from None


def _object(outcome: Outcome) -> dict[str, object]:
    with_instances = outcome.request.depth is Depth.INSTANCE
    side_a, side_b = outcome.sides()
    return {
        "a": side_object(side_a),
        "b": side_object(side_b),
        "depth": outcome.request.depth.value,
        **tally_object(outcome.compared.tally),
        "differences": [
            study_object(study, with_instances=with_instances) for study in outcome.exceptions()
        ],
        "not_found": list(outcome.not_found),
        "sample": sample_object(outcome.sample),
        "exit_status": outcome.exit_status,
        "error": None,
    }
