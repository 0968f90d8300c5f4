"""`dcmvault compare`: what two places hold, and where they differ."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import click

from dcmvault.app.certificate import (
    require_folder,
    require_writable,
    write_certificates,
    write_privately,
)
from dcmvault.app.compare import (
    CompareProgress,
    CompareRequest,
    Outcome,
    SampleSize,
    comparison,
)
from dcmvault.app.compare_act import delivery_requests, require_deliverable
from dcmvault.app.study_list import read_study_list
from dcmvault.cli.building import ExampleCommand, json_option, progress_option
from dcmvault.cli.compare_progress import compare_watch
from dcmvault.cli.compare_view import say_outcome
from dcmvault.cli.output import say
from dcmvault.cli.runs import carry_out
from dcmvault.cli.session import current_settings, opened
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.certificate import Delivered
from dcmvault.model.comparison import Depth
from dcmvault.reports import comparison_csv
from dcmvault.reports.comparison_json import (
    delivered_objects,
    sample_object,
    side_object,
    study_object,
    tally_object,
    write_object,
)
from dcmvault.reports.escaping import visible

#: Studies that are read back for a certificate, where nothing else is said.
_CERTIFIED = 10
#: Digits of a size that anybody means.
_LONGEST_NUMBER = 18


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
        params=_params(),
        examples=[
            (
                _("An old and a new PACS"),
                "dcmvault compare dicom://OLD@old:104 dicom://NEW@new:104 --csv differences.csv",
            ),
            (
                _("A migration: deliver what is missing, then certify what is there"),
                "dcmvault compare old new --depth instance --act --certificate ./certificate",
            ),
            (
                _("A folder with what a vault held a while ago"),
                "dcmvault compare /Volumes/Studies vault:/backup#3f9a1c20 --depth instance",
            ),
        ],
    )


def _params() -> list[click.Parameter]:
    return [
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
        *_options_beyond_comparing(),
        json_option(),
        progress_option(),
    ]


def _options_beyond_comparing() -> list[click.Parameter]:
    return [
        click.Option(
            ["--sample"],
            metavar="N|P%|all",
            default="",
            help=_(
                "Read so many studies back from both, chosen at random, and compare files, "
                "data sets and pixels. With --certificate 10 where nothing else is said."
            ),
        ),
        click.Option(
            ["--seed"],
            metavar="TEXT",
            default="",
            help=_("Choose the sample by this seed, as an earlier one was; else at random."),
        ),
        click.Option(
            ["--act"],
            is_flag=True,
            help=_(
                "Back up to B what it lacks of A, then compare those studies again. A is a "
                "source then, and B a destination."
            ),
        ),
        click.Option(
            ["--certificate"],
            metavar="FILE|FOLDER",
            type=click.Path(path_type=Path),
            help=_(
                "Write a migration certificate: a file that ends in .html, .pdf or .json, or "
                "all three into a folder."
            ),
        ),
    ]


def _compare(
    a: str,
    b: str,
    depth: str,
    only: Path | None,
    csv_file: Path | None,
    sample: str,
    seed: str,
    act: bool,
    certificate: Path | None,
    as_json: bool,
    progress: str,
) -> int:
    settings = current_settings()
    size = _sample_size(sample, has_certificate=certificate is not None)
    if seed and size is None:
        raise UsageError(
            _("A seed chooses a sample, and none is to be read back."),
            hint=_("Say how large it is to be: --sample N."),
        )
    if csv_file is not None:
        require_folder(csv_file)
    if certificate is not None:
        require_writable(certificate)
    if act:
        require_deliverable(settings, a, b)
    request = CompareRequest(a, b, Depth(depth), read_study_list(only) if only else None)
    watch = compare_watch(progress)
    with comparison(settings, request, watch) as outcome:
        if act:
            _deliver(settings, outcome, watch, as_json=as_json, progress=progress)
        if size is not None:
            outcome.read_sample(size, seed, watch)
        written = _write_files(outcome, csv_file, certificate)
        if as_json:
            _print_object(outcome, written)
        else:
            say_outcome(outcome)
            for path in written:
                say(_("Written: %s") % visible(str(path)))
        return outcome.exit_status


def _deliver(
    settings: Settings,
    outcome: Outcome,
    watch: Callable[[CompareProgress], None],
    *,
    as_json: bool,
    progress: str,
) -> None:
    """Deliver what is missing in B, and look again."""
    missing = outcome.missing_in_b()
    if not missing:
        return
    requests = delivery_requests(settings, outcome.request.a, outcome.request.b, missing)
    with opened(settings) as session:
        for request in requests:
            done = carry_out(session, request, as_json=as_json, progress=progress)
            run = str(done.summary["run"])
            outcome.delivered.append(
                Delivered(run, len(request.selection.studies), done.exit_status)
            )
    outcome.compare_again(settings, missing, watch)
    if not as_json:
        say()


def _sample_size(text: str, *, has_certificate: bool) -> SampleSize | None:
    """Read --sample; None where nothing is to be read back."""
    if not text:
        return SampleSize(_CERTIFIED) if has_certificate else None
    if text == "all":
        return SampleSize(share=1.0)
    number = text.removesuffix("%")
    if (
        len(number) > _LONGEST_NUMBER
        or not (number.isascii() and number.replace(".", "", 1).isdecimal())
        or (number == text and not text.isdecimal())
    ):
        raise UsageError(
            _("“%s” is no size of a sample.") % text,
            hint=_("Write a number of studies, a share as 5%, or all."),
        )
    if number != text:
        return SampleSize(share=min(float(number), 100.0) / 100) if float(number) else None
    return SampleSize(int(text)) if int(text) else None


def _write_files(outcome: Outcome, csv_file: Path | None, certificate: Path | None) -> list[Path]:
    written = []
    if csv_file is not None:
        write_privately(csv_file, lambda stream: _write_csv(outcome, stream))
        written.append(csv_file)
    if certificate is not None:
        written += write_certificates(outcome, certificate)
    return written


def _write_csv(outcome: Outcome, stream: IO[str]) -> None:
    comparison_csv.write(
        stream, outcome.compared.studies(), outcome.request.depth, outcome.not_found
    )


def _print_object(outcome: Outcome, written: list[Path]) -> None:
    """Print the one object, its differences one after the other: there may be many."""
    with_instances = outcome.request.depth is Depth.INSTANCE
    side_a, side_b = outcome.sides()
    head = {
        "a": side_object(side_a),
        "b": side_object(side_b),
        "depth": outcome.request.depth.value,
        **tally_object(outcome.compared.tally),
        "not_found": list(outcome.not_found),
        "sample": sample_object(outcome.sample),
        "delivered": delivered_objects(outcome.delivered),
        "written": [str(path) for path in written],
        "exit_status": outcome.exit_status,
        "error": None,
    }
    differences = (
        study_object(study, with_instances=with_instances) for study in outcome.exceptions()
    )
    write_object(sys.stdout, head, "differences", differences)
