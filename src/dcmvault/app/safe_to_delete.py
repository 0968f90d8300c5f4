"""Safe to delete: each study of a source looked at now, and judged by the configured policy."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from dcmvault.app.places import may_be_at_source, place_of
from dcmvault.app.verify import refuse_unknown_source
from dcmvault.app.wiring.stores import open_vault_at
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.peer_sections import (
    DicomwebSourceSection,
    DimseSourceSection,
)
from dcmvault.config.sections import HorosSourceSection, VaultDestinationSection
from dcmvault.config.settings import Settings
from dcmvault.errors import DcmvaultError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.deletion import (
    DeletionPolicy,
    DeletionReport,
    SourceFacts,
    SourceVerdicts,
    StudyFacts,
)
from dcmvault.model.evidence import Level
from dcmvault.pipeline.deletion_policy import judge
from dcmvault.pipeline.selection import remarks_of, select_from
from dcmvault.vault.locking import locked_until
from dcmvault.vault.state import VaultState, present_state

_log = logging.getLogger(__name__)


def deletion_policy(settings: Settings) -> DeletionPolicy:
    """Return the configured policy, destinations by their canonical addresses."""
    section = settings.safe_to_delete
    return DeletionPolicy(
        copies=section.copies,
        level=Level.from_word(section.level),
        levels={
            settings.destination(name).section.address: Level.from_word(word)
            for name, word in section.levels.items()
        },
        immutable=section.immutable,
        evidence_max_age=timedelta(days=section.evidence_max_age_days),
        min_age=timedelta(days=section.min_age_days),
        require_unchanged=section.require_unchanged,
    )


def safe_to_delete(
    workplace: Workplace,
    source: str,
    studies: Sequence[str],
    listed: Callable[[int], None],
) -> DeletionReport:
    """Look at a source, or (empty) at every one that was ever backed up, and judge its studies.

    The source is listed anew, and what is new or changed there is read: nothing is concluded from
    memory. `listed` is told how many entries were seen. Raises UsageError for an unknown source
    or study; of one named source also what keeps it from being looked at.
    """
    policy = deletion_policy(workplace.settings)
    if source:
        name = _known_name(workplace, source)
        found = [_of_source(workplace, name, policy, studies, listed)]
    else:
        known = workplace.catalogue.status.sources()
        names = [one.name for one in known if one.last_seen_at is not None]
        found = [_as_far_as_possible(workplace, name, policy, studies, listed) for name in names]
    told = {v.facts.study_instance_uid for one in found for v in one.verdicts}
    if missing := sorted(set(studies) - told):
        raise UsageError(
            _("No source that was looked at has a study %s.") % missing[0],
            hint=_("What is gone from its source needs no deletion; else check the UID."),
        )
    return DeletionReport(policy, tuple(found), tuple(studies))


def _known_name(workplace: Workplace, source: str) -> str:
    name = workplace.settings.source(source).address
    refuse_unknown_source(workplace, name)
    known = {one.name for one in workplace.catalogue.status.sources()}
    # A plain path may be a library that is not mounted now.
    return name if name in known else HorosSourceSection(path=Path(name)).address


def _as_far_as_possible(
    workplace: Workplace,
    name: str,
    policy: DeletionPolicy,
    studies: Sequence[str],
    listed: Callable[[int], None],
) -> SourceVerdicts:
    """Look at one of several sources; that it cannot be read does not keep others back."""
    try:
        return _of_source(workplace, name, policy, studies, listed)
    except DcmvaultError as error:
        _log.warning("a source cannot be looked at: %s", error.code)
        why = (error.code, error.message, error.hint)
        return SourceVerdicts(SourceFacts(name), workplace.clock.now(), error=why)


def _of_source(
    workplace: Workplace,
    name: str,
    policy: DeletionPolicy,
    studies: Sequence[str],
    listed: Callable[[int], None],
) -> SourceVerdicts:
    catalogue = workplace.catalogue
    opened = workplace.source(name)
    looked_at = workplace.clock.now()
    select_from(
        opened,
        catalogue.sources,
        None,
        include_other_files=False,
        listed=listed,
        open_other=workplace.source,
    )
    source_id = catalogue.sources.source(name)
    facts = list(catalogue.deletion.study_facts(source_id, studies))
    addresses = {copy.destination for study in facts for copy in study.copies}
    vaults = _ask_vaults(workplace, addresses, facts)
    at = {address: workplace.destination_section(address) for address in addresses}
    places = {address: place_of(one) for address, one in at.items()}
    section = workplace.source_section(name)
    about = SourceFacts(
        name,
        shows_changes=not isinstance(section, DimseSourceSection | DicomwebSourceSection),
        lists_all=remarks_of(opened).lists_all,
        unplaced=catalogue.deletion.unplaced(source_id),
        holds=vaults.holds,
        unasked=vaults.unasked,
        set_back=vaults.set_back,
        at_source=tuple(sorted(a for a, one in at.items() if may_be_at_source(section, one))),
    )
    now = workplace.clock.now()
    verdicts = tuple(judge(vaults.completed(study, places), about, policy, now) for study in facts)
    return SourceVerdicts(about, looked_at, verdicts)


@dataclass(frozen=True, slots=True)
class _Vaults:
    """What the vaults among the destinations say of studies."""

    holds: Mapping[str, tuple[str, ...]]
    unasked: tuple[str, ...]
    set_back: tuple[str, ...]
    #: By address: until when what it names is locked, and studies that no snapshot names wholly.
    locks: Mapping[str, tuple[datetime, Collection[str]]]
    #: By address: studies of which the vault lists less than evidence was given of.
    unlisted: Mapping[str, Collection[str]]

    def completed(self, study: StudyFacts, places: Mapping[str, str]) -> StudyFacts:
        """Add where the study's copies are, and until when they are locked."""
        copies = []
        for copy in study.copies:
            until, pending = self.locks.get(copy.destination, (None, ()))
            if study.study_instance_uid in pending:
                until = None
            copies.append(
                replace(
                    copy,
                    immutable_until=until,
                    place=places[copy.destination],
                    is_listed_no_more=study.study_instance_uid
                    in self.unlisted.get(copy.destination, ()),
                )
            )
        return replace(study, copies=tuple(copies))


