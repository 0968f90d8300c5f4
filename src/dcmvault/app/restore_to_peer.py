"""Restore to a PACS or a DICOMweb service: a durable run whose source is what is brought back."""

from __future__ import annotations

from dataclasses import dataclass

from dcmvault.app.backup import make_request
from dcmvault.app.restore import refuse_times
from dcmvault.app.restore_from_vault import choose_state
from dcmvault.app.restore_plan import RestorePlan
from dcmvault.app.restore_report import RestoreRequest
from dcmvault.app.restored_names import PathRegister
from dcmvault.app.vault_access import readable_section
from dcmvault.app.wiring.destinations import build_destination
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.sections import SourceSection, VaultSourceSection
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.job import Priority
from dcmvault.model.plan import RunKind, RunRequest, Strategy
from dcmvault.model.restored import Layout
from dcmvault.ports.destination import SendsBack
from dcmvault.vault.choosing import Choice, moment_word
from dcmvault.vault.damage import read_in_spite_of_damage
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.snapshot import Link


@dataclass(frozen=True, slots=True)
class PeerRestore:
    """A run that was made of a restore, and what it brings back."""

    request: RunRequest
    #: The snapshots whose union is restored; none of what has no snapshots.
    snapshots: tuple[Link, ...] = ()
    #: Whether what came after them is restored, too.
    is_present: bool = True


def peer_restore(workplace: Workplace, request: RestoreRequest, level: Level | None) -> PeerRestore:
    """Make the run for a restore to a PACS or a DICOMweb service.

    A snapshot is named by its whole name, and a time as it stands, so that the same command means
    the same run. What evidence shows as held there is looked at again; only what is missing,
    damaged or another version is sent.
    Raises UsageError (no such snapshot, study or series), and what opening a vault raises.
    """
    if request.layout is not None:
        raise UsageError(
            _("A PACS keeps instances as it likes: --layout is for folders and ZIP files."),
            hint=_("Leave out --layout."),
        )
    if request.only_source:
        raise UsageError(
            _("A PACS is restored to from all sources of a vault: --source is for files."),
            hint=_("Name the studies with --study instead."),
        )
    settings = workplace.settings
    section = readable_section(settings, request.source)
    refuse_times(request, section)
    links: tuple[Link, ...] = ()
    if isinstance(section, VaultSourceSection):
        section, links = _chosen(workplace, request, section)
    run = make_request(
        settings,
        kind=RunKind.RESTORE,
        source=section,
        destinations=[request.target],
        level=level or _level_of(workplace, request.target),
        # Whatever was known of the place: it may have lost everything since.
        strategy=Strategy.FULL,
        priority=Priority.URGENT,
        selection=request.selection,
    )
    is_present = not getattr(section, "snapshot", "")
    return PeerRestore(run, links, is_present)


def _level_of(workplace: Workplace, target: str) -> Level | None:
    """Return `proven` where nothing else is configured, and the service lets read back."""
    named = workplace.settings.destination(target)
    if named.level is not None:
        return None
    destination = build_destination(named.section, workplace.clock)
    if isinstance(destination, SendsBack) and destination.sends_back():
        return Level.PROVEN
    return None


def _chosen(
    workplace: Workplace, request: RestoreRequest, section: VaultSourceSection
) -> tuple[SourceSection, tuple[Link, ...]]:
    """Name the state of a vault in its address, and see that what was named is in it."""
    vault = workplace.vault(section)
    read_in_spite_of_damage(vault)
    choice = Choice(vault, lambda _key, _error: None)
    state = choose_state(request, choice, section.snapshot)
    word = section.snapshot
    if request.snapshot:
        word = state.links[0].name
    elif request.as_of is not None:
        word = moment_word(request.as_of)
    if not request.selection.is_whole:
        plan = RestorePlan(
            vault,
            state,
            # What cannot be read is told by the run itself.
            LegibleState(state, lambda _study, _error: None),
            request.selection,
            PathRegister(folds_case=False),
            Layout.DICOM,
            lambda: None,
        )
        plan.make()
    return section.model_copy(update={"snapshot": word}), tuple(state.links)
