"""Proof from a PACS: what it really holds comes back and is compared with the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import BinaryIO

from dcmvault.destinations.ways_back import Asked, WayBack
from dcmvault.destinations.witnesses import Witness, Witnesses
from dcmvault.dicom.comparison import Coercion, Comparison, Likeness, compare, form_of
from dcmvault.dicom.digest import data_set_digest, file_sha256
from dcmvault.dicom.part10 import scan
from dcmvault.dicom.retrieve import Retrieved
from dcmvault.dicom.returning import Returning, WantedInstance
from dcmvault.errors import (
    AssociationLostError,
    DestinationError,
    LevelNotSupportedError,
    MalformedDicomError,
)
from dcmvault.model.evidence import (
    ExpectedInstance,
    ExpectedStudy,
    Finding,
    Level,
    Originals,
    Verification,
)
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import InstanceFile, InstanceKind, UnreadableEntry
from dcmvault.ports.clock import Clock

#: Bytes of source files that are asked for at once.
_BYTES_AT_ONCE = 256 << 20
#: Coercions of one study that the proof lists, at most.
_COERCIONS = 500
#: Attributes that are named of one instance.
_NAMED = 8
#: Instances asked for alone that do not come before a peer that sent nothing is asked no more.
_IN_VAIN = 3
#: Associations lost over one study before the peer is given up: enough to find one instance of
#: those that are asked for together.
_MOST_LOST = 10
#: Out of resources, for sub-operations (PS3.4 tables C.4-2 and C.4-3).
_NO_RESOURCES = "A702"
#: Returns which of these SOP Instance UIDs of a series the peer names; raises DestinationError.
StillLists = Callable[[str, Collection[str]], Collection[str]]
_NO_ORIGINAL = "its file at the source cannot be read now, so its copy cannot be compared"
_OTHER_ORIGINAL = "its file at the source is not any more what was sent"


@dataclass(frozen=True, slots=True)
class _Original:
    """What a copy must equal."""

    instance: ExpectedInstance
    kind: InstanceKind
    digest: str
    #: What form its pixel data are said to have: the digest does not tell.
    form: str

    @property
    def uid(self) -> str:
        return self.instance.identity.sop_instance_uid


@dataclass(frozen=True, slots=True)
class _Copy:
    """What came back under a UID; without a digest when it does not parse to its end."""

    digest: str
    form: str
    file: BinaryIO

    def equals(self, original: _Original) -> bool:
        return (self.digest, self.form) == (original.digest, original.form)


class _Returned:
    """The copies that one request brought, until they are judged.

    A copy that equals what was sent needs no second look, and its file is closed at once.
    """

    def __init__(self, originals: Sequence[_Original]) -> None:
        self._originals = {(one.digest, one.form) for one in originals}
        self._copies: dict[str, list[_Copy]] = {}
        #: Bytes that came, with what stands around a data set in a file.
        self.bytes = 0

    def take(self, sop_instance_uid: str, file: BinaryIO) -> None:
        """Digest a copy while the peer waits for its answer: about 15 ms for a megabyte."""
        self.bytes += file.tell()
        try:
            digest, form = data_set_digest(file.fileno()), form_of(file.fileno())
        except MalformedDicomError:
            digest = form = ""
        if (digest, form) in self._originals:
            file.close()
        self._copies.setdefault(sop_instance_uid, []).append(_Copy(digest, form, file))

    def of(self, sop_instance_uid: str) -> Sequence[_Copy]:
        """Return the copies under a UID."""
        return self._copies.get(sop_instance_uid, ())

    def __len__(self) -> int:
        return sum(map(len, self._copies.values()))

    def close(self) -> None:
        """Give up the files."""
        for copies in self._copies.values():
            for copy in copies:
                copy.file.close()


def read_back(
    way: WayBack,
    study: ExpectedStudy,
    listed: Verification,
    clock: Clock,
    coerced: frozenset[int] = frozenset(),
    witnesses: Witnesses | None = None,
    still_lists: StillLists | None = None,
) -> Verification:
    """Read a study back, but for what the peer's own lists (COMPLETE) show missing.

    Where nothing of it comes, `witnesses` tell whether the peer sends anything back at all; of what
    it says not to have, `still_lists` whether it names it nevertheless.

    A copy that differs from its original in `coerced` attributes only is held: the proof lists
    them with old and new value, which are patient data.
    Peers refuse a request as a whole if they lack one instance of it (Orthanc), hence the lists.
    Raises DestinationUnreachableError, and DestinationError where it sends nothing back this way.
    """
    if study.originals is None:
        peer = listed.proof["peer"]
        raise LevelNotSupportedError(
            f"{peer} cannot prove copies without the source that they are compared with"
        )
    reading = ReadBack(
        way, study, study.originals, listed, clock, coerced, witnesses or Witnesses(), still_lists
    )
    for version_id, finding in listed.findings.items():
        if finding is Finding.MISSING:
            reading.findings[version_id] = finding
            reading.reasons[version_id] = listed.reasons[version_id]
    reading.run([one for one in study.instances if one.version_id not in reading.findings])
    return reading.verification()


@dataclass
class ReadBack:
    """Reads instances of one study back and compares each with its file at the source."""

    way: WayBack
    study: ExpectedStudy
    originals: Originals
    listed: Verification
    clock: Clock
    #: Tags of attributes that the peer may write itself.
    coerced: frozenset[int]
    witnesses: Witnesses
    still_lists: StillLists | None
    findings: dict[VersionId, Finding] = field(default_factory=dict)
    reasons: dict[VersionId, str] = field(default_factory=dict)
    #: One row per request: series, instances asked for and returned, the peer's status. JSON-able.
    requests: list[dict[str, object]] = field(default_factory=list)
    #: How many are held by what likeness.
    likeness: Counter[str] = field(default_factory=Counter)
    #: What the peer wrote itself, and in how many instances.
    coercions: Counter[Coercion] = field(default_factory=Counter)
    #: In which instances it did so, in words.
    coerced_in: dict[VersionId, str] = field(default_factory=dict)
    bytes_read: int = 0
    #: Copies that came, whatever they are worth.
    _returned: int = 0
    #: What did not come although it was asked for alone, and why, by version.
    _withheld: dict[VersionId, tuple[_Original, str]] = field(default_factory=dict)
    #: Of these, what the peer says not to have.
    _gone: set[VersionId] = field(default_factory=set)
    #: Of these, what may not have come for a reason that passes.
    _in_doubt: set[VersionId] = field(default_factory=set)
    #: The kinds of which the peer sends back other studies, where nothing of this one came.
    _sent_of_others: set[InstanceKind] = field(default_factory=set)
    #: Associations that were lost.
    _lost: int = 0

    def run(self, instances: Sequence[ExpectedInstance]) -> None:
        """Look at every instance; raises as `WayBack.fetch`."""
        try:
            for some in _batches(instances, self.way.most):
                if originals := list(self._read(some)):
                    self._ask(originals)
            if self._returned or self._sends_others():
                self._ask_for_withheld()
        except BaseException:
            self.way.end(sound=False)
            raise
        self.way.end(sound=True)
        self._conclude()

    def verification(self) -> Verification:
        """Say what was found."""
        observed_at = self.clock.now()
        proof: dict[str, object] = {
            "peer": self.listed.proof["peer"],
            "method": self.way.method,
            "digests": ["dsd1", "px1"],
            "requests": self.requests,
            "likeness": dict(self.likeness),
            "coercions": [
                {"attribute": one.attribute, "old": one.old, "new": one.new, "instances": instances}
                for one, instances in sorted(self.coercions.items(), key=_by_attribute)[:_COERCIONS]
            ],
            "coercions_left_out": max(0, len(self.coercions) - _COERCIONS),
            "bytes_read": self.bytes_read,
            "listed": dict(self.listed.proof),
            "answered_at": observed_at.isoformat(),
        }
        return Verification(
            level=Level.PROVEN,
            study_instance_uid=self.study.study_instance_uid,
            observed_at=observed_at,
            findings={
                one.version_id: self.findings[one.version_id] for one in self.study.instances
            },
            proof=proof,
            extras=self.listed.extras,
            reasons=self.reasons,
            coerced=self.coerced_in,
        )

    def _sends_others(self) -> bool:
        """Find the kinds of which it sends back other studies, where nothing of this one came."""
        uid = self.study.study_instance_uid
        self._sent_of_others = {
            kind
            for kind in {original.kind for original, _why in self._withheld.values()}
            if self.witnesses.sends_back(self.way, uid, kind)
        }
        return bool(self._sent_of_others)

    def _conclude(self) -> None:
        """Say what became of what a peer does not send back that sends back what it can."""
        self._withheld = {
            version_id: (original, why)
            for version_id, (original, why) in self._withheld.items()
            if self._returned
            or (original.kind in self._sent_of_others and version_id not in self._in_doubt)
        }
        left = self._not_listed_any_more()
        for version_id, (_original, why) in self._withheld.items():
            self.findings[version_id] = Finding.DAMAGED
            if version_id in left:
                self.findings[version_id] = Finding.MISSING
                self.reasons[version_id] = (
                    "the peer does not have it, and does not name it any more"
                )
            elif self._returned:
                self.reasons[version_id] = (
                    f"the peer sends others of its study back, but not this one: {why}"
                )
            else:
                self.reasons[version_id] = (
                    f"the peer sends other studies back, but not this one: {why}"
                )

    def _not_listed_any_more(self) -> frozenset[VersionId]:
        """Ask by UID, once more, for what it says not to have.

        Without an answer what counts is what it named before.
        """
        gone = [
            one for one, _why in self._withheld.values() if one.instance.version_id in self._gone
        ]
        left: set[VersionId] = set()
        for series_uid, some in groupby(sorted(gone, key=_series_of), key=_series_of):
            members = list(some)
            named = {one.uid for one in members if self._is_listed(one)}
            if self.still_lists is not None:
                with suppress(DestinationError):
                    named = set(self.still_lists(series_uid, {one.uid for one in members}))
            left |= {one.instance.version_id for one in members if one.uid not in named}
        return frozenset(left)

    def _is_listed(self, original: _Original) -> bool:
        return self.listed.findings.get(original.instance.version_id) is Finding.HELD

    def _ask_for_withheld(self) -> None:
        """Ask once more for what did not come: the peer may have been busy with others."""
        withheld = [original for original, _why in self._withheld.values()]
        self._withheld.clear()
        self._in_doubt.clear()
        for original in withheld:
            self._ask([original])

    def _ask(self, originals: Sequence[_Original]) -> None:
        """Ask for a few instances of one series, and judge what comes."""
        of = originals[0].instance.identity
        wanted = [WantedInstance(one.uid, one.instance.size) for one in originals]
        with closing(_Returned(originals)) as returned:
            returning = Returning(wanted, returned.take)
            got = self._fetch(
                Asked(
                    self.study.study_instance_uid,
                    of.series_instance_uid,
                    {one.kind for one in originals},
                ),
                returning,
            )
            self.bytes_read += returned.bytes
            self._returned += len(returned)
            self.requests.append(
                {
                    "series_instance_uid": of.series_instance_uid,
                    "asked": len(wanted),
                    "returned": len(returned),
                    "status": got.status,
                    "completed": got.completed,
                    "failed": got.failed,
                }
            )
            lacking = []
            for one in originals:
                if one.uid in returning.too_large:
                    self._open(one.instance, "more comes back than an instance of its size can be")
                elif returned.of(one.uid):
                    self._judge(one, returned.of(one.uid))
                else:
                    self._open(one.instance, _not_returned(one.uid, got))
                    lacking.append(one)
                    if one.uid in got.gone:
                        self._gone.add(one.instance.version_id)
        self._ask_again(lacking, got, alone=self.way.singly or len(originals) == 1)

    def _fetch(self, asked: Asked, returning: Returning) -> Retrieved:
        """Fetch; an association that is lost over one instance is not the end of the others."""
        try:
            return self.way.fetch(asked, returning)
        except AssociationLostError as error:
            self._lost += 1
            if self._lost >= (_MOST_LOST if self._returned else _IN_VAIN):
                raise
            uids = [one.sop_instance_uid for one in returning.wanted]
            return Retrieved("", error.message, 0, 0, dict.fromkeys(uids, error.message))

    def _ask_again(self, lacking: Sequence[_Original], got: Retrieved, *, alone: bool) -> None:
        """Ask for fewer at once: peers refuse all that is asked for together for one of it."""
        if alone:
            for one in lacking:
                if why := _withheld(one.uid, got):
                    self._withheld[one.instance.version_id] = (one, why)
                    if _may_pass(got):
                        self._in_doubt.add(one.instance.version_id)
        elif self._returned or len(self._withheld) < _IN_VAIN:
            middle = (len(lacking) + 1) // 2
            for part in (lacking[:middle], lacking[middle:]):
                if part:
                    self._ask(part)

    def _read(self, instances: Sequence[ExpectedInstance]) -> Iterator[_Original]:
        """Digest the files at the source; what cannot be read stays an open question."""
        for instance, file in self.originals.files(instances):
            if isinstance(file, UnreadableEntry):
                self._open(instance, f"{_NO_ORIGINAL} ({file.code})")
                continue
            try:
                if instance.file_sha256 and instance.file_sha256 != file_sha256(file.path):
                    self._open(instance, _OTHER_ORIGINAL)
                    continue
                digest, form = data_set_digest(file.path), form_of(file.path)
                yield _Original(instance, scan(file.path).kind, digest, form)
            except MalformedDicomError:
                self._open(instance, "its file at the source does not parse to its end")
            except OSError:
                self._open(instance, _NO_ORIGINAL)

    def _judge(self, original: _Original, copies: Sequence[_Copy]) -> None:
        """Say what the copies of an instance are; one that is sound is enough."""
        if any(copy.equals(original) for copy in copies):
            self._hold(original, Likeness.EQUAL)
            return
        for instance, file in self.originals.files([original.instance]):
            if isinstance(file, UnreadableEntry):
                self._open(instance, f"{_NO_ORIGINAL} ({file.code})")
                continue
            try:
                found = [_compare(file, copy, self.coerced) for copy in copies]
            except (MalformedDicomError, OSError):
                self._open(instance, "its file at the source cannot be compared with its copy")
                continue
            best = min(found, key=lambda one: one.likeness is Likeness.DIFFERENT)
            if best.likeness is Likeness.DIFFERENT:
                self.findings[instance.version_id] = Finding.DAMAGED
                self.reasons[instance.version_id] = (
                    f"what came back differs: {', '.join(best.differences)}"
                )
            else:
                self._hold(original, best.likeness)
                self._note(instance, best.coercions)

    def _note(self, instance: ExpectedInstance, coercions: Sequence[Coercion]) -> None:
        """Write down what the peer wrote itself."""
        self.coercions.update(coercions)
        if coercions:
            attributes = ", ".join(one.attribute for one in coercions[:_NAMED])
            more = f", and {len(coercions) - _NAMED} more" if len(coercions) > _NAMED else ""
            self.coerced_in[instance.version_id] = f"proven, with coercions: {attributes}{more}"

    def _hold(self, original: _Original, likeness: Likeness) -> None:
        self.findings[original.instance.version_id] = Finding.HELD
        self.likeness[likeness.value] += 1
        of = original.instance.identity
        self.witnesses.came_back(
            Witness(
                Asked(of.study_instance_uid, of.series_instance_uid, (original.kind,)),
                WantedInstance(original.uid, original.instance.size),
            )
        )

    def _open(self, instance: ExpectedInstance, why: str) -> None:
        """Leave the question of an instance open."""
        self.findings[instance.version_id] = Finding.UNKNOWN
        self.reasons[instance.version_id] = why


def _withheld(uid: str, got: Retrieved) -> str:
    """Explain why one instance does not come alone; empty where it may have other reasons."""
    if uid in got.refused:
        return got.refused[uid].rstrip(".")
    if got.status not in ("0000", "B000", "A702") and not got.status.startswith("C"):
        return ""
    return f"asked for it alone, it answered {got.status}"


def _may_pass(got: Retrieved) -> bool:
    """Say whether a request ended for what may be over soon: its association was lost, or that."""
    return got.status == _NO_RESOURCES or bool(got.refusal and not got.status)


def _series_of(original: _Original) -> str:
    return original.instance.identity.series_instance_uid


def _not_returned(uid: str, got: Retrieved) -> str:
    if uid in got.refused:
        return f"the peer did not send it back: {got.refused[uid].rstrip('.')}"
    if got.refusal:
        return f"the peer answered {got.status} to the request to send it back: {got.refusal}"
    return "the peer names it, but did not send it back"


def _compare(original: InstanceFile, copy: _Copy, coerced: frozenset[int]) -> Comparison:
    if copy.file.closed:
        return Comparison(Likeness.DIFFERENT, ("it is the content of another file",))
    return compare(original.path, copy.file.fileno(), coerced)


def _by_attribute(row: tuple[Coercion, int]) -> tuple[str, str, str]:
    coercion, _instances = row
    return coercion.attribute, coercion.old or "", coercion.new or ""


def _batches(
    instances: Sequence[ExpectedInstance], most: int
) -> Iterator[Sequence[ExpectedInstance]]:
    """Divide instances by series, and into what is asked for at once."""
    ordered = sorted(instances, key=lambda one: one.identity.series_instance_uid)
    for _series, members in groupby(ordered, key=lambda one: one.identity.series_instance_uid):
        batch: list[ExpectedInstance] = []
        size = 0
        for member in members:
            if batch and (len(batch) == most or size + member.size > _BYTES_AT_ONCE):
                yield batch
                batch, size = [], 0
            batch.append(member)
            size += member.size
        if batch:
            yield batch
