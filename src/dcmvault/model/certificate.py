"""Migration certificates: what was asked of two places, what was found, and by which means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dcmvault.model.comparison import Depth, StudyComparison, Tally


@dataclass(frozen=True, slots=True)
class SampledStudy:
    """One study that was read back from both places: its instances by what came out.

    Reasons name SOP Instance UIDs and attributes, never values.
    """

    study_instance_uid: str
    identical: int  #: the same bytes
    equal: int  #: other files, the same data set
    transcoded: int  #: the same elements and decoded pixels, in another form of pixel data
    coerced: int  #: the same but for attributes that a peer is expected to write itself
    different: int
    unreadable: int
    missing_in_b: int
    extra_in_b: int
    #: All of them.
    coerced_attributes: tuple[str, ...] = ()
    #: Of the first instances that are different or unreadable.
    reasons: tuple[str, ...] = ()

    @property
    def instances(self) -> int:
        """How many instances were compared."""
        return self.same + self.different + self.unreadable

    @property
    def same(self) -> int:
        """How many came back the same, in one way or another."""
        return self.identical + self.equal + self.transcoded + self.coerced

    @property
    def reasons_left_out(self) -> int:
        """How many instances are not the same of which no reason is given."""
        return max(0, self.different + self.unreadable - len(self.reasons))

    @property
    def is_proven(self) -> bool:
        """Whether everything that A has came back the same from both."""
        return bool(self.same) and not (self.different or self.unreadable or self.missing_in_b)


@dataclass(frozen=True, slots=True)
class Sample:
    """Studies chosen at random of those that both places have, read back and compared."""

    seed: str
    candidates: int
    studies: tuple[SampledStudy, ...]

    @property
    def proven(self) -> int:
        """How many studies came back the same."""
        return sum(study.is_proven for study in self.studies)


@dataclass(frozen=True, slots=True)
class SideReport:
    """One of the two places, and what of it could not be compared."""

    address: str
    #: SHA-256 over its studies, as docs/reference/comparison.md says.
    digest: str
    unreadable: int = 0
    not_instances: int = 0
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListReport:
    """A list of studies that limited the comparison."""

    names: int
    sha256: str
    #: Names of which neither place has a study.
    not_found: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A run that delivered what B lacked, before it was compared again."""

    run: str
    studies: int
    exit_status: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a comparison found, for somebody who was not there. Times are aware UTC."""

    a: SideReport
    b: SideReport
    depth: Depth
    began_at: datetime
    ended_at: datetime
    #: Who asked, on which machine, and the versions of what took part.
    operator: str
    machine: str
    versions: Mapping[str, str]
    #: The question as it was asked on the command line.
    question: str
    tally: Tally
    #: Studies that are not the same, the first of them, and how many there are.
    exceptions: tuple[StudyComparison, ...]
    exceptions_in_all: int
    listed: ListReport | None = None
    sample: Sample | None = None
    delivered: tuple[Delivered, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether B has everything that A has, as far as was looked, whatever it has beside."""
        sampled = self.sample is None or self.sample.proven == len(self.sample.studies)
        read = not self.a.unreadable
        listed = self.listed is None or not self.listed.not_found
        told = bool(self.tally.total.studies_a)  # of nothing, nothing can be certified
        return told and not self.tally.not_whole_in_b and sampled and read and listed
