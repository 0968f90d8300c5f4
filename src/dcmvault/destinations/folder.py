"""A plain folder as a destination: files byte for byte under hashed names, checkable by hand.

    README.txt                                   what this is, for somebody without dcmvault
    studies/<32 hex of SHA-256 of the Study Instance UID>/<SHA-256 of the file>.dcm
    opaque/<2 hex>/<SHA-256 of the file>.bin     files that claim to be DICOM and do not parse
    manifests/<UTC time>-<8 hex>.sha256          one per flush, for `sha256sum -c`

Names are digests because names made of DICOM values would be patient data, and may be hostile.
A file that is named by its own digest can be checked without any index.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from dcmvault.config.sections import FolderDestinationSection
from dcmvault.destinations.folder_readme import README
from dcmvault.destinations.source_files import (
    open_source_file,
    require_unchanged,
    unreadable,
)
from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    EntryChangedError,
    LevelNotSupportedError,
    ObjectExistsError,
    ObjectMissingError,
)
from dcmvault.model.evidence import (
    ExpectedInstance,
    ExpectedStudy,
    Finding,
    Level,
    Verification,
)
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import InstanceFile, InstanceIdentity, InstanceKind
from dcmvault.model.probe import ProbeStep
from dcmvault.model.receipt import Receipt
from dcmvault.model.snapshot import Origin
from dcmvault.ports.clock import Clock
from dcmvault.ports.object_store import CacheEviction, ObjectStore, StagedObject, Staging
from dcmvault.ports.pacing import Pacer, Pacing

_log = logging.getLogger(__name__)

_COPY_BYTES = 1 << 20
_READ_BACK_BYTES = 4 << 20
_README_KEY = "README.txt"
#: Where copies lie.
_CONTENT = ("studies/", "opaque/")
_NOBODY = InstanceIdentity("", "", "")


class StagingStore(ObjectStore, Staging, Protocol):
    """What a folder stands on: the digest that names a file is known only after its copy."""


class FolderDestination:
    """A folder that takes every file and can prove what it holds.

    Every put is durable when it returns; `flush` adds a manifest of what was put since the last.
    `holds_copies` tells what the catalogue knows: whether copies were stored here before. Then a
    folder that shows none is the mount point of a lost disk, and nothing is written into it.
    """

    #: Two contents under one UID are two files.
    keeps_versions = True
    #: A copy needs no parsing.
    takes_opaque_files = True
    #: Reading back is cheap enough to be the rule.
    default_level = Level.PROVEN
    #: A folder cannot commit: it has no voice of its own.
    levels = frozenset({Level.SENT, Level.PRESENT, Level.COMPLETE, Level.PROVEN})
    #: A flush writes one small file.
    flush_interval_s = 0.5

    def __init__(
        self,
        section: FolderDestinationSection,
        store: StagingStore,
        clock: Clock,
        holds_copies: Callable[[], bool] | None = None,
        pacing: Pacing | None = None,
    ) -> None:
        self._section = section
        self._store = store
        self._clock = clock
        self._holds_copies = holds_copies
        self._pacing = pacing

    @property
    def name(self) -> str:
        """The folder's path."""
        return self._section.address

    def open(self, kinds: Collection[InstanceKind], origin: Origin) -> FolderDelivery:  # noqa: ARG002 - the port
        """Open a delivery; makes the folder and its README when they are not there.

        Raises DestinationUnreachableError when copies were stored here and none is seen.
        """
        if not self._has_readme():
            if self._holds_copies is not None and self._holds_copies() and self._is_empty():
                raise _looks_unmounted()
            try:
                self._store.put(_README_KEY, [README.encode()])
            except ObjectExistsError:  # another version of dcmvault was faster
                _log.debug("the folder has a README of another version")
        pacer = self._pacing.pacer(origin.priority) if self._pacing is not None else None
        return FolderDelivery(self._store, self._clock, pacer)

    def _has_readme(self) -> bool:
        try:
            return self._store.head(_README_KEY) is not None
        except DestinationUnreachableError:
            # Reading a folder that was never made; the put that follows makes it, or says why not.
            return False

    def _is_empty(self) -> bool:
        """Say whether there is no README and no copy, or no folder at all."""
        try:
            return not any(True for prefix in _CONTENT for _key in self._store.keys(prefix))
        except DestinationUnreachableError:
            return True

    def verify(self, study: ExpectedStudy, level: Level) -> Verification:
        """Compare sizes (PRESENT, COMPLETE), or read every byte back and hash it (PROVEN).

        PROVEN asks the operating system to forget its cached pages first, so that the disk
        answers and not memory; `proof["cache_dropped"]` says for how many objects it agreed.
        """
        if level not in self.levels or level <= Level.SENT:
            raise LevelNotSupportedError(
                f"A folder cannot give evidence of the level '{level.word}'.",
                hint="Ask for present, complete or proven.",
            )
        self._require_filled(study)
        inspection = _Inspection(self._store, read_back=level is Level.PROVEN)
        findings: dict[VersionId, Finding] = {}
        reasons: dict[VersionId, str] = {}
        for instance in study.instances:
            finding, reason = inspection.look_at(instance)
            findings[instance.version_id] = finding
            if reason:
                reasons[instance.version_id] = reason
        return Verification(
            level=level,
            study_instance_uid=study.study_instance_uid,
            observed_at=self._clock.now(),
            findings=findings,
            proof=inspection.proof(findings),
            reasons=reasons,
        )

    def _require_filled(self, study: ExpectedStudy) -> None:
        """Refuse to call everything missing when the folder is the mount point of a lost disk."""
        stored = any(instance.object_key for instance in study.instances)
        # `head` raises when there is no folder at all.
        if self._store.head(_README_KEY) is None and stored and self._is_empty():
            raise _looks_unmounted()

    def probe(self) -> tuple[ProbeStep, ...]:
        """Try the folder, a write (undone at once), and the free space."""
        steps: list[ProbeStep] = []
        for name, attempt in (
            ("folder", self._probe_folder),
            ("write", self._probe_write),
            ("space", self._probe_space),
        ):
            begun = self._clock.monotonic()
            ok, detail, hint = attempt()
            steps.append(ProbeStep(name, ok, detail, self._clock.monotonic() - begun, hint))
            if not ok:
                break
        return tuple(steps)

    def _probe_folder(self) -> tuple[bool, str, str]:
        path = self._section.path
        if path.is_dir():
            return True, "the folder is there", ""
        if path.parent.is_dir() and not path.exists():
            return True, "the folder will be made by the first backup", ""
        if path.exists():
            return False, "it is a file, not a folder", "Name a folder."
        return False, "the folder is not there", "Is the disk mounted? Else create the folder."

    def _probe_write(self) -> tuple[bool, str, str]:
        path = self._section.path
        if not path.is_dir():
            ok = os.access(path.parent, os.W_OK | os.X_OK)
            return (
                ok,
                "the parent folder is writable" if ok else "no right to make the folder",
                ("" if ok else "Give the user who runs dcmvault the right to write there."),
            )
        try:
            staged = self._store.stage()
            try:
                staged.write(b"probe")
            finally:
                staged.discard()
        except (DestinationUnreachableError, DestinationStoppedError) as error:
            return False, error.message, error.hint
        return True, "a file can be written", ""

    def _probe_space(self) -> tuple[bool, str, str]:
        path = self._section.path
        try:
            usage = shutil.disk_usage(path if path.is_dir() else path.parent)
        except OSError as error:
            return False, os.strerror(error.errno or 0), "Is the disk mounted?"
        detail = f"{usage.free / 1e9:,.1f} of {usage.total / 1e9:,.1f} GB free"
        return usage.free > 0, detail, "" if usage.free > 0 else "Free space on the disk."