def _ask_vaults(
    workplace: Workplace, addresses: Collection[str], facts: Sequence[StudyFacts]
) -> _Vaults:
    """Ask every vault for legal holds, locks, and what it lists; one that cannot be is named."""
    holds: dict[str, tuple[str, ...]] = defaultdict(tuple)
    unasked: list[str] = []
    set_back: list[str] = []
    locks: dict[str, tuple[datetime, Collection[str]]] = {}
    unlisted: dict[str, Collection[str]] = {}
    for address in sorted(addresses):
        section = workplace.destination_section(address)
        if not isinstance(section, VaultDestinationSection):
            continue
        try:
            vault = open_vault_at(section, workplace.clock, workplace.settings.retry)
            state = present_state(vault)
            for uid in state.holds():
                holds[uid] += (address,)
            until = locked_until(vault, state)
            there = {link.name for link in vault.links()} | state.forgotten.snapshots
            unlisted[address] = _unlisted(state, _held_at(address, facts))
        except DcmvaultError as error:
            _log.warning("a vault cannot be asked for legal holds: %s", error.code)
            unasked.append(address)
            continue
        destination = workplace.catalogue.plans.destination(address)
        known = workplace.catalogue.snapshots.known_snapshots(destination)
        if any(ref.snapshot_id not in there for ref in known):
            set_back.append(address)
        if until is not None:
            pending = {
                ref.study_instance_uid for journal in state.journals for ref in journal.records
            }
            locks[address] = (until, pending)
    return _Vaults(holds, tuple(unasked), tuple(set_back), locks, unlisted)


def _held_at(address: str, facts: Sequence[StudyFacts]) -> Mapping[str, int]:
    """Count, by study, the instances that a destination holds by any evidence."""
    return {
        study.study_instance_uid: sum(part.instances for part in copy.held(Level.PRESENT))
        for study in facts
        for copy in study.copies
        if copy.destination == address
    }


def _unlisted(state: VaultState, held: Mapping[str, int]) -> Collection[str]:
    """Return the studies of which a vault lists less than it held.

    Somebody with another state folder may have forgotten them, or given up what was lost; or an
    older copy of the vault was put in its place.
    """
    doubtful = [
        uid
        for uid, count in held.items()
        if uid in state.forgotten.studies
        or state.forgotten.lost
        or sum(entry.instances for entry in state.entries_of(uid)) < count
    ]
    found = set()
    for uid in doubtful:
        listed = {(one.sop_instance_uid, one.file_sha256) for one in state.records(uid)}
        if len(listed) < held[uid]:
            found.add(uid)
    return found
