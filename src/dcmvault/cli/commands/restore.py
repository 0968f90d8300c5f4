"""`dcmvault restore`: copies come back, from wherever they are to wherever they are needed."""

from __future__ import annotations

from pathlib import Path

import click

from dcmvault.app.lessons import note_restored
from dcmvault.app.restore import restore
from dcmvault.app.restore_certificates import (
    certificate_of_files,
    require_certificate_suffix,
)
from dcmvault.app.restore_report import RestoreReport, RestoreRequest
from dcmvault.app.restore_targets import is_peer, is_zip
from dcmvault.app.vault_contents import date_range
from dcmvault.cli.building import (
    ExampleCommand,
    json_option,
    level_option,
    progress_option,
)
from dcmvault.cli.interrupts import stoppable
from dcmvault.cli.output import print_json
from dcmvault.cli.restore_certificates import certify, require_places, say_certificates
from dcmvault.cli.restore_drills import drill
from dcmvault.cli.restore_progress import restore_shown
from dcmvault.cli.restore_views import restored_object, say_restored
from dcmvault.cli.session import current_settings
from dcmvault.cli.vault_views import as_of_option, asked_moment, snapshot_option
from dcmvault.config.places import state_folder
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import Layout
from dcmvault.model.selection import Selection


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "restore",
        callback=_restore,
        text=_(
            "Restore from FROM to TO, and prove that it came back.\n\n"
            "FROM is a vault, or whatever else can be read: a folder, a library, a PACS, an "
            "Orthanc, a DICOMweb service. TO is a folder, a ZIP file (with a DICOMDIR), a library "
            "whose viewer imports (horos:PATH), a PACS or a DICOMweb service. What is there "
            "already is not written again, and nothing is overwritten: so the same command goes "
            "on after an interruption. In a folder each "
            "file is read back and has its SHA-256 compared; a PACS is asked for evidence of the "
            "level that --verify names. Exit status: 0 if everything selected is there, 3 if "
            "some is not."
        ),
        params=[
            click.Argument(["source"], metavar="FROM"),
            click.Argument(["target"], metavar="[TO]", required=False, default=""),
            *_selection_options(),
            snapshot_option(),
            as_of_option(),
            *_target_options(),
            click.Option(
                ["--drill", "drill_studies"],
                type=click.IntRange(1, 100_000),
                metavar="N",
                help=_(
                    "Instead of TO: restore N random studies into a private temporary folder, "
                    "prove and time them, write that down, and remove them."
                ),
            ),
            json_option(),
            progress_option(),
        ],
        examples=[
            (_("Everything"), "dcmvault restore vault:/backup ./restored"),
            (_("One study"), "dcmvault restore disk ./restored --study 1.2.3"),
            (_("As it was in the morning"), "dcmvault restore disk ./old --as-of 2026-01-31T08:00"),
            (
                _("A patient’s studies of one year to a PACS"),
                "dcmvault restore disk dicom://PACS@pacs:104 --patient 4711 --study-date 2025",
            ),
            (
                _("A lost library, as it was"),
                'dcmvault restore disk "Horos Data" --layout library',
            ),
            (_("A study to give away"), "dcmvault restore disk study.zip --accession A123"),
            (_("Would it work? How long would it take?"), "dcmvault restore disk --drill 20"),
        ],
    )


def _selection_options() -> list[click.Option]:
    return [
        click.Option(
            ["--study"],
            multiple=True,
            metavar="UID",
            help=_("Only this study (“-”: files that are no instances); may be repeated."),
        ),
        click.Option(
            ["--series"],
            multiple=True,
            metavar="UID",
            help=_("Only this series, beside the studies asked for; may be repeated."),
        ),
        click.Option(
            ["--patient"],
            multiple=True,
            metavar="ID",
            help=_("Only studies with this Patient ID; may be repeated."),
        ),
        click.Option(
            ["--accession"],
            multiple=True,
            metavar="NUMBER",
            help=_("Only studies with this Accession Number; may be repeated."),
        ),
        click.Option(
            ["--study-date"],
            default="",
            metavar="DATE",
            help=_("Only studies of this date: 2026, 2026-01, 2026-01-31, or FIRST..LAST."),
        ),
        click.Option(
            ["--source", "only_source"],
            default="",
            metavar="ADDRESS",
            help=_("Of a vault, only what came from this source (horos:PATH, say)."),
        ),
    ]