def _looks_unmounted() -> DestinationUnreachableError:
    return DestinationUnreachableError(
        "The destination folder is empty, but copies were stored in it.",
        hint="Is the disk mounted? If the copies were removed on purpose, put an empty file"
        " README.txt into the folder.",
    )


class FolderDelivery:
    """Copies files into the store's staging area and names them by what was read."""

    def __init__(self, store: StagingStore, clock: Clock, pacer: Pacer | None = None) -> None:
        self._store = store
        self._clock = clock
        self._pacer = pacer
        #: What the next manifest lists: digest by key.
        self._unlisted: dict[str, str] = {}

    def put(self, file: InstanceFile) -> Receipt:
        """Copy one file in one read; hash what is written; durable on return."""
        staged = self._store.stage()
        try:
            digest = _copy(file, staged, self._pacer)
            identity = file.header.identity if file.header is not None else _NOBODY
            key = object_key(identity, digest)
            new, warning = self._commit(staged, key)
        finally:
            staged.discard()
        self._unlisted[key] = digest.hex()
        return Receipt(
            locator=file.entry.locator,
            fingerprint=file.fingerprint,
            file_sha256=digest,
            status="0000",
            object_key=key,
            transferred_bytes=file.fingerprint.size if new else 0,
            received_at=self._clock.now(),
            warning=warning,
            already_there=not new,
        )

    def _commit(self, staged: StagedObject, key: str) -> tuple[bool, str]:
        """Name the copy; replace what has the name of these bytes and other bytes: damage."""
        try:
            return staged.commit(key), ""
        except ObjectExistsError:
            _log.warning("replacing the damaged copy %s", key)
        try:
            self._store.delete(key)
        except ObjectMissingError:
            _log.debug("somebody else removed the damaged copy %s", key)
        staged.commit(key)
        return True, "replaced a damaged copy"

    def flush(self) -> int:
        """Write the manifest of what was put since the last flush; the copies are durable."""
        if not self._unlisted:
            return 0
        lines = (f"{digest}  {key}\n" for key, digest in sorted(self._unlisted.items()))
        moment = self._clock.now()
        key = f"manifests/{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.sha256"
        self._store.put(key, ["".join(lines).encode("ascii")])
        self._unlisted.clear()
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is held open between puts; what was not flushed is in no manifest."""


def object_key(identity: InstanceIdentity, file_sha256: bytes) -> str:
    """Return the name of a file in the folder; an empty identity is an opaque file."""
    name = file_sha256.hex()
    if identity == _NOBODY:
        return f"opaque/{name[:2]}/{name}.bin"
    study = hashlib.sha256(identity.study_instance_uid.encode()).hexdigest()
    return f"studies/{study[:32]}/{name}.dcm"


def _copy(file: InstanceFile, staged: StagedObject, pacer: Pacer | None) -> bytes:
    """Copy a source file into a staged object and return the SHA-256 of what was copied.

    The fingerprint is compared before and after, so that a file that somebody writes to is
    never taken for what was planned.
    """
    digest = hashlib.sha256()
    copied = 0
    with open_source_file(file.path) as stream:
        require_unchanged(stream, file.fingerprint)
        while chunk := _read_source(stream):
            digest.update(chunk)
            copied += len(chunk)
            if pacer is None:
                staged.write(chunk)
            else:
                _write_paced(chunk, staged, pacer)
        require_unchanged(stream, file.fingerprint)
    if copied != file.fingerprint.size:
        raise EntryChangedError("The file changed while it was read.")
    return digest.digest()


def _read_source(stream: BinaryIO) -> bytes:
    try:
        return stream.read(_COPY_BYTES)
    except OSError as error:
        raise unreadable(error) from error


def _write_paced(chunk: bytes, staged: StagedObject, pacer: Pacer) -> None:
    piece = pacer.piece
    for start in range(0, len(chunk), piece):
        part = chunk[start : start + piece]
        pacer.take(len(part))
        staged.write(part)


class _Inspection:
    """Looks at objects one by one and counts what it did."""

    def __init__(self, store: StagingStore, *, read_back: bool) -> None:
        self._store = store
        self._read_back = read_back
        self._bytes_read = 0
        self._cache_dropped = 0

    def look_at(self, instance: ExpectedInstance) -> tuple[Finding, str]:
        """Return what is true of one object, and why if it is not held."""
        key = instance.object_key
        if not key and instance.file_sha256:
            key = object_key(instance.identity, instance.file_sha256)
        if not key:
            return Finding.MISSING, "was never stored here"
        try:
            size = self._store.head(key)
            if size is None:
                return Finding.MISSING, "the file is not there"
            if size != instance.size:
                return Finding.DAMAGED, f"{size:,} of {instance.size:,} bytes are there"
            return self._compare(key, size, instance) if self._read_back else (Finding.HELD, "")
        except ObjectMissingError:
            return Finding.MISSING, "the file is not there"
        except (DestinationUnreachableError, DestinationStoppedError):
            raise
        except DestinationError as error:  # this object only: a bad sector, its permissions
            return Finding.UNKNOWN, error.message

    def _compare(self, key: str, size: int, instance: ExpectedInstance) -> tuple[Finding, str]:
        if not instance.file_sha256:
            return Finding.UNKNOWN, "no SHA-256 is known to compare with"
        if isinstance(self._store, CacheEviction) and self._store.evict(key):
            self._cache_dropped += 1
        digest = hashlib.sha256()
        read = 0
        while read < size:
            chunk = self._store.get(key, read, _READ_BACK_BYTES)
            if not chunk:
                return Finding.DAMAGED, f"{read:,} of {size:,} bytes could be read"
            digest.update(chunk)
            read += len(chunk)
            self._bytes_read += len(chunk)
        if digest.digest() != instance.file_sha256:
            return Finding.DAMAGED, "its SHA-256 differs from the source's"
        return Finding.HELD, ""

    def proof(self, findings: Mapping[VersionId, Finding]) -> dict[str, object]:
        """Return what was done and found, as the evidence's raw proof."""
        proof: dict[str, object] = {
            "method": "read back, SHA-256" if self._read_back else "size",
            "objects": len(findings),
        }
        for finding in Finding:
            count = list(findings.values()).count(finding)
            if count:
                proof[finding.value] = count
        if self._read_back:
            proof["bytes_read"] = self._bytes_read
            proof["cache_dropped"] = self._cache_dropped
        return proof
