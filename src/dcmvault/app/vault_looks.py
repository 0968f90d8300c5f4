"""A vault looked at as a whole: its snapshots, who can open it, and what takes up its space."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dcmvault.app.vault_contents import StudyView, open_contents
from dcmvault.config.settings import Settings
from dcmvault.errors import RunInterruptedError
from dcmvault.i18n import gettext as _
from dcmvault.vault.keys import SlotKind
from dcmvault.vault.phases import Phase, Told
from dcmvault.vault.repository import Vault
from dcmvault.vault.statistics import VaultFigures, figures_of

#: Studies that are named, the largest first, and snapshots, the newest first.
_MOST_STUDIES = 20
_MOST_SNAPSHOTS = 200


@dataclass(frozen=True, slots=True)
class SnapshotLine:
    """One snapshot; what it holds is None where it is damaged."""

    name: str
    taken_at: datetime
    kind: str = ""
    source: str = ""
    studies: int | None = None
    instances: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One who can open a vault. Nothing here is secret."""

    slot: str
    kind: SlotKind
    label: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class VaultLook:
    """What a vault is like."""

    name: str
    address: str
    encrypted: bool
    copies: int
    parity: int
    snapshots: tuple[SnapshotLine, ...]
    #: How many there are in all.
    snapshots_in_all: int
    keys: tuple[KeyLine, ...]
    figures: VaultFigures
    #: The studies whose files are the largest, by what they were when they were backed up.
    largest: tuple[StudyView, ...]
    #: Why some of it cannot be read, each once.
    problems: tuple[str, ...]

    @property
    def opens_without_paper(self) -> bool:
        """Whether nobody has a recovery key: then a forgotten passphrase is the end of it."""
        return self.encrypted and all(one.kind is not SlotKind.RECOVERY for one in self.keys)


def look_at_vault(
    settings: Settings,
    name: str,
    told: Callable[[Phase, int, int], object],
    stop: threading.Event,
) -> VaultLook:
    """Look at a configured vault; what opening it raises, and RunInterruptedError when stopped."""

    def going(phase: Phase, done: int, total: int) -> None:
        told(phase, done, total)
        if stop.is_set():
            raise RunInterruptedError(_("The look at the vault was stopped."))

    contents = open_contents(settings, name)
    going(Phase.LOOKING, 0, 0)
    views = contents.snapshots()
    snapshots = [
        SnapshotLine(view.link.name, view.created_at)
        if view.state is None
        else SnapshotLine(
            view.link.name,
            view.created_at,
            view.state.kind,
            view.state.source,
            view.state.studies,
            view.state.instances,
            view.state.size,
        )
        for view in reversed(views[-_MOST_SNAPSHOTS:])
    ]
    going(Phase.LOOKING, 0, 0)
    largest = heapq.nlargest(
        _MOST_STUDIES, contents.studies(contents.state()), key=lambda one: one.bytes
    )
    vault = contents.vault
    keys = vault.sealing.keys
    return VaultLook(
        name,
        contents.address,
        vault.config.encrypted,
        vault.config.copies,
        vault.config.parity,
        tuple(snapshots),
        len(views),
        tuple(
            KeyLine(one.holder.slot, one.holder.kind, one.label, one.created_at)
            for one in keys.slots
        ),
        _figures(vault, largest, going),
        tuple(largest),
        tuple(dict.fromkeys(error.message for error in contents.losses.values())),
    )


def _figures(vault: Vault, largest: Sequence[StudyView], told: Told) -> VaultFigures:
    """Gather the figures. A look is kept for a while: of all studies only those that are named."""
    figures = figures_of(vault, told)
    every = figures.space.by_study
    uids = {one.study_instance_uid for one in largest} & set(every)
    return replace(
        figures, space=replace(figures.space, by_study={uid: every[uid] for uid in uids})
    )
