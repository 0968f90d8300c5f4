"""The chain of snapshots checked: against itself, and against somebody outside who knew it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dcmvault.vault.findings import Finding, Trouble
from dcmvault.vault.snapshot import Link, heads


class KnownSnapshot(NamedTuple):
    """A snapshot as an outside witness remembers it."""

    name: str  #: GGGGGGGG-SHA
    generation: int


@dataclass(frozen=True, slots=True)
class Witness:
    """What is known of a vault outside of it: nobody who has only the vault can change that."""

    known: Sequence[KnownSnapshot] = ()
    #: Name of a snapshot that was exported as the newest one.
    head: str = ""

    def everything(self) -> list[KnownSnapshot]:
        """List all that is known."""
        if not self.head:
            return list(self.known)
        return [*self.known, KnownSnapshot(self.head, generation_in(self.head))]


#: By head: names of the snapshots that it says were forgotten; None if that cannot be read.
Forgotten = Mapping[str, frozenset[str] | None]


def generation_in(name: str) -> int:
    """Return the generation that a snapshot's name begins with; 0 if it has none."""
    digits = name.partition("-")[0]
    return int(digits) if digits.isdecimal() else 0


def check_chain(
    links: Sequence[Link], unreadable: Sequence[str], forgotten: Forgotten, witness: Witness
) -> Iterator[Finding]:
    """Yield what is wrong with the chain.

    `unreadable` are names of snapshots whose objects are there, but damaged: found elsewhere.
    """
    there = {link.name: link for link in links}
    for link in links:
        expected = 1 + max(map(generation_in, link.parents), default=0)
        if link.generation != expected:
            message = f"the snapshot {link.name} does not follow its parents"
            yield Finding(Trouble.UNREADABLE, link.key, message)
    known_there = there.keys() | set(unreadable)
    gone: dict[str, bool] = {}
    anywhere = frozenset[str]().union(*(names or frozenset() for names in forgotten.values()))
    for head in heads(links):
        if head.name in anywhere:
            continue  # only what followed it is gone; a legal hold keeps it
        allowed = forgotten.get(head.name)
        for name in _missing_ancestors(head, there):
            if name not in known_there and (allowed is None or name not in allowed):
                gone[name] = gone.get(name, True) and allowed is None
    for name, may_be_forgotten in sorted(gone.items()):
        yield _gone(name, "later snapshots name it", is_note=may_be_forgotten)
    yield from _against(witness, links, known_there, forgotten, set(gone))


def _missing_ancestors(head: Link, there: Mapping[str, Link]) -> set[str]:
    missing: set[str] = set()
    seen: set[str] = set()
    waiting = [head.name]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        link = there.get(name)
        if link is None:
            missing.add(name)
        else:
            waiting += link.parents
    return missing


def _against(
    witness: Witness,
    links: Sequence[Link],
    there: set[str],
    forgotten: Forgotten,
    found: set[str],
) -> Iterator[Finding]:
    known = witness.everything()
    newest = max((one.generation for one in known), default=0)
    present = max((link.generation for link in links), default=0)
    if newest > max([present, *map(generation_in, there)]):
        message = (
            f"the vault is older than it was: its newest snapshot has generation {present},"
            f" but one of generation {newest} is known"
        )
        yield Finding(Trouble.ROLLED_BACK, "", message)
    allowed: set[str] = set()
    unknown = not forgotten
    for names in forgotten.values():
        allowed |= names or frozenset()
        unknown |= names is None
    for name in sorted({one.name for one in known} - there - allowed - found):
        may_be_forgotten = unknown and generation_in(name) <= present
        yield _gone(name, "it was known outside of the vault", is_note=may_be_forgotten)


def _gone(name: str, why: str, *, is_note: bool) -> Finding:
    message = f"the snapshot {name} is gone: {why}"
    if is_note:
        message += " (whether it was forgotten on purpose cannot be told here)"
    return Finding(Trouble.SNAPSHOT_GONE, f"snapshots/{name}", message, is_note=is_note)
