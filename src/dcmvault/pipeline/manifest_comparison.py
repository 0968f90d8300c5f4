"""A manifest compared with what a place holds: a pure function of what was listed and read.

A file digest decides if it is equal. Else the canonical data set digest does: a PACS writes file
meta information anew, and often the encoding, without changing what the data set says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from dcmvault.dicom.transfer_syntaxes import NATIVE
from dcmvault.model.instance import InstanceIdentity
from dcmvault.model.manifest import InstanceMatch, ListedInstance, ManifestProblem, Match


def compare_with_manifest(
    expected: Iterable[ListedInstance],
    found: Iterable[ListedInstance],
    problems: Sequence[ManifestProblem] = (),
) -> list[InstanceMatch]:
    """Say of each instance what became of it, in the order of their UIDs; extras are told, too.

    Several contents under one identity each need one of their own.
    """
    there: dict[InstanceIdentity, list[ListedInstance]] = defaultdict(list)
    # A file that is there twice is one content.
    for one in {(one.identity, one.file_sha256): one for one in found}.values():
        there[one.identity].append(one)
    unread = {one.identity: one for one in problems if one.identity is not None}
    wanted: dict[InstanceIdentity, list[ListedInstance]] = defaultdict(list)
    for one in expected:
        wanted[one.identity].append(one)
    matches: list[InstanceMatch] = []
    for identity in sorted({*wanted, *there}):
        matches += _of_identity(identity, wanted[identity], there[identity], unread.get(identity))
    return matches


def _of_identity(
    identity: InstanceIdentity,
    wanted: Sequence[ListedInstance],
    there: Sequence[ListedInstance],
    unread: ManifestProblem | None,
) -> Iterator[InstanceMatch]:
    left = list(there)
    open_ones = list(wanted)
    for match, digest, alike in (
        (Match.IDENTICAL, "sha256", _same_file),
        (Match.IDENTICAL_DATA_SET, "dsd1", _same_data_set),
        (Match.IDENTICAL_DATA_SET, "px1", _same_in_another_syntax),
    ):
        for one in list(open_ones):
            partner = next((other for other in left if alike(one, other)), None)
            if partner is not None:
                left.remove(partner)
                open_ones.remove(one)
                how = _syntaxes(one, partner) if digest == "px1" else ""
                yield InstanceMatch(identity, match, digest, how)
    for one in open_ones:
        if left:
            yield _different(one, left.pop(0))
        elif unread is not None:
            yield InstanceMatch(identity, Match.UNREADABLE, "", unread.message)
        else:
            yield InstanceMatch(identity, Match.MISSING, "listing")
    for _other in left:
        yield InstanceMatch(identity, Match.EXTRA, "listing")


def _same_file(one: ListedInstance, other: ListedInstance) -> bool:
    return one.file_sha256 == other.file_sha256


def _same_data_set(one: ListedInstance, other: ListedInstance) -> bool:
    """Compare digests, which leave out the transfer syntax: compressed pixels need theirs."""
    syntaxes = {one.transfer_syntax_uid, other.transfer_syntax_uid}
    can_be_read = len(syntaxes) == 1 or syntaxes <= NATIVE
    return can_be_read and bool(one.data_set) and one.data_set == other.data_set


def _same_in_another_syntax(one: ListedInstance, other: ListedInstance) -> bool:
    return (
        one.transfer_syntax_uid != other.transfer_syntax_uid
        and bool(one.pixels and one.attributes)
        and (one.pixels, one.attributes) == (other.pixels, other.attributes)
    )


def _syntaxes(one: ListedInstance, other: ListedInstance) -> str:
    return f"in transfer syntax {other.transfer_syntax_uid} instead of {one.transfer_syntax_uid}"


def _different(one: ListedInstance, other: ListedInstance) -> InstanceMatch:
    """Say how they differ, as far as digests tell."""
    decided_by, how = _difference(one, other)
    if one.transfer_syntax_uid != other.transfer_syntax_uid:
        how = f"{how}; {_syntaxes(one, other)}"
    return InstanceMatch(one.identity, Match.DIFFERENT, decided_by, how)


def _difference(one: ListedInstance, other: ListedInstance) -> tuple[str, str]:
    if not one.data_set:
        return "sha256", "other bytes; the manifest has no digest of the data set to compare"
    if not other.data_set:
        return "sha256", "it does not parse as DICOM to its end"
    if one.data_set == other.data_set:
        return "dsd1", "the same data set, which cannot be read so"
    if not (one.pixels and other.pixels):
        return "dsd1", "another data set; decoded pixels could not be compared"
    if one.pixels == other.pixels:
        return "px1", "other attributes, the same decoded pixels"
    if one.attributes == other.attributes:
        return "px1", "other decoded pixels, the same attributes"
    return "px1", "other decoded pixels, and other attributes"