def _target_options() -> list[click.Option]:
    return [
        click.Option(
            ["--layout"],
            type=click.Choice([layout.value for layout in Layout]),
            help=_(
                "Names of files: as they were below their source (original), or numbered as in a "
                "DICOM File-set, with a DICOMDIR (dicom), or a whole library of a viewer again "
                "(library). By default original, in a ZIP file dicom."
            ),
        ),
        click.Option(
            ["--zip", "zip_file"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help=_("Instead of TO: a ZIP file of this name."),
        ),
        level_option("--verify"),
        click.Option(
            ["--certificate"],
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="FILE",
            help=_(
                "Write a restore certificate (mode 0600): FILE.json or FILE.html; may be repeated."
            ),
        ),
    ]


def _restore(
    source: str,
    target: str,
    study: tuple[str, ...],
    series: tuple[str, ...],
    patient: tuple[str, ...],
    accession: tuple[str, ...],
    study_date: str,
    only_source: str,
    snapshot: str,
    as_of: str,
    layout: str | None,
    zip_file: Path | None,
    level: str | None,
    certificate: tuple[Path, ...],
    drill_studies: int | None,
    as_json: bool,
    progress: str,
) -> int:
    for path in certificate:
        require_certificate_suffix(path.suffix)
    if drill_studies is not None and (layout or level or certificate):
        raise UsageError(
            _("A drill restores to no place: --layout, --verify and --certificate are not for it."),
            hint=_("Leave them out; `dcmvault status` shows what drills proved."),
        )
    require_places(certificate)
    first, last = date_range(study_date) or ("", "")
    request = RestoreRequest(
        source,
        _target(target, zip_file, drills=drill_studies is not None),
        Selection(study, series, patient, accession, first, last),
        snapshot,
        asked_moment(as_of),
        None if layout is None else Layout(layout),
        only_source,
    )
    settings = current_settings()
    if drill_studies is not None:
        return drill(settings, request, drill_studies, as_json=as_json, progress=progress)
    if zip_file is None and is_peer(settings, request.target):
        # What runs are made of takes a while to import, and is not needed for files.
        from dcmvault.cli.restore_runs import to_peer  # noqa: PLC0415

        return to_peer(settings, request, level, certificate, as_json=as_json, progress=progress)
    if level is not None:
        raise UsageError(
            _("--verify is for a PACS: files are always read back and compared."),
            hint=_("Leave out --verify."),
        )
    with stoppable() as stop, restore_shown(progress) as watch:
        report = restore(settings, request, watch, stop)
    certify(certificate_of_files(report), certificate, settings.privacy)
    _note_single_studies(settings, report)
    if as_json:
        print_json(restored_object(report))
    else:
        say_restored(report)
        say_certificates(certificate)
    return report.exit_status


def _note_single_studies(settings: Settings, report: RestoreReport) -> None:
    """Have priorities learn from what was asked for by name."""
    if not report.selection.is_whole:
        note_restored(state_folder(), settings, [one.study_instance_uid for one in report.restored])


def _target(target: str, zip_file: Path | None, *, drills: bool) -> str:
    """Return what is restored to; UsageError unless it is said exactly once."""
    if bool(target) + (zip_file is not None) + drills != 1:
        raise UsageError(
            _("Say where to restore to: TO, --zip FILE or --drill N, one of them."),
            hint=_("For example: dcmvault restore vault:/backup ./restored"),
        )
    if zip_file is None:
        return target
    if not is_zip(str(zip_file)):
        raise UsageError(
            _("The name of a ZIP file ends in .zip."), hint=_("For example: --zip study.zip")
        )
    return str(zip_file)
