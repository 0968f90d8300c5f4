"""Compare two places: open both sides, compare, deliver what is missing, read a sample back."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from dcmvault.app.study_list import StudyList
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.sources import build_source
from dcmvault.config.peer_sections import CoercingSection
from dcmvault.config.readable import readable_section
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.certificate import Delivered, Sample, SideReport
from dcmvault.model.comparison import Depth, SideNotes, StudyComparison, StudySummary, Verdict
from dcmvault.pipeline.compared import Compared
from dcmvault.pipeline.comparing import Comparing
from dcmvault.pipeline.content_sample import ContentSample, choose
from dcmvault.pipeline.sides import Side, side_of
from dcmvault.pipeline.sorted_spill import SortedSpill
from dcmvault.ports.source import Source

#: Bytes of randomness of a seed that nobody chose.
_SEED_BYTES = 8


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What is to be compared with what, down to what, and of which studies."""

    a: str
    b: str
    depth: Depth = Depth.STUDY
    only: StudyList | None = None


@dataclass(frozen=True, slots=True)
class SampleSize:
    """How many studies are read back: a number, or else a share of those that both sides have."""

    count: int | None = None
    share: float = 0.0

    def of(self, candidates: int) -> int:
        """Return the number; a share is one study at least."""
        if self.count is not None:
            return min(self.count, candidates)
        return min(candidates, max(1, math.ceil(candidates * self.share)))


@dataclass(frozen=True, slots=True)
class CompareProgress:
    """How far a side is listed ("a", "b"), or a sample is read back ("sample")."""

    stage: str
    done: int
    total: int = 0


Watch = Callable[[CompareProgress], None]


@dataclass(slots=True)
class Outcome:
    """A comparison that was made, while what it found is kept."""

    request: CompareRequest
    address_a: str
    address_b: str
    compared: Compared
    notes_a: SideNotes
    notes_b: SideNotes
    #: Names of the list of which neither side has a study.
    not_found: tuple[str, ...] = ()
    sample: Sample | None = None
    began_at: datetime | None = None
    delivered: list[Delivered] = field(default_factory=list)
    _opened: _Opened | None = field(default=None, repr=False)
    #: What is opened meanwhile stays open as long as what was found.
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)

    @property
    def exit_status(self) -> int:
        """0 when all is the same; 3 when something differs, or could not be found out."""
        sampled = self.sample is None or self.sample.proven == len(self.sample.studies)
        notes = (self.notes_a, self.notes_b)
        read = not any(one.unreadable or one.may_have_more for one in notes)
        same = self.compared.tally.is_same and not self.not_found
        return 0 if same and sampled and read else 3

    def missing_in_b(self) -> list[str]:
        """Return the studies of which A has something that B has not."""
        return [one.study_instance_uid for one in self.compared.studies() if one.missing_in_b]

    def exceptions(self) -> Iterator[StudyComparison]:
        """Yield the studies that are not the same."""
        return (one for one in self.compared.studies() if one.verdict is not Verdict.SAME)

    def compare_again(self, settings: Settings, uids: Sequence[str], watch: Watch) -> None:
        """Compare some studies once more, to instances, and have that stand for what was found.

        A sample is then read from both places as they are now.
        """
        only = StudyList(frozenset(uids))
        request = replace(self.request, depth=Depth.INSTANCE, only=only)
        self._opened = _open(settings, request, only.names, self._stack, watch)
        self.compared.replace(list(_studies(self._opened, request, set())))

    def read_sample(self, size: SampleSize, seed: str, watch: Watch) -> None:
        """Read studies back that both sides have, and compare what comes.

        A seed is made up where none is given. Raises SourceUnavailableError.
        """
        assert self._opened is not None
        verdicts = self.compared.tally.verdicts
        candidates = verdicts[Verdict.SAME] + verdicts[Verdict.DIFFERENT]
        seed = seed or secrets.token_hex(_SEED_BYTES)
        uids = choose(self.compared.studies(), size.of(candidates), seed)
        opened = self._opened
        reading = ContentSample(opened.sides, opened.sources, opened.coerced)

        def progress(done: int, total: int) -> None:
            watch(CompareProgress("sample", done, total))

        self.sample = Sample(seed, candidates, tuple(reading.read(uids, progress)))

    def sides(self) -> tuple[SideReport, SideReport]:
        """Return what there is to say of each side, with a digest over all its studies."""
        digests = (hashlib.sha256(), hashlib.sha256())
        # Where one side tells counts only, the other's roots would make equal lists differ.
        by_instances = self.request.depth is not Depth.STUDY
        for study in self.compared.studies():
            for digest, summary, root in zip(
                digests, (study.a, study.b), (study.root_a, study.root_b), strict=True
            ):
                if summary is not None:
                    digest.update(
                        _line(study.study_instance_uid, summary, root if by_instances else "")
                    )
        return (
            _report(self.address_a, digests[0].hexdigest(), self.notes_a),
            _report(self.address_b, digests[1].hexdigest(), self.notes_b),
        )


