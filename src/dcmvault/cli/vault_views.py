"""What the commands that look into a vault share: arguments, tables, objects for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import click

from dcmvault.app.vault_contents import Contents, StudyView, moment, stored_time
from dcmvault.cli.output import table, tell_error
from dcmvault.i18n import format_bytes, format_number, sentence
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible
from dcmvault.vault.choosing import short_id
from dcmvault.vault.records import InstanceRecord
from dcmvault.vault.snapshot import Link


def vault_argument() -> click.Argument:
    """Build VAULT."""
    return click.Argument(["vault"], metavar="VAULT")


def snapshot_option() -> click.Option:
    """Build --snapshot."""
    return click.Option(
        ["--snapshot"],
        metavar="ID",
        default="",
        help=_("The state of this snapshot: its id, the beginning of it, or latest."),
    )


def as_of_option() -> click.Option:
    """Build --as-of."""
    return click.Option(
        ["--as-of"],
        metavar="TIME",
        default="",
        help=_(
            "The state at this date or time, as the snapshots before it say; in the local time "
            "zone if none is written. A date means its end."
        ),
    )


def asked_moment(text: str) -> datetime | None:
    """Read --as-of; UsageError for what is no time."""
    return moment(text) if text else None


def local_time(moment: datetime) -> str:
    """Write a time in the local time zone."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def snapshot_line(links: Sequence[Link]) -> str:
    """Say which snapshots a state is made of."""
    return ", ".join(
        f"{short_id(link.name)} ({local_time(stored_time(link.created_at))})" for link in links
    )


def study_table(studies: Iterable[StudyView]) -> str:
    """Align studies, newest first. Names are shown: the user asked for his own data."""
    ordered = sorted(studies, key=lambda one: one.about.get("study_date", ""), reverse=True)
    return table(
        [
            _("Date"),
            _("Modality"),
            _("Patient"),
            _("Description"),
            _("Instances"),
            _("Size"),
            _("Study Instance UID"),
        ],
        [
            [
                study_date(study.about),
                visible(study.about.get("modalities", "")),
                visible(patient(study.about)),
                visible(study.about.get("study_description", "")),
                format_number(study.instances),
                format_bytes(study.bytes),
                visible(study.word),
            ]
            for study in ordered
        ],
        right=frozenset({4, 5}),
    )


def study_date(about: Mapping[str, str]) -> str:
    """Write a DA as people do, or as it stands."""
    date = about.get("study_date", "")
    if len(date) == 8 and date.isascii() and date.isdecimal():
        return f"{date[:4]}-{date[4:6]}-{date[6:]}"
    return visible(date)


def patient(about: Mapping[str, str]) -> str:
    """Write name and id of a patient."""
    name, number = about.get("patient_name", ""), about.get("patient_id", "")
    return f"{name} ({number})" if name and number else name or number


def study_object(study: StudyView) -> dict[str, object]:
    """Return a study for JSON."""
    return {
        "study_instance_uid": study.study_instance_uid,
        **about_object(study.about),
        "instances": study.instances,
        "bytes": study.bytes,
    }


def about_object(about: Mapping[str, str]) -> dict[str, object]:
    """Return what a study is found by for JSON."""
    names = (
        "patient_name",
        "patient_id",
        "patient_birth_date",
        "patient_sex",
        "study_date",
        "study_time",
        "study_description",
        "accession_number",
        "institution_name",
    )
    return {
        **{name: about.get(name, "") for name in names},
        "modalities": about.get("modalities", "").split(),
    }


def record_object(record: InstanceRecord) -> dict[str, object]:
    """Return a file for JSON."""
    return {
        "sop_instance_uid": record.sop_instance_uid,
        "series_instance_uid": record.series_instance_uid,
        "sop_class_uid": record.sop_class_uid,
        "transfer_syntax_uid": record.transfer_syntax_uid,
        "instance_number": record.instance_number,
        "source": record.source,
        "locator": record.locator,
        "bytes": record.size,
        "file_sha256": record.file_sha256.hex(),
        "stored_at": record.stored_at,
        "is_dicom": not record.opaque_reason,
    }


def losses_object(contents: Contents) -> list[dict[str, str]]:
    """Return what could not be read for JSON."""
    return [
        {"study_instance_uid": uid, "code": error.code, "message": error.message}
        for (uid, _message), error in contents.losses.items()
    ]


def tell_losses(contents: Contents) -> None:
    """Say on stderr what could not be read, and what to do about it."""
    for (uid, _message), error in contents.losses.items():
        told = sentence(error.message)
        tell_error(f"{uid}: {told}" if uid else told, "")
    if contents.losses:
        tell_error(
            _("The vault is damaged: what is shown may not be all that it holds."),
            _("`dcmvault vault repair` mends what can be mended."),
        )
