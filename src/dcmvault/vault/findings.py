"""What a check finds: each thing that is wrong, whom it touches, and whether it can be mended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dcmvault.vault.blob import BlobType

#: A blob as findings name it.
Blob = tuple[BlobType, bytes]


class Trouble(StrEnum):
    """Kinds of what can be wrong; the values are stable."""

    #: An object, or a copy of it, is not there.
    MISSING = "missing"
    #: Other bytes than the name promises, or none that can be read.
    DAMAGED = "damaged"
    #: The bytes are those of the name, but they do not open, or do not say what they should.
    UNREADABLE = "unreadable"
    #: A pack that is needed, and that no index or journal names.
    UNLISTED = "unlisted"
    #: Something that is needed is in no pack.
    LOST = "lost"
    #: A snapshot is gone that a later one or an outside witness knows.
    SNAPSHOT_GONE = "snapshot_gone"
    #: The whole vault is older than an outside witness has seen it.
    ROLLED_BACK = "rolled_back"
    #: Something that no restore needs and that may go.
    LEFT_OVER = "left_over"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. Names no patient: UIDs, and keys of objects."""

    trouble: Trouble
    #: Key of the object, without `copies/N/`; empty for the vault as a whole.
    key: str
    #: A sentence.
    message: str
    #: Whether `repair` can set it right; for packs this was tried.
    mendable: bool = False
    #: Not wrong, but worth a line.
    is_note: bool = False
    #: Study Instance UID to the SOP Instance UIDs in it that need what is damaged; an empty tuple
    #: says that the instances are not known.
    studies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Study Instance UID to the SHA-256 of the files in it that need what is damaged: of several
    #: versions of an instance only these. A study is left out where they are not known.
    files: Mapping[str, frozenset[bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check did and found."""

    #: "structure", "read_data", "subset" or "keyless"
    level: str
    findings: tuple[Finding, ...]
    objects: int  #: without their copies
    snapshots: int
    packs: int
    bytes_stored: int
    bytes_read: int  #: of objects that were compared with their names
    #: Needed blobs that neither the vault nor its parity gives.
    lost: frozenset[Blob] = frozenset()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What is wrong."""
        return tuple(finding for finding in self.findings if not finding.is_note)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong, as far as this check looked."""
        return not self.errors

    @property
    def is_mendable(self) -> bool:
        """Whether a repair can set everything right."""
        return all(finding.mendable for finding in self.errors)


class Touched:
    """Collects which instances need what is damaged, by the key of the damaged object."""

    def __init__(self) -> None:
        self._by_key: dict[str, dict[str, set[str]]] = {}
        self._files: dict[str, dict[str, set[bytes]]] = {}

    def add(
        self,
        key: str,
        study_instance_uid: str | None,
        instances: Iterable[str],
        files: Iterable[bytes] = (),
    ) -> None:
        """Note that these instances need the object; None for what belongs to no study.

        `files` are the SHA-256 of their versions that do.
        """
        studies = self._by_key.setdefault(key, {})
        if study_instance_uid is not None:
            studies.setdefault(study_instance_uid, set()).update(instances)
            known = self._files.setdefault(key, {})
            known.setdefault(study_instance_uid, set()).update(files)

    def objects(self) -> list[str]:
        """List the objects that anything needs."""
        return sorted(self._by_key)

    def of(self, key: str) -> dict[str, tuple[str, ...]]:
        """Return what needs an object, by study."""
        studies = self._by_key.get(key, {})
        return {uid: tuple(sorted(instances)) for uid, instances in sorted(studies.items())}

    def files_of(self, key: str) -> dict[str, frozenset[bytes]]:
        """Return which files need an object, by study, where that is known."""
        studies = self._files.get(key, {})
        return {uid: frozenset(files) for uid, files in sorted(studies.items()) if files}
