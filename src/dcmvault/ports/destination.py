"""Where copies go, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from dcmvault.errors import DcmvaultError
from dcmvault.model.evidence import ExpectedStudy, Level, Verification
from dcmvault.model.instance import InstanceFile, InstanceKind
from dcmvault.model.probe import ProbeStep
from dcmvault.model.receipt import Receipt
from dcmvault.model.sidecar import SidecarFile
from dcmvault.model.snapshot import Origin, SnapshotRef


class Delivery(Protocol):
    """An open way to one destination (an association, a staging area). Used by one thread.

    Leaving the context closes it; what was put and not flushed is then unknown.
    """

    def put(self, file: InstanceFile) -> Receipt:
        """Deliver one file byte for byte and return the destination's claim.

        `file.header` is set unless the file is opaque. Putting again what is there already is
        not an error (`Receipt.already_there` where that is known).
        Raises InstanceUnsendableError (our own check), InstanceRefusedError or
        InstanceDeferredError (the destination's word): the delivery goes on with the next file.
        Raises EntryUnreadableError when the file cannot be read to its end.
        Raises DestinationUnreachableError, AssociationLostError or DestinationStoppedError when
        no further put can succeed on this delivery.
        """
        ...

    def flush(self) -> int:
        """Return when everything put so far is durable as far as the destination can say.

        Returns the bytes that were moved since the last flush and that no receipt counted
        (many instances share a pack); 0 where receipts count everything.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class Pipelined(Protocol):
    """A delivery that may have several files on their way before the first one's answer came.

    Not mixed with `Delivery.put`: that wants every file heard of before.
    """

    @property
    def window(self) -> int:
        """How many files may be begun and not finished now; it may change with each `begin`."""
        ...

    def begin(self, file: InstanceFile) -> None:
        """Send one file, of which `finish` will tell; its bytes are not looked at any more then.

        Raises as `Delivery.put`, but for the peer's word, and then `finish` does not tell of this
        file. It still does of all others, whatever was raised.
        """
        ...

    def finish(self) -> tuple[InstanceFile, Receipt | DcmvaultError]:
        """Return one of the files begun, in any order, with its receipt or what `put` would raise.

        All that are lost together come with one and the same AssociationLostError.
        """
        ...


class Destination(Protocol):
    """A place that takes copies. May be used by several threads, each with its own delivery."""

    @property
    def name(self) -> str:
        """The destination's address in canonical form, without secrets."""
        ...

    @property
    def keeps_versions(self) -> bool:
        """Whether two contents under one SOP Instance UID can both be held (a PACS: no)."""
        ...

    @property
    def takes_opaque_files(self) -> bool:
        """Whether a file that does not parse as DICOM can be held (a PACS: no)."""
        ...

    @property
    def default_level(self) -> Level:
        """The evidence level asked when the user names none."""
        ...

    @property
    def flush_interval_s(self) -> float:
        """How long receipts may wait for a flush, and their outcomes to be written down.

        What a crash takes is looked for again: short where a flush is cheap, longer where a
        flush closes what would better be filled.
        """
        ...

    def open(self, kinds: Collection[InstanceKind], origin: Origin) -> Delivery:
        """Open a delivery for files of these kinds (others may be refused), coming from `origin`.

        Raises DestinationUnreachableError (with its subclasses) or DestinationStoppedError.
        """
        ...


@runtime_checkable
class TakesSeveral(Protocol):
    """A destination to which several deliveries at once go faster than one.

    Each receipt of theirs stands for itself: `Delivery.flush` has nothing to do.
    """

    @property
    def first_deliveries(self) -> int:
        """How many to begin with, while nothing was measured."""
        ...

    @property
    def max_deliveries(self) -> int:
        """How many it takes at most."""
        ...

    def close_idle(self) -> None:
        """End the connections that are kept for further deliveries; harmless at any time."""
        ...


class SpentSeconds(Protocol):
    """Seconds that deliveries spent, by what for. Safe for several threads."""

    def take(self) -> Mapping[str, float]:
        """Return what was spent since this was last asked.

        `encode` (encoders were busy, by their number) and `write` (the store was) of a vault;
        `send`, `wait` (for the peer's answers) and `paced` (a limit held bytes back) of a PACS,
        summed over associations.
        """
        ...


@runtime_checkable
class Measured(Protocol):
    """A destination that knows what its deliveries spend their time on."""

    @property
    def measures(self) -> SpentSeconds:
        """What all deliveries together spent."""
        ...


@runtime_checkable
class GetsReady(Protocol):
    """A destination that takes a while to be ready (a key to derive), beside something else."""

    def get_ready(self) -> None:
        """Do what `open` would wait for; may be called from any thread, at any time.

        What stands in the way is not told here: `open` meets it again, and says so.
        """
        ...


@runtime_checkable
class Listable(Protocol):
    """A destination that can name what it holds."""

    def instances(self, study_instance_uid: str, series_instance_uid: str = "") -> frozenset[str]:
        """Return the SOP Instance UIDs held of a study, or of one of its series.

        Raises DestinationUnreachableError when it cannot answer, DestinationError when it does
        not answer this question (no query, or a capped list); an empty set is an answer.
        """
        ...


@runtime_checkable
class Snapshots(Protocol):
    """A destination that remembers what it held at a time."""

    def take_snapshot(
        self, origin: Origin, sidecar: Iterable[SidecarFile] | None
    ) -> SnapshotRef | None:
        """Take the snapshot of a run whose deliveries have ended; durable on return.

        It names everything that was flushed and that no snapshot names yet. `sidecar` are the
        files that belong to the source as a whole, each valid until the next is asked for; with
        None what earlier snapshots said of them counts on. None is returned when there is
        nothing new to name. Asked again for the same run with nothing stored since (the step was
        repeated after a crash), it returns the snapshot that the run took.
        Raises DestinationError: then what was stored is safe, and the next snapshot names it.
        An error of the sidecar's own iteration passes through, and no snapshot was taken.
        """
        ...


@runtime_checkable
class Remembered(Protocol):
    """A destination whose snapshots somebody else remembers, so that lost ones are noticed."""

    def lost_snapshots(self, known: Collection[str]) -> list[str]:
        """Return which of these snapshots are neither there nor forgotten on purpose.

        Raises DestinationError when that cannot be found out.
        """
        ...


@runtime_checkable
class Verifier(Protocol):
    """A destination (or a companion of it) that can give evidence."""

    @property
    def levels(self) -> frozenset[Level]:
        """The levels it can give; any other is a usage error for the user to hear at once."""
        ...

    def verify(self, study: ExpectedStudy, level: Level) -> Verification:
        """Look for evidence of `level` for every expected instance of one study.

        `level` is one of `levels` above SENT. Every expected instance gets a finding; HELD only
        on evidence of at least that level. Raises DestinationUnreachableError when nothing can
        be found out; a question that only some instances leave open is Finding.UNKNOWN.
        """
        ...


@runtime_checkable
class SendsBack(Protocol):
    """A destination that may or may not send back what it holds, and can be asked beforehand."""

    def sends_back(self) -> bool:
        """Say whether it lets read back; only a refusal says that it does not."""
        ...


@runtime_checkable
class Probes(Protocol):
    """A destination whose way can be tried step by step."""

    def probe(self) -> tuple[ProbeStep, ...]:
        """Try name, connection and service in order; stop after the first step that fails."""
        ...


@runtime_checkable
class Surveys(Protocol):
    """A destination of which can be found out what it offers, and how fast the way to it is."""

    def survey(self, *, stores: bool) -> tuple[ProbeStep, ...]:
        """Ask for services one by one, and measure round trip; go on after what is lacking.

        With `stores` bandwidth is measured, too, by a test object that stays at the destination.
        """
        ...
