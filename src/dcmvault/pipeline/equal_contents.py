"""Which contents under one identity differ in their bytes, but not in their data sets.

A PACS writes an instance anew: the same data set in other bytes. Both files are read and their
canonical digests written down, so that planning can tell one instance in two encodings from two
contents under one UID, which is a conflict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dcmvault.dicom.digest import data_set_digest, file_sha256
from dcmvault.dicom.part10 import scan
from dcmvault.errors import DcmvaultError, MalformedDicomError
from dcmvault.model.identifiers import SourceId
from dcmvault.model.instance import InstanceFile, InstanceIdentity
from dcmvault.ports.catalogue import KnownVersion, Scan
from dcmvault.ports.source import Source

#: Bytes before the prefix `DICM`.
_PREAMBLE = 128

#: Opens another source by its canonical address.
OpenSource = Callable[[str], Source]


@dataclass(frozen=True, slots=True)
class EqualContents:
    """Compares versions that share an identity, whichever sources they are in."""

    source: Source
    source_id: SourceId
    scan_pass: Scan
    open_other: OpenSource
    _opened: dict[SourceId, Source | None] = field(default_factory=dict)

    def compare(self, identities: Collection[InstanceIdentity]) -> None:
        """Digest the data sets of all versions of these identities that are not alone under one.

        What cannot be read now has no digest, and counts as different: that costs a delivery and
        loses nothing.
        """
        if not identities:
            return
        unread = [
            version
            for versions in self.scan_pass.versions(identities).values()
            if len(versions) > 1
            for version in versions
            if not version.data_set_digest
        ]
        for version, file in self.files(unread):
            try:
                if not _is_all_data_set(file.path):
                    continue
                whole, content = file_sha256(file.path), data_set_digest(file.path)
            except (OSError, MalformedDicomError):
                continue
            if not version.file_sha256 or version.file_sha256 == whole:
                digest = bytes.fromhex(content.partition(":")[2])
                self.scan_pass.set_digest(version.version_id, whole, digest)

    def files(self, of: Iterable[KnownVersion]) -> Iterator[tuple[KnownVersion, InstanceFile]]:
        """Read versions, each from the source whose entry it names; not all can be read now."""
        by_source: dict[SourceId, dict[str, KnownVersion]] = defaultdict(dict)
        for version in of:
            by_source[version.source_id][version.entry.locator] = version
        for source_id, of_locator in by_source.items():
            versions = list(of_locator.values())
            source = self._source(source_id, versions[0].source)
            if source is not None:
                for file in _files(source, versions):
                    yield of_locator[file.entry.locator], file

    def _source(self, source_id: SourceId, address: str) -> Source | None:
        if source_id == self.source_id:
            return self.source
        if source_id not in self._opened:
            try:
                self._opened[source_id] = self.open_other(address)
            except DcmvaultError:
                self._opened[source_id] = None
        return self._opened[source_id]


def _is_all_data_set(path: Path) -> bool:
    """Say whether nothing is in the file that the digest leaves out and no PACS would write anew.

    That is something in the preamble (PS3.10 7.1: another format's header may stand there), bytes
    after the data set, or damage.
    """
    header = scan(path)
    if header.flaws or header.data_set_end != path.stat().st_size:
        return False
    if not header.has_preamble:
        return True
    with path.open("rb") as file:
        return not any(file.read(_PREAMBLE))


def _files(source: Source, versions: Sequence[KnownVersion]) -> Iterator[InstanceFile]:
    try:
        for answer in source.read([version.entry for version in versions]):
            if isinstance(answer, InstanceFile):
                yield answer
    except DcmvaultError:
        return
