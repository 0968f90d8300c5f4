"""What a vault goes on remembering: snapshots and studies forgotten, studies under legal hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dcmvault.app.vault_access import open_named_vault
from dcmvault.app.wiring.serving import forget_cards
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.addresses import source_section
from dcmvault.config.settings import Settings
from dcmvault.errors import AddressError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.identifiers import DestinationId
from dcmvault.model.selection import NO_STUDY
from dcmvault.model.snapshot import SnapshotRef
from dcmvault.vault.choosing import find_snapshot
from dcmvault.vault.repository import Vault
from dcmvault.vault.retention import (
    KeepPolicy,
    apply_policy,
    created_at,
    forget_snapshots,
    forget_study,
    hold_studies,
    hold_study,
    release_studies,
    release_study,
)
from dcmvault.vault.snapshot import Link, heads
from dcmvault.vault.state import present_state

_READERS = 8


@dataclass(frozen=True, slots=True)
class ForgetRequest:
    """What is to be forgotten: some snapshots, a study, or what a policy does not keep."""

    snapshots: tuple[str, ...] = ()
    #: Study Instance UID, or `-` for files that are no instances.
    study: str = ""
    policy: KeepPolicy = field(default_factory=KeepPolicy)
    #: The policy looks at snapshots of this source only.
    source: str = ""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What was forgotten, or would be."""

    address: str
    #: Snapshots that a policy keeps, oldest first, each with the rules that want it.
    kept: tuple[tuple[Link, tuple[str, ...]], ...] = ()
    forgotten: tuple[Link, ...] = ()
    study: str = ""
    #: The snapshot that says so; None if nothing was written.
    snapshot: Link | None = None


def forget(workplace: Workplace, name_or_address: str, request: ForgetRequest) -> Forgetting:
    """Forget; a later prune gives the space back.

    Raises UsageError for what cannot be, StudyHeldError for a study under legal hold.
    """
    ways = [bool(request.snapshots), bool(request.study), not request.policy.is_empty]
    if sum(ways) != 1:
        raise UsageError(
            _("Say what to forget: snapshots, a study, or what no rule keeps."),
            hint=_("For example: --keep-daily 14 --keep-monthly 12."),
        )
    section, vault = open_named_vault(workplace.settings, name_or_address)
    address = section.address
    if request.study:
        return _forget_study(workplace, vault, address, request)
    if request.snapshots:
        links = vault.links()
        chosen = [find_snapshot(links, text) for text in request.snapshots]
        kept: tuple[tuple[Link, tuple[str, ...]], ...] = ()
    else:
        kept, chosen = _by_policy(workplace.settings, vault, request)
    _refuse_heads(vault, chosen)
    link = None
    if chosen and not request.dry_run:
        link = forget_snapshots(vault, [one.name for one in chosen])
        names = [one.name for one in chosen]
        destination = _tell_catalogue(workplace, address, link)
        workplace.catalogue.snapshots.forget_snapshots(destination, names)
    return Forgetting(address, kept, tuple(chosen), "", link)


def _forget_study(
    workplace: Workplace, vault: Vault, address: str, request: ForgetRequest
) -> Forgetting:
    uid = "" if request.study == NO_STUDY else request.study
    if request.dry_run:
        return Forgetting(address, study=request.study)
    link = forget_study(vault, uid)
    destination = _tell_catalogue(workplace, address, link)
    # Nothing is shown as held that is not; if the source still has it, it is due again.
    workplace.catalogue.plans.forget_copies(destination, uid)
    forget_cards(vault, workplace.home, uid)
    return Forgetting(address, study=request.study, snapshot=link)


