"""The demonstration: the whole story on real studies, with a PACS of our own in this process."""

from __future__ import annotations

import shutil
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dcmvault.app.backup import follow, make_request, start
from dcmvault.app.wiring import Workplace, open_workplace
from dcmvault.config.sections import DimseDestinationSection
from dcmvault.config.settings import Settings
from dcmvault.dicom.listener import Listener
from dcmvault.dicom.samples import sample_files
from dcmvault.errors import DcmvaultError
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.plan import RunKind
from dcmvault.model.report import Privacy, RunReport
from dcmvault.reports.render import render

_PACS_AE_TITLE = "DEMOPACS"


class DemonstrationFailedError(DcmvaultError):
    """A step of the demonstration did not show what it should have shown."""

    code = "demonstration_failed"


@dataclass(slots=True)
class _Demonstration:
    """The state that the steps share."""

    workplace: Workplace
    listener: Listener
    studies: Path
    pacs: str
    folder: str
    say: Callable[[str], None]

    def back_up(self, *destinations: str) -> RunReport:
        """Run `dcmvault backup STUDIES --to ...`."""
        return self._run(RunKind.BACKUP, destinations, None)

    def verify_pacs(self) -> RunReport:
        """Run `dcmvault verify STUDIES --at PACS --level complete`."""
        return self._run(RunKind.VERIFY, (self.pacs,), Level.COMPLETE)

    def _run(self, kind: RunKind, destinations: tuple[str, ...], level: Level | None) -> RunReport:
        request = make_request(
            self.workplace.settings,
            kind=kind,
            source=str(self.studies),
            destinations=destinations,
            level=level,
        )
        started = start(self.workplace, request)
        return follow(self.workplace, started.run_id, lambda _standing: None, threading.Event())


def run_demo(home: Path, say: Callable[[str], None], *, open_report: bool) -> Path:
    """Tell the story with real studies in the empty folder `home`; return the report's path.

    Raises DemonstrationFailedError when a step does not show what it claims.
    """
    studies = home / "studies"
    folder = home / "copies"
    count = _lay_out(studies)
    with Listener(home / "pacs", ae_title=_PACS_AE_TITLE) as listener:
        pacs = DimseDestinationSection(
            host="127.0.0.1", port=listener.port, called_ae_title=_PACS_AE_TITLE
        ).address
        say(
            _("Here are %(count)d real instances, a PACS at %(pacs)s, and an empty folder.")
            % {"count": count, "pacs": pacs}
        )
        with open_workplace(home / "state", Settings()) as workplace:
            story = _Demonstration(workplace, listener, studies, pacs, str(folder), say)
            return _tell(story, home, count, open_report=open_report)


def _lay_out(studies: Path) -> int:
    """Copy the sample files into one folder per study's origin; return how many there are."""
    files = sample_files()
    for number, path in enumerate(files):
        target = studies / path.parent.name / f"{number:03}-{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return len(files)


def _tell(story: _Demonstration, home: Path, count: int, *, open_report: bool) -> Path:
    say = story.say
    say("")
    say(_("1. Back up to both, and ask each for evidence."))
    first = story.back_up(story.pacs, story.folder)
    _expect(first.exit_status == 0 and first.counts.stored == 2 * count)
    say(
        _("   The PACS lists every one of our %(count)d SOP Instance UIDs: complete.")
        % {"count": count}
    )
    say(
        _("   The folder's copies were read back, and every SHA-256 is equal: proven.")
        % {"count": count}
    )

    say(_("2. Back up again."))
    second = story.back_up(story.pacs, story.folder)
    _expect(second.exit_status == 0 and second.counts.selected == 0)
    say(
        _("   Nothing to do: %(count)d instances are held at each, no file was opened.")
        % {"count": count}
    )

    say(_("3. The PACS loses an instance, and tells nobody."))
    lost = sorted(story.listener.instances())[count // 2]
    story.listener.forget(lost)
    found = story.verify_pacs()
    named = [failure.sop_instance_uid for failure in found.failures]
    _expect(found.exit_status == 3 and named == [lost])
    say(_("   Verification asks the PACS again and names it: %(uid)s") % {"uid": lost})

    say(_("4. Back up once more: only what evidence shows missing is sent."))
    repaired = story.back_up(story.pacs, story.folder)
    _expect(repaired.exit_status == 0 and repaired.counts.stored == 1)
    _expect(lost in story.listener.instances())
    say(_("   One instance was sent, and the PACS is complete again."))

    report = home / "report.html"
    report.touch(mode=0o600)
    report.write_text(render(first, "html", Privacy.OFF), encoding="utf-8")
    say("")
    say(_("A receipt is a claim. Only what was asked for again, or read back, is shown as safe."))
    say(_("The report of the first run: %(path)s") % {"path": report})
    if open_report:
        webbrowser.open(report.as_uri())
    return report


def _expect(shown: bool) -> None:
    if not shown:
        raise DemonstrationFailedError(
            _("The demonstration did not show what it should; this is a defect of dcmvault."),
            hint=_("Please report it with the log in the demonstration's folder."),
        )
