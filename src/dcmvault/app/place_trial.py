"""A place tried rung by rung: what works, why the next rung broke, and what to ask of whom."""

from __future__ import annotations

import contextvars
import logging
import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from dcmvault.app.asking_administrators import Ourselves, request_for
from dcmvault.app.places import is_same_pacs, overlap
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.trying import try_destination, try_source
from dcmvault.config.sections import (
    DestinationSection,
    FolderDestinationSection,
    SourceSection,
    VaultSection,
)
from dcmvault.durability import make_durable, make_names_durable
from dcmvault.errors import DcmvaultError
from dcmvault.model.probe import ProbeStep

_log = logging.getLogger(__name__)

#: Seconds that one rung may take; a test object of 32 MB over a slow line takes longer.
_LONGEST_RUNG_S = 30.0
_LONGEST_WITH_STORING_S = 120.0
#: Rungs of one trial: a place that tells of more does not end.
_MOST_RUNGS = 40
#: Trials that are under way in this process; one that hangs in a peer counts until it ends.
_SLOTS = threading.BoundedSemaphore(8)


class RungOutcome(StrEnum):
    """How one rung went."""

    GOOD = "good"
    #: It works, and something is to be known or mended all the same.
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung. Details and hints are English sentences of the domain (`i18n.sentence`)."""

    name: str  #: as `ProbeStep.name`, and: sync | same_disk | overlap | patience
    outcome: RungOutcome
    detail: str
    hint: str = ""
    #: What to send to whoever looks after the other side, ready to be copied, in the language in
    #: use; empty where nothing is to be asked.
    request: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TrialWishes:
    """What a trial may do, and what it is compared with."""

    #: Send a test instance to a PACS. It stays there.
    stores: bool = False
    #: The vault need not be there yet: its place is tried.
    makes_vault: bool = False
    #: The sources whose copies would go there.
    sources: tuple[SourceSection, ...] = ()
    longest_rung_s: float = _LONGEST_RUNG_S


def try_out_destination(
    section: DestinationSection, wishes: TrialWishes | None = None
) -> Iterator[Rung]:
    """Try a destination and yield each rung as soon as it is known.

    Nothing raises, and nothing hangs: a rung without an answer is given up, and is the last.
    """
    wishes = wishes or TrialWishes()
    clock = SystemClock()
    yield from _of_sources(section, wishes.sources)
    good = True
    longest = _LONGEST_WITH_STORING_S if wishes.stores else wishes.longest_rung_s
    for rung in _climbed(
        lambda tell: try_destination(
            section, clock, tell, stores=wishes.stores, makes_vault=wishes.makes_vault
        ),
        section,
        longest,
    ):
        good = good and rung.outcome is not RungOutcome.BAD
        yield rung
    if good and (path := _folder_of(section)) is not None:
        yield from _of_disk(path, wishes.sources)


def try_out_source(
    section: SourceSection, longest_rung_s: float = _LONGEST_RUNG_S
) -> Iterator[Rung]:
    """Try a source; as `try_out_destination`."""
    clock = SystemClock()
    yield from _climbed(lambda tell: try_source(section, clock, tell), section, longest_rung_s)


def _climbed(
    climb: Callable[[Callable[[ProbeStep], None]], None],
    section: SourceSection | DestinationSection,
    longest_s: float,
) -> Iterator[Rung]:
    """Let a thread climb, so that a rung which does not end can be given up."""
    heard: queue.SimpleQueue[ProbeStep | None] = queue.SimpleQueue()

    def work() -> None:
        begun = time.monotonic()
        try:
            climb(heard.put)
        except DcmvaultError as error:
            took_s = time.monotonic() - begun
            heard.put(ProbeStep("place", False, error.message, took_s, error.hint))
        except Exception as error:  # noqa: BLE001 - a thread's outermost frame; plug-ins raise anything
            _log.exception("the trial of a place failed by a defect")
            detail = f"a defect ({type(error).__name__}); the log has more"
            heard.put(ProbeStep("place", False, detail, time.monotonic() - begun))
        finally:
            heard.put(None)
            _SLOTS.release()

    if not _SLOTS.acquire(blocking=False):
        detail = "as many places are tried as may be at once"
        yield Rung("patience", RungOutcome.BAD, detail, "Wait until one of them ended.")
        return
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name="trial", daemon=True).start()
    ourselves = Ourselves.of(section)
    for _number in range(_MOST_RUNGS):
        try:
            step = heard.get(timeout=longest_s)
        except queue.Empty:
            yield Rung(
                "patience",
                RungOutcome.BAD,
                "nothing came back for too long, so the test was given up",
                "Something on the way, or the peer, takes what is sent and does not answer.",
                request_for(section, "patience", ourselves),
                longest_s,
            )
            return
        if step is None:
            return
        yield _rung(step, section, ourselves)


def _rung(
    step: ProbeStep, section: SourceSection | DestinationSection, ourselves: Ourselves
) -> Rung:
    outcome = RungOutcome.BAD
    if step.ok:
        outcome = RungOutcome.WARNING if step.hint else RungOutcome.GOOD
    rung = Rung(step.name, outcome, step.detail, step.hint, "", step.duration_s)
    if step.ok:
        return rung
    return replace(rung, request=request_for(section, step.name, ourselves))


def _of_sources(section: DestinationSection, sources: Sequence[SourceSection]) -> Iterator[Rung]:
    for source in sources:
        if is_same_pacs(source, section) or overlap(source, section):
            yield Rung(
                "overlap",
                RungOutcome.BAD,
                f"it is the source {source.address}, or inside it, or around it",
                "A copy there would be none: choose another place.",
            )


def _folder_of(section: DestinationSection) -> Path | None:
    if isinstance(section, FolderDestinationSection | VaultSection):
        return section.path
    return None


def _of_disk(path: Path, sources: Sequence[SourceSection]) -> Iterator[Rung]:
    """Ask whether the disk keeps its word, and whether it is another one than that of a source."""
    there = path
    while not there.is_dir() and there != there.parent:
        there = there.parent
    begun = time.monotonic()
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".dcmvault-test-") as file:
            file.write(b"test")
            file.flush()
            make_durable(file.fileno())
            make_names_durable(there)
        device = there.stat().st_dev
    except OSError as error:
        detail = f"what is written cannot be made durable: {os.strerror(error.errno or 0)}"
        hint = "Keep copies on a disk that can: some network mounts cannot."
        took_s = time.monotonic() - begun
        yield Rung("sync", RungOutcome.BAD, detail, hint, "", took_s)
        return
    took_s = time.monotonic() - begun
    yield Rung("sync", RungOutcome.GOOD, "what is written becomes durable", "", "", took_s)
    for source in sources:
        folder = getattr(source, "path", None)
        try:
            same = isinstance(folder, Path) and folder.stat().st_dev == device
        except OSError:
            continue
        if same:
            yield Rung(
                "same_disk",
                RungOutcome.WARNING,
                f"it is on the same disk as {source.address}",
                "When that disk fails, both are lost: choose another disk, or add a second place.",
            )