def _line(uid: str, summary: StudySummary, root: str) -> bytes:
    series = "" if summary.series is None else summary.series
    instances = "" if summary.instances is None else summary.instances
    return f"{uid},{series},{instances},{root}\n".encode("utf-8", "replace")


def _report(address: str, digest: str, notes: SideNotes) -> SideReport:
    return SideReport(address, digest, notes.unreadable, notes.not_instances, tuple(notes.reasons))


@dataclass(frozen=True, slots=True)
class _Opened:
    """Both places, opened for reading."""

    sources: tuple[Source, Source]
    sides: tuple[Side, Side]
    coerced: frozenset[int]


@contextmanager
def comparison(settings: Settings, request: CompareRequest, watch: Watch) -> Iterator[Outcome]:
    """Compare two places; what was found is there inside the context.

    Raises AddressError, UsageError for one place twice, and SourceUnavailableError (or an error of
    the vault) where one cannot be read.
    """
    with ExitStack() as stack:
        compared = stack.enter_context(Compared())
        uids = request.only.uids if request.only is not None else None
        opened = _open(settings, request, uids, stack, watch)
        outcome = Outcome(
            request,
            opened.sources[0].name,
            opened.sources[1].name,
            compared,
            opened.sides[0].notes,
            opened.sides[1].notes,
            began_at=SystemClock().now(),
            _opened=opened,
            _stack=stack,
        )
        found: set[str] = set()
        for study in _studies(opened, request, found):
            compared.add(study)
        if request.only is not None:
            outcome.not_found = tuple(sorted(request.only.names - found))
        yield outcome


def _studies(
    opened: _Opened, request: CompareRequest, found: set[str]
) -> Iterator[StudyComparison]:
    def is_wanted(study: StudySummary) -> bool:
        if request.only is None:
            return True
        names = request.only.names_of(study)
        found.update(names)
        return bool(names)

    yield from Comparing(*opened.sides, request.depth, is_wanted).studies()


def _open(
    settings: Settings,
    request: CompareRequest,
    uids: Collection[str] | None,
    stack: ExitStack,
    watch: Watch,
) -> _Opened:
    sources: list[Source] = []
    sides: list[Side] = []
    for stage, name in (("a", request.a), ("b", request.b)):
        source = build_source(readable_section(settings, name), settings.listener)
        if any(source.name == other.name for other in sources):
            raise UsageError(
                _("Both are the same place: %s") % source.name,
                hint=_("Name two sources, destinations, or snapshots."),
            )

        def progress(studies: int, files: int, stage: str = stage) -> None:
            watch(CompareProgress(stage, studies, files))

        sources.append(source)
        sides.append(side_of(source, uids, stack.enter_context(SortedSpill()), progress))
    return _Opened((sources[0], sources[1]), (sides[0], sides[1]), _coerced(settings, request))


def _coerced(settings: Settings, request: CompareRequest) -> frozenset[int]:
    """Return the attributes that one of the two is configured to write itself."""
    tags: set[int] = set()
    for name in (request.a, request.b):
        named = settings.destinations.get(name)
        if named is not None and isinstance(named.section, CoercingSection):
            tags |= named.section.coerced_tags
    return frozenset(tags)
