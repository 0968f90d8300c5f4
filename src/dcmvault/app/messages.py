"""The message that one channel gets of a notice: its language, and what its privacy allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dcmvault.app.notice_facts import names_of_places
from dcmvault.config.notifications_section import ChannelSection, MailSection
from dcmvault.config.settings import Settings
from dcmvault.i18n import speaking
from dcmvault.model.identifiers import RunId
from dcmvault.model.notice import Attachment, Event, Message, Notice
from dcmvault.model.report import Privacy, RunReport
from dcmvault.ports.catalogue import RunCatalogue
from dcmvault.reports.messages import write_message
from dcmvault.reports.redaction import with_names
from dcmvault.reports.render import render
from dcmvault.reports.summary import study_rows, summary

_ENDS = frozenset({Event.RUN_OK, Event.RUN_INCOMPLETE, Event.RUN_FAILED})
#: Rows of failures and of studies that an object for programs names; the report has them all.
_MOST_ROWS = 500
#: Bytes: what is larger is not attached, mail servers refuse it.
_LARGEST_REPORT = 5_000_000


@dataclass(frozen=True, slots=True)
class MessageWriter:
    """Writes messages; patient data is read only for channels that may have it."""

    settings: Settings
    runs: RunCatalogue

    def message(self, notice: Notice, channel: ChannelSection) -> Message:
        """Write what a channel gets of a notice."""
        with speaking(channel.language or self.settings.language):
            if notice.event not in _ENDS:
                return write_message(notice)
            is_attached = isinstance(channel, MailSection) and channel.report == "attached"
            if not is_attached and channel.privacy is Privacy.OFF:
                return write_message(notice)
            report = self.runs.report(RunId(notice.run_id))
            if channel.privacy is not Privacy.FULL:
                report = with_names(report, names_of_places(self.settings, report))
            return write_message(
                notice,
                details=_details(report, channel.privacy),
                attachments=_report(report, channel.privacy) if is_attached else (),
            )


def _details(report: RunReport, privacy: Privacy) -> Mapping[str, object]:
    if privacy is Privacy.OFF:
        return {}
    told = summary(report, privacy)
    failures = told["failures"]
    assert isinstance(failures, list)
    details: dict[str, object] = {
        "failures": failures[:_MOST_ROWS],
        "study_evidence": study_rows(report, privacy)[:_MOST_ROWS],
    }
    if privacy is Privacy.FULL:
        details["source_address"] = report.request.source
    return details


def _report(report: RunReport, privacy: Privacy) -> tuple[Attachment, ...]:
    page = render(report, "html", privacy).encode()
    if len(page) > _LARGEST_REPORT:
        return ()
    return (Attachment(f"dcmvault-{report.run_id}.html", "text/html", page),)
