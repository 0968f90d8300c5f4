"""A manifest compared with what a place holds: a pure function of what was listed and read.

A file digest decides if it is equal. Else the canonical data set digest does: a PACS writes file
meta information anew, and often the encoding, without changing what the data set says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

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
    ):
        for one in list(open_ones):
            partner = next((other for other in left if alike(one, other)), None)
            if partner is not None:
                left.remove(partner)
                open_ones.remove(one)
                yield InstanceMatch(identity, match, digest)
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
    return bool(one.data_set) and one.data_set == other.data_set


def _different(one: ListedInstance, other: ListedInstance) -> InstanceMatch:
    """Say how they differ, as far as digests tell."""
    identity = one.identity
    if not one.data_set:
        size = f"{other.size:,} bytes instead of {one.size:,}"
        if one.size == other.size:
            size = "other bytes of the same number"
        return InstanceMatch(
            identity,
            Match.DIFFERENT,
            "sha256",
            f"{size}; the manifest has no data set digest to compare",
        )
    if not other.data_set:
        return InstanceMatch(
            identity, Match.DIFFERENT, "sha256", "it does not parse as DICOM to its end"
        )
    syntax = ""
    if one.transfer_syntax_uid != other.transfer_syntax_uid:
        syntax = (
            f", in transfer syntax {other.transfer_syntax_uid} instead of {one.transfer_syntax_uid}"
        )
    if not (one.pixels and other.pixels):
        return InstanceMatch(identity, Match.DIFFERENT, "dsd1", f"another data set{syntax}")
    if one.pixels == other.pixels:
        return InstanceMatch(
            identity, Match.DIFFERENT, "px1", f"other attributes, the same decoded pixels{syntax}"
        )
    return InstanceMatch(identity, Match.DIFFERENT, "px1", f"other decoded pixels{syntax}")
