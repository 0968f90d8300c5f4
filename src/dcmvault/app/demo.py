"""The demonstration: the whole story on real studies, with a vault and a PACS of our own."""

from __future__ import annotations

import secrets
import shutil
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dcmvault.app.backup import follow, make_request, start
from dcmvault.app.restore import restore
from dcmvault.app.restore_report import RestoreRequest
from dcmvault.app.vault_access import open_named_vault
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.stores import open_vault_store
from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.config.sections import VaultDestinationSection
from dcmvault.config.settings import ConfiguredDestination, Settings
from dcmvault.dicom.listener import Listener
from dcmvault.dicom.samples import sample_files
from dcmvault.errors import DcmvaultError
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.plan import RunKind
from dcmvault.model.report import Privacy, RunReport
from dcmvault.reports.render import render
from dcmvault.vault.check import CheckRequest, check
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.repair import repair
from dcmvault.vault.slots import KeyFile

_PACS_AE_TITLE = "DEMOPACS"


class DemonstrationFailedError(DcmvaultError):
    """A step of the demonstration did not show what it should have shown."""

    code = "demonstration_failed"


@dataclass(slots=True)
class _Demonstration:
    """The state that the steps share."""

    workplace: Workplace
    listener: Listener
    home: Path
    studies: Path
    pacs: str
    vault: str
    count: int
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
    count = _lay_out(studies)
    settings = _make_vault(home)
    with Listener(home / "pacs", ae_title=_PACS_AE_TITLE) as listener:
        pacs = DimseDestinationSection(
            host="127.0.0.1", port=listener.port, called_ae_title=_PACS_AE_TITLE
        ).address
        say(
            _("Here are %(count)d real instances, a PACS at %(pacs)s, and an empty vault.")
            % {"count": count, "pacs": pacs}
        )
        with open_workplace(home / "state", settings) as workplace:
            story = _Demonstration(workplace, listener, home, studies, pacs, "vault", count, say)
            return _tell(story, open_report=open_report)


def _lay_out(studies: Path) -> int:
    """Copy the sample files into one folder per study's origin; return how many there are."""
    files = sample_files()
    for number, path in enumerate(files):
        target = studies / path.parent.name / f"{number:03}-{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return len(files)


def _make_vault(home: Path) -> Settings:
    """Make a vault that a key file opens; return settings in which it is called `vault`."""
    key = home / "vault.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(32))
    place = home / "vault"
    place.mkdir(mode=0o700)
    section = VaultDestinationSection(location=str(place), key_file=str(key))
    clock = SystemClock()
    applicant = KeyFile(key.read_bytes())
    init_vault(open_vault_store(section, clock), [(applicant, "demonstration")], clock)
    return Settings(destinations={"vault": ConfiguredDestination(section=section)})


def _tell(story: _Demonstration, *, open_report: bool) -> Path:
    story.say("")
    first = _back_up_twice(story)
    _lose_an_instance(story)
    _flip_a_bit(story)
    _restore(story)
    report = story.home / "report.html"
    report.touch(mode=0o600)
    report.write_text(render(first, "html", Privacy.OFF), encoding="utf-8")
    story.say("")
    story.say(
        _("A receipt is a claim. Only what was asked for again, or read back, is shown as safe.")
    )
    story.say(_("The report of the first run: %(path)s") % {"path": report})
    if open_report:
        webbrowser.open(report.as_uri())
    return report


def _back_up_twice(story: _Demonstration) -> RunReport:
    say, count = story.say, story.count
    say(_("1. Back up to both, and ask each for evidence."))
    first = story.back_up(story.pacs, story.vault)
    _expect(first.exit_status == 0 and first.counts.stored == 2 * count)
    say(
        _("   The PACS lists every one of our %(count)d SOP Instance UIDs: complete.")
        % {"count": count}
    )
    source, packs = _size_of(story.studies), _size_of(story.home / "vault" / "packs")
    say(
        _("   The vault keeps %(source)s in %(packs)s, every frame decoded and compared before.")
        % {"source": _megabytes(source), "packs": _megabytes(packs)}
    )
    _expect(packs < source)
    say(_("2. Back up again."))
    second = story.back_up(story.pacs, story.vault)
    _expect(second.exit_status == 0 and second.counts.selected == 0)
    say(
        _("   Nothing to do: %(count)d instances are held at each, no file was opened.")
        % {"count": count}
    )
    return first


def _lose_an_instance(story: _Demonstration) -> None:
    say = story.say
    say(_("3. The PACS loses an instance, and tells nobody."))
    lost = sorted(story.listener.instances())[story.count // 2]
    story.listener.forget(lost)
    found = story.verify_pacs()
    named = [failure.sop_instance_uid for failure in found.failures]
    _expect(found.exit_status == 3 and named == [lost])
    say(_("   Verification asks the PACS again and names it: %(uid)s") % {"uid": lost})

    say(_("4. Back up once more: only what evidence shows missing is sent."))
    repaired = story.back_up(story.pacs, story.vault)
    _expect(repaired.exit_status == 0 and repaired.counts.stored == 1)
    _expect(lost in story.listener.instances())
    say(_("   One instance was sent, and the PACS is complete again."))


def _flip_a_bit(story: _Demonstration) -> None:
    say = story.say
    say(_("5. One bit flips on the vault's disk."))
    pack = max((story.home / "vault" / "packs").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    _section, vault = open_named_vault(story.workplace.settings, story.vault)
    found = check(vault, CheckRequest(read_data=True))
    _expect([pack.name in finding.key for finding in found.errors] == [True])
    say(_("   Checking the vault finds the one pack among %(count)d.") % {"count": found.packs})
    after = repair(vault).after
    content[len(content) // 2] ^= 1
    _expect(after.is_sound and pack.read_bytes() == content)
    say(_("   Its parity gives the bit back; the vault is sound."))


def _restore(story: _Demonstration) -> None:
    say = story.say
    say(_("6. The disaster: everything comes back from the vault alone."))
    target = story.home / "restored"
    report = restore(
        story.workplace.settings,
        RestoreRequest(story.vault, str(target)),
        lambda _progress: None,
        threading.Event(),
    )
    _expect(report.exit_status == 0)
    originals = [path for path in story.studies.rglob("*") if path.is_file()]
    for original in originals:
        copy = target / original.relative_to(story.studies)
        _expect(copy.read_bytes() == original.read_bytes())
    _expect(len(originals) == story.count)
    say(_("   %(count)d files restored, each byte for byte the same.") % {"count": story.count})


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _expect(shown: bool) -> None:
    if not shown:
        raise DemonstrationFailedError(
            _("The demonstration did not show what it should; this is a defect of dcmvault."),
            hint=_("Please report it with the log in the demonstration's folder."),
        )
