"""Privacy: patient data leaves a report before a renderer sees it, so that none can leak it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dcmvault.model.report import Failure, Privacy, RunReport
from dcmvault.reports.escaping import locator_token
from dcmvault.reports.wording import cause_title, next_step

#: Stands for a value that may not be shown.
HIDDEN = "…"


def redacted(report: RunReport, privacy: Privacy) -> RunReport:
    """Return the report with only the patient data that `privacy` allows.

    File names at the source may contain names: below FULL a stable token stands for each.
    """
    if privacy is Privacy.FULL:
        return report
    keep_ids = privacy is Privacy.IDS
    return replace(
        report,
        failures=tuple(_without_name(failure) for failure in report.failures),
        warned=tuple(_without_name(warned) for warned in report.warned),
        study_reports=tuple(
            replace(
                study,
                patient_name="",
                patient_id=study.patient_id if keep_ids else "",
                study_description="",
                coercions=tuple(replace(one, old=HIDDEN, new=HIDDEN) for one in study.coercions),
            )
            for study in report.study_reports
        ),
    )


def with_names(report: RunReport, names: Mapping[str, str]) -> RunReport:
    """Return the report with each address of a place replaced by what `names` calls it.

    Paths are chosen by people, who put names of patients into them. What only stood beside a path
    (the words of an error that ended the run) gives way to what its code says.
    """

    def renamed(text: str) -> str:
        for address, name in sorted(names.items(), key=lambda pair: -len(pair[0])):
            bare = address.partition(":")[2] or address
            text = text.replace(address, name)
            text = text.replace(bare, name) if bare.startswith("/") and len(bare) > 1 else text
        return text

    def renamed_failure(failure: Failure) -> Failure:
        return replace(
            failure,
            destination=renamed(failure.destination),
            message=renamed(failure.message),
            hint=renamed(failure.hint),
        )

    request = report.request
    error = report.error
    return replace(
        report,
        request=replace(
            request,
            source=renamed(request.source),
            destinations=tuple(
                replace(one, address=renamed(one.address)) for one in request.destinations
            ),
        ),
        destinations=tuple(
            replace(part, name=renamed(part.name), address=renamed(part.address))
            for part in report.destinations
        ),
        failures=tuple(map(renamed_failure, report.failures)),
        warned=tuple(map(renamed_failure, report.warned)),
        warnings=tuple(map(renamed, report.warnings)),
        study_reports=tuple(
            replace(study, destination=renamed(study.destination)) for study in report.study_reports
        ),
        error=None if error is None else (error[0], cause_title(error[0]), next_step(error[0])),
    )


def _without_name(failure: Failure) -> Failure:
    return replace(failure, locator=locator_token(failure.locator))
