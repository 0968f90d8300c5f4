"""A report in the reader's language: what was stored in English is translated before it is shown.

JSON and CSV are for programs, and keep what was stored; HTML, text and the screen are for people.
"""

from __future__ import annotations

from dataclasses import replace

from dcmvault.i18n import sentence
from dcmvault.model.report import Failure, RunReport


def spoken(report: RunReport) -> RunReport:
    """Return the report with its messages and hints in the language in use."""
    return replace(
        report,
        destinations=tuple(
            replace(part, snapshot_failure=_spoken_cause(part.snapshot_failure))
            for part in report.destinations
        ),
        failures=tuple(_spoken(failure) for failure in report.failures),
        warned=tuple(_spoken(warned) for warned in report.warned),
        warnings=tuple(sentence(warning) for warning in report.warnings),
        error=_spoken_cause(report.error),
    )


def _spoken_cause(error: tuple[str, str, str] | None) -> tuple[str, str, str] | None:
    return None if error is None else (error[0], sentence(error[1]), sentence(error[2]))


def _spoken(failure: Failure) -> Failure:
    return replace(failure, message=sentence(failure.message), hint=sentence(failure.hint))
