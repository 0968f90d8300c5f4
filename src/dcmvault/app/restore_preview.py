"""What a restore would bring back, counted: nothing is written, and nothing is sent."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dcmvault.app.restore import refuse_times
from dcmvault.app.restore_from_vault import choose_state
from dcmvault.app.restore_plan import RestorePlan
from dcmvault.app.restore_report import RestoreRequest
from dcmvault.app.restore_targets import is_peer, layout_for, restore_target
from dcmvault.app.restore_to_peer import peer_restore
from dcmvault.app.restored_names import PathRegister
from dcmvault.app.restoring import stopped
from dcmvault.app.vault_access import readable_section
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.sections import SourceSection, VaultSourceSection
from dcmvault.errors import DestinationError
from dcmvault.model.instance import Claim
from dcmvault.model.restored import Layout
from dcmvault.pipeline.selection import may_be_meant, studies_of
from dcmvault.vault.choosing import Choice
from dcmvault.vault.damage import read_in_spite_of_damage
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.snapshot import Link


@dataclass(frozen=True, slots=True)
class RestorePreview:
    """What a restore would bring back."""

    studies: int
    files: int
    #: 0 where the place tells sizes only when it is read.
    bytes: int
    #: The snapshots whose union would be restored; none of what has no snapshots.
    snapshots: tuple[Link, ...] = ()
    #: Whether it may be less: only reading a file tells whether it is meant.
    is_most: bool = False
    #: Why some of the place cannot be read, the first of each kind.
    problems: tuple[str, ...] = ()
    #: Bytes that are free where files would go; None for a PACS.
    free_bytes: int | None = None

    @property
    def fits(self) -> bool:
        """Whether there is room for it."""
        return self.free_bytes is None or self.bytes <= self.free_bytes


def preview_restore(
    workplace: Workplace,
    request: RestoreRequest,
    counted: Callable[[int], object],
    stop: threading.Event,
) -> RestorePreview:
    """Count what a restore would bring back; `counted` hears of the studies that were looked at.

    Refuses what `restore` and `peer_restore` refuse, with the same errors. RunInterruptedError
    when it is to stop.
    """
    settings = workplace.settings
    section = readable_section(settings, request.source)
    refuse_times(request, section)
    free: int | None = None
    if is_peer(settings, request.target):
        peer_restore(workplace, request, None)
    else:
        restore_target(request.target, section, request.layout, stop)
        free = _free_bytes(Path(request.target).expanduser())
    looked = _Looked(counted, stop)
    if isinstance(section, VaultSourceSection):
        return _of_vault(workplace, request, section, looked, free)
    return _of_source(workplace, request, section, looked, free)


@dataclass(slots=True)
class _Looked:
    """Counts studies, and ends it where somebody asked for that."""

    counted: Callable[[int], object]
    stop: threading.Event
    studies: int = 0

    def __call__(self) -> None:
        if self.stop.is_set():
            raise stopped()
        self.studies += 1
        self.counted(self.studies)


def _of_vault(
    workplace: Workplace,
    request: RestoreRequest,
    section: VaultSourceSection,
    looked: _Looked,
    free: int | None,
) -> RestorePreview:
    problems: list[str] = []

    def lose(_what: str, error: DestinationError) -> None:
        problems.append(error.message)

    vault = workplace.vault(section)
    read_in_spite_of_damage(vault)
    state = choose_state(request, Choice(vault, lose), section.snapshot)
    to_peer = free is None
    plan = RestorePlan(
        vault,
        state,
        LegibleState(state, lose),
        request.selection,
        PathRegister(folds_case=False),
        Layout.DICOM if to_peer else layout_for(request.target, request.layout),
        looked,
        only_source=request.only_source,
    )
    plan.make()
    return RestorePreview(
        plan.studies,
        plan.files,
        plan.bytes,
        tuple(state.links),
        problems=tuple(dict.fromkeys(problems)),
        free_bytes=free,
    )


def _of_source(
    workplace: Workplace,
    request: RestoreRequest,
    section: SourceSection,
    looked: _Looked,
    free: int | None,
) -> RestorePreview:
    source, wanted = workplace.source(section.address), request.selection
    studies = files = size = 0
    is_most = False
    for study in studies_of(source, wanted):
        looked()
        before = files
        for entry in source.entries(study):
            if entry.claim is Claim.DICOM and may_be_meant(entry, wanted):
                files += 1
                size += entry.fingerprint.size
                is_most |= entry.indexed is None
        studies += files > before
    return RestorePreview(
        studies, files, size, is_most=is_most and not wanted.is_whole, free_bytes=free
    )


def _free_bytes(target: Path) -> int:
    """Say how much is free at the nearest folder that is there."""
    place = next((one for one in (target, *target.parents) if one.is_dir()), Path.cwd())
    return shutil.disk_usage(place).free
