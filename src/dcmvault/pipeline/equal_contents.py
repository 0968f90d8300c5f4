"""Which contents under one identity differ in their bytes, but not in their data sets.

A PACS writes an instance anew: the same data set in other bytes. Both files are read and digests of
what they say written down, so that planning for a PACS can tell one instance in two encodings from
two contents under one UID, which is a conflict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dcmvault.dicom.digest import file_sha256
from dcmvault.dicom.sameness import sameness_digest
from dcmvault.errors import DcmvaultError, MalformedDicomError
from dcmvault.model.identifiers import SourceId
from dcmvault.model.instance import InstanceFile, InstanceIdentity
from dcmvault.ports.catalogue import KnownVersion, Scan
from dcmvault.ports.source import Source

#: Opens another source by its canonical address.
OpenSource = Callable[[str], Source]


@dataclass(frozen=True, slots=True)
class EqualContents:
    """Compares versions that share an identity, whichever sources they are in."""

    source: Source
    source_id: SourceId
    scan_pass: Scan
    open_other: OpenSource
    #: Digest versions that are alone, too: when another one comes they will have left their source.
    alone_too: bool = False
    _opened: dict[SourceId, Source | None] = field(default_factory=dict)

    def compare(self, identities: Collection[InstanceIdentity]) -> None:
        """Digest all versions of these identities that are not alone under one.

        What cannot be read now has no digest, and counts as different: that costs a delivery and
        loses nothing.
        """
        if not identities:
            return
        unread = [
            version
            for versions in self.scan_pass.versions(identities).values()
            if len(versions) > 1 or self.alone_too
            for version in versions
            if not version.data_set_digest
        ]
        for version, file in self.files(unread):
            try:
                content = sameness_digest(file.path)
                whole = file_sha256(file.path) if content else b""
            except (OSError, MalformedDicomError):
                continue
            if content and version.file_sha256 in (b"", whole):
                self.scan_pass.set_digest(version.version_id, whole, content)

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


def _files(source: Source, versions: Sequence[KnownVersion]) -> Iterator[InstanceFile]:
    try:
        for answer in source.read([version.entry for version in versions]):
            if isinstance(answer, InstanceFile):
                yield answer
    except DcmvaultError:
        return
