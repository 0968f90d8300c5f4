"""A destination that keeps every copy as a member of one tar file, named by digests."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, ClassVar, Literal, Self, cast

from dcmvault.config.plugin_sections import PluginDestinationSection
from dcmvault.config.plugins import Plugin
from dcmvault.errors import (
    DestinationStoppedError,
    DestinationUnreachableError,
    EntryChangedError,
    EntryUnreadableError,
    EntryVanishedError,
)
from dcmvault.model.evidence import ExpectedInstance, ExpectedStudy, Finding, Level, Verification
from dcmvault.model.instance import Fingerprint, InstanceFile, InstanceKind
from dcmvault.model.receipt import Receipt
from dcmvault.model.snapshot import Origin
from dcmvault.ports.clock import Clock
from dcmvault.ports.surroundings import Surroundings


class TarSection(PluginDestinationSection):
    """The options of a tar file: dcmvault checks them, and tells the line of what is wrong."""

    scheme: ClassVar[str] = "tar"

    #: The tar file; the address says it.
    file: Path
    #: Permissions of a file that is made anew.
    private: bool = True

    @classmethod
    def from_address(cls, rest: str) -> Self:
        """Read `tar:PATH`."""
        if not rest:
            raise ValueError("the path of the tar file is missing, as in tar:/media/disk/x.tar")
        # Absolute, so that the address means the same wherever a command is given.
        return cls(file=Path(os.path.abspath(Path(rest).expanduser())))  # noqa: PTH100

    @property
    def address(self) -> str:
        """The canonical address."""
        return f"tar:{self.file}"

    @property
    def path(self) -> Path | None:
        """The folder that the file is in: a source in it would contain its own copies."""
        return self.file


@dataclass(frozen=True, slots=True)
class _Member:
    """Where the bytes of a copy lie in the file."""

    start: int
    size: int


class TarDestination:
    """A tar file that takes every file, and can prove what it holds."""

    keeps_versions = True
    takes_opaque_files = True
    default_level = Level.PROVEN
    levels = frozenset({Level.SENT, Level.PRESENT, Level.COMPLETE, Level.PROVEN})
    flush_interval_s = 0.5

    def __init__(
        self,
        section: TarSection,
        clock: Clock,
        holds_copies: Callable[[], bool] | None = None,
    ) -> None:
        self._section = section
        self._clock = clock
        self._holds_copies = holds_copies

    @property
    def name(self) -> str:
        """The canonical address."""
        return self._section.address

    def open(self, kinds: Collection[InstanceKind], origin: Origin) -> TarDelivery:  # noqa: ARG002 - the port
        """Make the file if there is none, unless copies were stored in one: its disk is away."""
        self._make()
        return TarDelivery(self._section.file, self._clock)

    def _make(self) -> None:
        """Make the file where there is none and none was."""
        path = self._section.file
        if not path.exists():
            if self._holds_copies is not None and self._holds_copies():
                raise DestinationUnreachableError(
                    "the tar file with the copies is not there", hint="is its disk mounted?"
                )
            try:
                mode = 0o600 if self._section.private else 0o644
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode))
            except OSError as error:
                raise _unreachable(error) from error

    def verify(self, study: ExpectedStudy, level: Level) -> Verification:
        """Compare sizes (PRESENT, COMPLETE), or read every byte back (PROVEN)."""
        findings, reasons = {}, {}
        self._make()
        with _opened(self._section.file, "rb", fcntl.LOCK_SH) as file:
            members = _members(file)
            for instance in study.instances:
                finding, reason = _look_at(file, members, instance, level)
                findings[instance.version_id] = finding
                if reason:
                    reasons[instance.version_id] = reason
        return Verification(
            level=level,
            study_instance_uid=study.study_instance_uid,
            observed_at=self._clock.now(),
            findings=findings,
            proof={
                "method": "read back, SHA-256" if level is Level.PROVEN else "size",
                "members": len(findings),
            },
            reasons=reasons,
        )


class TarDelivery:
    """Appends; what was put is durable after `flush`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def put(self, file: InstanceFile) -> Receipt:
        """Append one file, unless the same bytes are there already."""
        content = _content(file)
        digest = hashlib.sha256(content)
        name = _name(file.header.study_instance_uid if file.header else "", digest.digest())
        with _opened(self._path, "r+b", fcntl.LOCK_EX) as archive:
            known = _members(archive).get(name)
            is_there = known is not None and _read(archive, known) == content
            if not is_there:
                _append(archive, name, content)
        return Receipt(
            locator=file.entry.locator,
            fingerprint=file.fingerprint,
            file_sha256=digest.digest(),
            status="0000",
            object_key=name,
            transferred_bytes=0 if is_there else len(content),
            received_at=self._clock.now(),
            already_there=is_there,
        )

    def flush(self) -> int:
        """Have the disk keep what was put."""
        with _opened(self._path, "r+b", fcntl.LOCK_SH) as archive:
            os.fsync(archive.fileno())
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is held open between puts."""


def _content(file: InstanceFile) -> bytes:
    """Read a source file; it must be what was planned, before and after."""
    try:
        with file.path.open("rb") as stream:
            _require_unchanged(stream, file.fingerprint)
            content = stream.read()
            _require_unchanged(stream, file.fingerprint)
    except FileNotFoundError as error:
        raise EntryVanishedError("the file is gone") from error
    except OSError as error:
        raise EntryUnreadableError(f"the file cannot be read: {error.strerror}") from error
    return content


def _require_unchanged(stream: BinaryIO, planned: Fingerprint) -> None:
    found = os.fstat(stream.fileno())
    if Fingerprint(found.st_size, found.st_mtime_ns, found.st_ino) != planned:
        raise EntryChangedError("the file is not what was planned any more")


def _name(study_instance_uid: str, digest: bytes) -> str:
    """Name a copy by digests: names made of DICOM values would be patient data."""
    if not study_instance_uid:
        return f"opaque/{digest.hex()}.bin"
    study = hashlib.sha256(study_instance_uid.encode()).hexdigest()
    return f"studies/{study[:32]}/{digest.hex()}.dcm"


@contextmanager
def _opened(path: Path, mode: str, lock: int) -> Iterator[BinaryIO]:
    """Open the tar file; one who appends keeps all others out, also other processes."""
    try:
        with path.open(mode) as file:
            fcntl.flock(file, lock)
            yield cast(BinaryIO, file)
    except tarfile.TarError as error:
        raise DestinationStoppedError(
            "the tar file is damaged", hint="move it away; the next backup makes a new one"
        ) from error
    except OSError as error:
        raise _unreachable(error) from error


def _unreachable(error: OSError) -> DestinationUnreachableError:
    return DestinationUnreachableError(
        f"the tar file cannot be used: {error.strerror}", hint="is its disk mounted, with space?"
    )


def _members(file: BinaryIO) -> dict[str, _Member]:
    """Read all headers; of two members of one name the last one counts."""
    file.seek(0)
    if not os.fstat(file.fileno()).st_size:
        return {}
    with tarfile.open(fileobj=file, mode="r:") as archive:
        return {one.name: _Member(one.offset_data, one.size) for one in archive}


def _read(file: BinaryIO, member: _Member) -> bytes:
    file.seek(member.start)
    return file.read(member.size)


def _append(file: BinaryIO, name: str, content: bytes) -> None:
    file.seek(0)
    # An empty file is no archive yet.
    mode: Literal["a", "w"] = "a" if os.fstat(file.fileno()).st_size else "w"
    with tarfile.open(fileobj=file, mode=mode) as archive:
        header = tarfile.TarInfo(name)
        header.size = len(content)
        archive.addfile(header, io.BytesIO(content))
    file.flush()


def _look_at(
    file: BinaryIO, members: dict[str, _Member], instance: ExpectedInstance, level: Level
) -> tuple[Finding, str]:
    """Say what is true of one copy, and why if it is not held."""
    key = instance.object_key
    if not key and instance.file_sha256:
        key = _name(instance.identity.study_instance_uid, instance.file_sha256)
    member = members.get(key)
    if member is None:
        return Finding.MISSING, "it is not in the tar file"
    if member.size != instance.size:
        return Finding.DAMAGED, f"{member.size:,} of {instance.size:,} bytes are there"
    if level is not Level.PROVEN:
        return Finding.HELD, ""
    if hashlib.sha256(_read(file, member)).digest() != instance.file_sha256:
        return Finding.DAMAGED, "its SHA-256 differs from the source's"
    return Finding.HELD, ""


def _build(section: TarSection, surroundings: Surroundings) -> TarDestination:
    return TarDestination(section, surroundings.clock, surroundings.holds_copies)


#: What the entry point names.
PLUGIN = Plugin(TarSection, _build)
