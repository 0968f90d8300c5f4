"""A vault as a destination: files go in as blobs, runs become snapshots, evidence is read back."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from dcmvault.config.sections import VaultDestinationSection
from dcmvault.destinations.measures import Measures
from dcmvault.destinations.source_files import open_source_bytes, require_unchanged, unreadable
from dcmvault.destinations.vault_at_work import Seen, VaultAtWork
from dcmvault.destinations.vault_evidence import VaultInspection
from dcmvault.destinations.vault_probe import VaultProbe
from dcmvault.dicom.byte_source import MemoryBytes
from dcmvault.errors import (
    DcmvaultError,
    LevelNotSupportedError,
    ObjectMissingError,
    VaultDamagedError,
)
from dcmvault.model.evidence import ExpectedStudy, Level, Verification
from dcmvault.model.instance import InstanceFile, InstanceKind
from dcmvault.model.probe import ProbeStep
from dcmvault.model.receipt import Receipt
from dcmvault.model.sidecar import SidecarFile
from dcmvault.model.snapshot import Origin, SnapshotRef
from dcmvault.ports.clock import Clock
from dcmvault.ports.object_store import Checksums
from dcmvault.ports.pacing import Pacing
from dcmvault.vault.current_records import current_parts
from dcmvault.vault.effort import EffortGauge
from dcmvault.vault.profile import PROFILES, Profile
from dcmvault.vault.records import InstanceRecord, read_time_text
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link, heads
from dcmvault.vault.taking_snapshots import Change, take_snapshot
from dcmvault.vault.writer import VaultWriter

#: Files up to this size are read at once; larger ones piece by piece.
_READ_WHOLE_BYTES = 4 << 20
#: Packs are better filled: so long outcomes may wait, unless the batch ends.
_FLUSH_INTERVAL_S = 15.0
_REPAIR = (
    "`dcmvault vault repair` brings back what can be brought back; with --drop-lost the next"
    " backup stores the rest again."
)


class VaultDestination:
    """A vault that takes every file and can prove what it holds.

    It is opened, by whichever key is configured, when it is first needed; one adapter serves all
    jobs of a process.
    """

    def __init__(
        self,
        section: VaultDestinationSection,
        open_vault: Callable[[], Vault],
        clock: Clock,
        known_snapshots: Callable[[], Collection[str]] = tuple,
        pacing: Pacing | None = None,
    ) -> None:
        self._section = section
        self._open_vault = open_vault
        self._clock = clock
        self._pacing = pacing
        self._at_work = VaultAtWork(open_vault, clock, known_snapshots)
        self.measures = Measures()
        self._gauge = EffortGauge(spent=self.measures.add)
        self._encoders = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="encoder")

    @property
    def name(self) -> str:
        """The vault's address."""
        return self._section.address

    @property
    def keeps_versions(self) -> bool:
        """Two contents under one UID are two records."""
        return True

    @property
    def takes_opaque_files(self) -> bool:
        """No byte is ever refused."""
        return True

    @property
    def default_level(self) -> Level:
        """Every object there with its size; each encoding was decoded and compared before."""
        return Level.COMPLETE

    @property
    def flush_interval_s(self) -> float:
        """A flush closes a pack."""
        return _FLUSH_INTERVAL_S

    @property
    def levels(self) -> frozenset[Level]:
        """Only S3 keeps checksums that can commit, and only of what came with one."""
        commits = self._section.scheme == "s3" and self._section.checksums == "always"
        return frozenset(Level) - {Level.NONE} - ({Level.COMMITTED} if not commits else set())

    def get_ready(self) -> None:
        """Open the vault: the key of a passphrase takes a tenth of a second to derive."""
        with suppress(DcmvaultError):
            self._at_work.look()

    def open(self, kinds: Collection[InstanceKind], origin: Origin) -> VaultDelivery:  # noqa: ARG002
        """Open a delivery.

        Raises VaultMissingError, VaultLockedError, VaultFormatError or VaultSetBackError.
        """
        seen = self._at_work.look_to_write()
        writer = VaultWriter(
            seen.vault,
            seen.known,
            self._profile(),
            self._encoders,
            source=origin.source,
            run=str(origin.run_id),
            gauge=self._gauge,
        )
        delivery = VaultDelivery(writer, self._clock)
        if self._pacing is not None:
            delivery.until_closed.enter_context(self._pacing.at_work(origin.priority))
        return delivery

    def take_snapshot(
        self, origin: Origin, sidecar: Iterable[SidecarFile] | None
    ) -> SnapshotRef | None:
        """Take the snapshot of a run; see `Snapshots` in the ports."""
        vault = self._at_work.vault()
        self._at_work.require_known_snapshots()
        run = str(origin.run_id)
        change = Change("backup", run, origin.source, sidecar)
        link = take_snapshot(vault, change, self._profile())
        if link is None:
            return self._taken_before(vault, run)
        self._at_work.forget()
        return _ref(link)

    def lost_snapshots(self, known: Collection[str]) -> list[str]:
        """Return which of these snapshots are neither there nor forgotten on purpose."""
        return self._at_work.lost_snapshots(known)

    def _taken_before(self, vault: Vault, run: str) -> SnapshotRef | None:
        for link in heads(vault.links()):
            if vault.state(link).run == run:
                return _ref(link)
        return None

    def verify(self, study: ExpectedStudy, level: Level) -> Verification:
        """Look for every object that a file needs (PRESENT, COMPLETE), or read it back (PROVEN).

        COMMITTED compares the store's own checksums of the objects with what they are to be.
        PROVEN asks the operating system to forget its cached pages first, where there are any.
        """
        if level not in self.levels or level <= Level.SENT:
            raise LevelNotSupportedError(
                f"A vault cannot give evidence of the level '{level.word}'.",
                hint="Ask for present, complete or proven; in S3 for committed, too.",
            )
        inspection = _inspected(self._at_work, study, level, self._encoders)
        for file_sha256 in inspection.lost:
            self._at_work.lose(study.study_instance_uid, file_sha256)
        return Verification(
            level=level,
            study_instance_uid=study.study_instance_uid,
            observed_at=self._clock.now(),
            findings=inspection.findings,
            proof=inspection.proof(),
            reasons=inspection.reasons,
        )

    def probe(self) -> tuple[ProbeStep, ...]:
        """Try place, vault, key, writing, lease and (on a disk) space."""
        return VaultProbe(self._open_vault, self._section.path, self._clock).run()

    def _profile(self) -> Profile:
        if self._section.profile == "auto":
            return self._gauge.profile()
        return PROFILES[self._section.profile]


