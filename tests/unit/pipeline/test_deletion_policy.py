"""Safe to delete: a table of policies and situations, and what must be said of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.model.deletion import (
    CopyFacts,
    DeletionPolicy,
    HeldPart,
    NotYet,
    Reason,
    SourceFacts,
    StudyFacts,
)
from dcmvault.model.evidence import Level
from dcmvault.pipeline.deletion_policy import judge

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
ONE = DeletionPolicy(copies=1)
TWO = DeletionPolicy(copies=2)
SOURCE = SourceFacts("/library")
N = NotYet


def copy(
    place: str = "vault",
    *,
    level: Level = Level.PROVEN,
    held: int = 10,
    of: int = 10,
    verified: float | None = 1,
    received: float | None = 30,
    locked: float | None = None,
) -> CopyFacts:
    """A copy: so many instances of so many, verified and received so many days ago."""
    part = HeldPart(
        level,
        held,
        None if verified is None else NOW - verified * DAY,
        None if received is None else NOW - received * DAY,
    )
    rest = HeldPart(Level.NONE, of - held)
    parts = (part, rest) if held < of else (part,)
    return CopyFacts(place, parts, None if locked is None else NOW + locked * DAY)


def study(*copies: CopyFacts, **facts: int) -> StudyFacts:
    return replace(StudyFacts("1.2.3", instances=10, copies=copies), **facts)  # type: ignore[arg-type]


#: Situation by situation: policy, study, source, and the kinds of every reason; none: safe.
TABLE: Mapping[str, tuple[DeletionPolicy, StudyFacts, SourceFacts, list[NotYet]]] = {
    "two proven copies": (TWO, study(copy("a"), copy("b")), SOURCE, []),
    "one copy where one is asked": (ONE, study(copy()), SOURCE, []),
    "more copies than asked": (TWO, study(copy("a"), copy("b"), copy("c")), SOURCE, []),
    "a copy at the source itself is none": (
        TWO,
        study(copy("a"), copy("b")),
        replace(SOURCE, at_source=("b",)),
        [N.TOO_FEW_COPIES, N.AT_SOURCE],
    ),
    "a vault lists it no more": (
        TWO,
        study(copy("a"), replace(copy("b"), is_listed_no_more=True)),
        SOURCE,
        [N.TOO_FEW_COPIES, N.LISTED_NO_MORE],
    ),
    "a bad third copy does not matter": (
        TWO, study(copy("a"), copy("b"), copy("c", held=3)), SOURCE, [],
    ),
    "never backed up": (TWO, study(), SOURCE, [N.TOO_FEW_COPIES]),
    "one copy where two are asked": (TWO, study(copy()), SOURCE, [N.TOO_FEW_COPIES]),
    "an instance is not held": (
        TWO, study(copy("a"), copy("b", held=9)), SOURCE, [N.TOO_FEW_COPIES, N.NOT_HELD],
    ),
    "a claim is no evidence": (
        ONE, study(copy(level=Level.SENT)), SOURCE, [N.TOO_FEW_COPIES, N.NOT_HELD],
    ),
    "a lower level": (
        ONE, study(copy(level=Level.COMPLETE)), SOURCE, [N.TOO_FEW_COPIES, N.NOT_HELD],
    ),
    "a lower level is enough here": (
        replace(ONE, level=Level.COMPLETE), study(copy(level=Level.COMPLETE)), SOURCE, [],
    ),
    "a higher level than asked": (
        replace(ONE, level=Level.COMPLETE), study(copy(level=Level.PROVEN)), SOURCE, [],
    ),
    "another level at this destination": (
        replace(TWO, levels={"pacs": Level.COMMITTED}),
        study(copy("pacs", level=Level.COMMITTED), copy("vault")),
        SOURCE,
        [],
    ),
    "the other level is of that destination only": (
        replace(TWO, levels={"pacs": Level.COMMITTED}),
        study(copy("pacs"), copy("vault", level=Level.COMMITTED)),
        SOURCE,
        [N.TOO_FEW_COPIES, N.NOT_HELD],
    ),
    "a higher level asked of this destination": (
        replace(ONE, level=Level.COMPLETE, levels={"vault": Level.PROVEN}),
        study(copy(level=Level.COMMITTED)),
        SOURCE,
        [N.TOO_FEW_COPIES, N.NOT_HELD],
    ),
    "evidence too old": (
        ONE, study(copy(verified=91)), SOURCE, [N.TOO_FEW_COPIES, N.EVIDENCE_TOO_OLD],
    ),
    "evidence just fresh enough": (ONE, study(copy(verified=90)), SOURCE, []),
    "evidence without a time": (
        ONE, study(copy(verified=None)), SOURCE, [N.TOO_FEW_COPIES, N.EVIDENCE_TOO_OLD],
    ),
    "evidence from the future: a clock was wrong": (
        ONE, study(copy(verified=-1)), SOURCE, [N.TOO_FEW_COPIES, N.EVIDENCE_TOO_OLD],
    ),
    "backed up too lately": (
        ONE, study(copy(received=6.9)), SOURCE, [N.TOO_FEW_COPIES, N.BACKED_UP_TOO_LATELY],
    ),
    "backed up just long enough ago": (ONE, study(copy(received=7)), SOURCE, []),
    "no waiting asked": (
        replace(ONE, min_age=timedelta()), study(copy(received=0)), SOURCE, [],
    ),
    "old evidence and too lately": (
        replace(ONE, min_age=200 * DAY),
        study(copy(verified=100, received=100)),
        SOURCE,
        [N.TOO_FEW_COPIES, N.EVIDENCE_TOO_OLD, N.BACKED_UP_TOO_LATELY],
    ),
    "a locked copy is asked, none is": (
        replace(ONE, immutable=1), study(copy()), SOURCE, [N.NOT_IMMUTABLE],
    ),
    "a locked copy": (replace(TWO, immutable=1), study(copy("a", locked=5), copy("b")), SOURCE, []),
    "the lock has run out": (
        replace(ONE, immutable=1), study(copy(locked=-1)), SOURCE, [N.NOT_IMMUTABLE],
    ),
    "a lock on a copy that does not count": (
        replace(ONE, immutable=1),
        study(copy("a"), copy("b", held=9, locked=5)),
        SOURCE,
        [N.NOT_IMMUTABLE],
    ),
    "two locked copies are asked": (
        replace(TWO, immutable=2),
        study(copy("a", locked=5), copy("b")),
        SOURCE,
        [N.NOT_IMMUTABLE],
    ),
    "changed since": (
        TWO, study(copy("a"), copy("b"), changed=1), SOURCE, [N.CHANGED],
    ),
    "changed since, the new content held nowhere": (
        ONE,
        study(copy(held=9), changed=1),
        SOURCE,
        [N.CHANGED, N.TOO_FEW_COPIES, N.NOT_HELD],
    ),
    "an unreadable file of it": (ONE, study(copy(), unreadable=1), SOURCE, [N.UNREADABLE]),
    "a file of a study that nobody knows": (
        ONE, study(copy()), replace(SOURCE, unplaced=2), [N.UNPLACED],
    ),
    "two contents under one UID": (ONE, study(copy(), conflicts=1), SOURCE, [N.CONFLICT]),
    "nothing of it can be read": (
        ONE,
        study(instances=0, unreadable=10),
        SOURCE,
        [N.ABSENT, N.UNREADABLE, N.TOO_FEW_COPIES],
    ),
    "a listing that may lack some": (
        ONE, study(copy()), replace(SOURCE, lists_all=False), [N.LISTING_INCOMPLETE],
    ),
    "a listing that shows no changes": (
        ONE, study(copy()), replace(SOURCE, shows_changes=False), [N.CHANGES_UNSEEN],
    ),
    "a listing that shows no changes, believed": (
        replace(ONE, require_unchanged=False),
        study(copy()),
        replace(SOURCE, shows_changes=False),
        [],
    ),
    "what is seen to be changed is never believed": (
        replace(ONE, require_unchanged=False), study(copy(), changed=1), SOURCE, [N.CHANGED],
    ),
    "under legal hold": (
        ONE, study(copy()), replace(SOURCE, holds={"1.2.3": ("vault",)}), [N.LEGAL_HOLD],
    ),
    "another study under legal hold": (
        ONE, study(copy()), replace(SOURCE, holds={"1.2.4": ("vault",)}), [],
    ),
    "a vault that cannot be asked for holds": (
        ONE, study(copy("a"), copy("b")), replace(SOURCE, unasked=("b",)), [N.VAULT_UNASKED],
    ),
    "one place under two addresses": (
        TWO,
        study(replace(copy("a"), place="pacs"), replace(copy("b"), place="pacs")),
        SOURCE,
        [N.TOO_FEW_COPIES],
    ),
    "one locked place under two addresses": (
        replace(ONE, immutable=2),
        study(replace(copy("a", locked=5), place="v"), replace(copy("b", locked=5), place="v")),
        SOURCE,
        [N.NOT_IMMUTABLE],
    ),
    "a vault that lost snapshots": (
        TWO,
        study(copy("a"), copy("b")),
        replace(SOURCE, set_back=("b",)),
        [N.TOO_FEW_COPIES, N.SET_BACK],
    ),
    "a vault that lost snapshots, beside enough others": (
        ONE, study(copy("a"), copy("b")), replace(SOURCE, set_back=("b",)), [],
    ),
    "everything at once": (
        replace(TWO, immutable=1),
        study(
            copy("a", held=9), copy("b", verified=100, received=2),
            changed=1, unreadable=1, conflicts=1,
        ),
        SourceFacts(
            "/library", shows_changes=False, lists_all=False, unplaced=1,
            holds={"1.2.3": ("a",)}, unasked=("b",),
        ),
        [
            N.UNREADABLE, N.UNPLACED, N.LISTING_INCOMPLETE, N.CONFLICT, N.CHANGED,
            N.CHANGES_UNSEEN, N.LEGAL_HOLD, N.VAULT_UNASKED, N.TOO_FEW_COPIES, N.NOT_HELD,
            N.EVIDENCE_TOO_OLD, N.BACKED_UP_TOO_LATELY, N.NOT_IMMUTABLE,
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("situation", TABLE)
def test_policies_and_situations(situation: str) -> None:
    policy, facts, source, expected = TABLE[situation]
    verdict = judge(facts, source, policy, NOW)
    assert [reason.kind for reason in verdict.reasons] == expected
    assert verdict.is_safe is (not expected)


def test_reasons_have_their_figures() -> None:
    facts = study(copy("a", held=9), copy("b", verified=100))
    verdict = judge(facts, SOURCE, TWO, NOW)
    assert verdict.reasons == (
        Reason(N.TOO_FEW_COPIES, "", 0, 2),
        Reason(N.NOT_HELD, "a", 9, 10, Level.PROVEN),
        Reason(N.EVIDENCE_TOO_OLD, "b", 100, 90, Level.PROVEN),
    )
    assert verdict.counting == ()


_COPIES = st.lists(
    st.builds(
        copy,
        st.sampled_from(["a", "b", "c"]),
        level=st.sampled_from(list(Level)),
        held=st.integers(1, 10),
        verified=st.one_of(st.none(), st.integers(-5, 200)),
        received=st.one_of(st.none(), st.integers(0, 60)),
        locked=st.one_of(st.none(), st.integers(-5, 5)),
    ),
    max_size=3,
    unique_by=lambda one: one.destination,
)
_POLICIES = st.builds(
    DeletionPolicy,
    copies=st.integers(1, 3),
    level=st.sampled_from([Level.COMPLETE, Level.COMMITTED, Level.PROVEN]),
    immutable=st.integers(0, 2),
    require_unchanged=st.booleans(),
)


@given(_COPIES, _POLICIES, st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))
def test_never_safe_without_whole_copies(
    copies: list[CopyFacts], policy: DeletionPolicy, changed: int, unreadable: int, conflicts: int
) -> None:
    """Whatever is asked: safe means unchanged, readable, and wholly held often enough."""
    facts = study(*copies, changed=changed, unreadable=unreadable, conflicts=conflicts)
    if judge(facts, SOURCE, policy, NOW).is_safe:
        assert changed == unreadable == conflicts == 0
        whole = [c for c in copies if sum(p.instances for p in c.held(policy.level)) == 10]
        assert len(whole) >= policy.copies