def _by_policy(
    settings: Settings, vault: Vault, request: ForgetRequest
) -> tuple[tuple[tuple[Link, tuple[str, ...]], ...], list[Link]]:
    """Apply the policy to snapshots of backups; those that only note a change follow them."""
    now = present_state(vault)
    links = [link for link in vault.links() if link.name not in now.forgotten.snapshots]
    with ThreadPoolExecutor(_READERS) as pool:
        states = dict(zip((link.name for link in links), pool.map(vault.state, links), strict=True))
    source = _source_address(settings, request.source)
    considered = {
        name
        for name, state in states.items()
        if state.kind == "backup" and source in ("", state.source)
    }
    kept, chosen = apply_policy(request.policy, links, vault.clock.now(), considered)
    if not source:
        at_top = {head.name for head in heads(links)}
        chosen += [
            link for link in links if link.name not in considered and link.name not in at_top
        ]
    by_name = {link.name: link for link in links}
    listed = tuple(
        (by_name[name], tuple(rules))
        for name, rules in sorted(kept.items(), key=lambda one: one[0])
    )
    return listed, sorted(chosen, key=lambda link: (link.created_at, link.name))


def _source_address(settings: Settings, text: str) -> str:
    if not text:
        return ""
    if text in settings.sources:
        return settings.source(text).address
    try:
        return source_section(text).address
    except AddressError:
        return text


def _refuse_heads(vault: Vault, chosen: Sequence[Link]) -> None:
    top = {head.name for head in heads(vault.links())}
    if any(link.name in top for link in chosen):
        raise UsageError(
            _("The newest snapshot says what the vault holds now; it cannot be forgotten."),
            hint=_("Forget a study instead, or back up first."),
        )


def _tell_catalogue(workplace: Workplace, address: str, link: Link | None) -> DestinationId:
    """Let the catalogue witness a snapshot; return the destination's id."""
    destination = workplace.catalogue.plans.destination(address)
    if link is not None:
        ref = SnapshotRef(link.name, link.generation, created_at(link))
        workplace.catalogue.snapshots.record_snapshot(destination, ref)
    return destination


# Legal hold


def held_studies(settings: Settings, name_or_address: str) -> tuple[str, dict[str, dict[str, str]]]:
    """Return the vault's address and its studies under legal hold, with reason and time."""
    section, vault = open_named_vault(settings, name_or_address)
    return section.address, present_state(vault).holds()


def hold(workplace: Workplace, name_or_address: str, study: str, reason: str) -> Link | None:
    """Put a study under legal hold; UsageError if the vault has none of that UID."""
    section, vault = open_named_vault(workplace.settings, name_or_address)
    link = hold_study(vault, "" if study == NO_STUDY else study, reason)
    _tell_holds(workplace, vault, section.address, link)
    return link


def hold_many(
    workplace: Workplace, name_or_address: str, studies: Iterable[str], reason: str
) -> int:
    """Put studies under legal hold; return how many of them the vault has."""
    section, vault = open_named_vault(workplace.settings, name_or_address)
    found = hold_studies(vault, studies, reason)
    _tell_holds(workplace, vault, section.address, _newest(vault))
    return found


def release_many(workplace: Workplace, name_or_address: str, studies: Iterable[str]) -> int:
    """End the legal holds of studies; return how many there were."""
    section, vault = open_named_vault(workplace.settings, name_or_address)
    found = release_studies(vault, studies)
    _tell_holds(workplace, vault, section.address, _newest(vault))
    return found


def learn_holds(workplace: Workplace, name_or_address: str) -> None:
    """Have the catalogue know which studies a vault keeps under legal hold, whoever said so."""
    section, vault = open_named_vault(workplace.settings, name_or_address)
    _tell_holds(workplace, vault, section.address, None)


def _newest(vault: Vault) -> Link | None:
    links = heads(vault.links())
    return links[-1] if links else None


def _tell_holds(workplace: Workplace, vault: Vault, address: str, link: Link | None) -> None:
    destination = _tell_catalogue(workplace, address, link)
    workplace.catalogue.matrix.know_holds(destination, present_state(vault).holds().keys())


def release(workplace: Workplace, name_or_address: str, study: str) -> Link | None:
    """End a legal hold; UsageError if there is none."""
    section, vault = open_named_vault(workplace.settings, name_or_address)
    link = release_study(vault, "" if study == NO_STUDY else study)
    _tell_holds(workplace, vault, section.address, link)
    return link