def _inspected(
    at_work: VaultAtWork, study: ExpectedStudy, level: Level, decoders: ThreadPoolExecutor
) -> VaultInspection:
    """Look at a study, twice if need be: others may have moved what tells of it."""
    try:
        return _inspect(at_work, study, level, decoders)
    except (VaultDamagedError, ObjectMissingError):
        at_work.forget()
    try:
        return _inspect(at_work, study, level, decoders)
    except (VaultDamagedError, ObjectMissingError) as error:
        raise VaultDamagedError(error.message, hint=_REPAIR) from error


def _inspect(
    at_work: VaultAtWork, study: ExpectedStudy, level: Level, decoders: ThreadPoolExecutor
) -> VaultInspection:
    seen = at_work.look()
    inspection = VaultInspection(
        seen.vault,
        study,
        decoders if level is Level.PROVEN else None,
        _checksums(seen.vault) if level is Level.COMMITTED else None,
    )
    inspection.look_through(_records(seen, study))
    if inspection.unrecorded and (again := at_work.look_again()) is not seen:
        # Another process may have stored it since: whoever began a job need not end it.
        inspection.look_through(_records(again, study))
    return inspection


def _records(seen: Seen, study: ExpectedStudy) -> Iterator[Sequence[InstanceRecord]]:
    now = replace(seen.state, journals=seen.vault.journals())
    for part in current_parts(now, study.study_instance_uid):
        yield part.records.instances


def _checksums(vault: Vault) -> Checksums:
    if not isinstance(vault.store, Checksums):
        raise LevelNotSupportedError(
            "This vault's store keeps no checksums that it could commit to.",
            hint="Ask for complete or proven.",
        )
    return vault.store


def _ref(link: Link) -> SnapshotRef:
    return SnapshotRef(link.name, link.generation, read_time_text(link.created_at))


@dataclass(slots=True)
class VaultDelivery:
    """One writer's session. A receipt says that the file was read and taken apart."""

    writer: VaultWriter
    clock: Clock
    #: What ends with it.
    until_closed: ExitStack = field(default_factory=ExitStack)

    def put(self, file: InstanceFile) -> Receipt:
        """Read one file once and hand its blobs to the encoders; durable after `flush`."""
        planned = file.fingerprint
        with open_source_bytes(file.path) as source:
            require_unchanged(source, planned)
            try:
                whole = planned.size <= _READ_WHOLE_BYTES
                bytes_of_file = MemoryBytes(source.read(0, planned.size)) if whole else source
                stored = self.writer.put(file, bytes_of_file)
            except OSError as error:
                raise unreadable(error) from error
            require_unchanged(source, planned)
        return Receipt(
            locator=file.entry.locator,
            fingerprint=planned,
            file_sha256=stored.file_sha256,
            status="0000",
            object_key="",
            transferred_bytes=0,
            received_at=self.clock.now(),
            already_there=stored.already_there,
        )

    def flush(self) -> int:
        """Make everything durable; returns the bytes of packs, parity and journal."""
        return self.writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self.until_closed:
            self.writer.close()
