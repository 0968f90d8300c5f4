"""Manifests: what a place holds of a study, instance by instance, as digests; and what differs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dcmvault.model.instance import InstanceIdentity


class Depth(StrEnum):
    """How much is computed of each instance; each includes those before it."""

    FILE = "file"
    DATA_SET = "data-set"
    PIXELS = "pixels"

    def includes(self, other: Depth) -> bool:
        """Say whether what the other one computes is computed."""
        every = list(Depth)
        return every.index(self) >= every.index(other)


@dataclass(frozen=True, slots=True, order=True)
class ListedInstance:
    """One instance of a manifest: what it is, and digests of its content.

    `data_set`, `pixels` and `attributes` are digests with their names (`dsd1:`, `px1:`, `at1:`),
    empty where not known.
    """

    identity: InstanceIdentity
    file_sha256: bytes
    size: int  #: bytes of the file
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""
    data_set: str = ""
    pixels: str = ""
    attributes: str = ""


@dataclass(frozen=True, slots=True)
class ListedSeries:
    """A series of a manifest; the root is that of its instances' file digests."""

    series_instance_uid: str
    instances: tuple[ListedInstance, ...]
    merkle_root: bytes


@dataclass(frozen=True, slots=True)
class StudyManifest:
    """A study as a place holds it; the root is that of its series' roots."""

    study_instance_uid: str
    series: tuple[ListedSeries, ...]
    merkle_root: bytes

    @property
    def instances(self) -> int:
        """Count its instances."""
        return sum(len(one.instances) for one in self.series)

    @property
    def bytes(self) -> int:
        """Sum up the bytes of their files."""
        return sum(instance.size for one in self.series for instance in one.instances)


class Match(StrEnum):
    """What a place has for one instance of a manifest."""

    #: The file's SHA-256 is equal.
    IDENTICAL = "identical"
    #: Another file, but its canonical data set digest is equal, or in another transfer syntax the
    #: decoded pixels and all attributes that it does not dictate.
    IDENTICAL_DATA_SET = "identical_data_set"
    DIFFERENT = "different"
    #: It is there, but could not be read.
    UNREADABLE = "unreadable"
    MISSING = "missing"
    #: The place has it, the manifest does not name it.
    EXTRA = "extra"

    @property
    def is_as_it_should_be(self) -> bool:
        """Whether the place has what the manifest says; what it has beyond that is no failure."""
        return self in (Match.IDENTICAL, Match.IDENTICAL_DATA_SET, Match.EXTRA)


@dataclass(frozen=True, slots=True)
class InstanceMatch:
    """One instance compared: `decided_by` is the digest that told, `how` a sentence if it differs.

    The sentence has no patient data.
    """

    identity: InstanceIdentity
    match: Match
    decided_by: str = ""  #: sha256 | dsd1 | px1 | listing; empty where nothing was compared
    how: str = ""


@dataclass(frozen=True, slots=True)
class ManifestProblem:
    """A file that is in no manifest, or an instance that could not be read, and why.

    `locator` may contain patient data: it is shown on the operator's own screen only.
    """

    code: str
    message: str
    locator: str = ""
    identity: InstanceIdentity | None = None
