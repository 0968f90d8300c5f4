"""Exports manifests of what a place holds now, signed, into a folder of their own."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from dcmvault import __version__
from dcmvault.app.manifest_chain import read_chain
from dcmvault.app.manifest_format import (
    VERSION,
    checksum_line,
    document_bytes,
    encode_study,
    study_file_name,
)
from dcmvault.app.manifest_signing import PUBLIC_KEY, SIGNATURE, SigningKey, signing_key, write_new
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.reading import ReadablePlace, open_place
from dcmvault.config.settings import Settings
from dcmvault.errors import StateError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.manifest import Depth, ListedInstance, ManifestProblem, StudyManifest
from dcmvault.pipeline.manifest_reading import FoundInstance, ManifestReading
from dcmvault.pipeline.study_manifests import by_study, study_manifest

INDEX = "manifests.json"
INDEX_FORMAT = "dcmvault-manifests"
STUDIES = "studies"
CHECKSUMS = "files.sha256"
_OWN_CHECKSUMS = "SHA256SUMS"
#: A copy in a folder destination is named by the SHA-256 of its bytes.
_NAMED_BY_DIGEST = re.compile(r"studies/[0-9a-f]{32}/([0-9a-f]{64})\.dcm\Z")


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is to be written down, and where."""

    place: str
    out: Path
    studies: tuple[str, ...] = ()
    depth: Depth = Depth.PIXELS
    #: Lines for `sha256sum -c` instead of a document for each study.
    checksums: bool = False


@dataclass(slots=True)
class ExportReport:
    """What was written down."""

    place: str
    out: Path
    key: str  #: fingerprint of the public key
    made_at: datetime
    studies: int = 0
    instances: int = 0
    bytes: int = 0
    files: list[Path] = field(default_factory=list)
    #: What is in no manifest although it is there.
    problems: list[ManifestProblem] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """3 if something that is there could not be written down, else 0."""
        return 3 if self.problems else 0


def export_manifests(
    settings: Settings,
    home: Path,
    request: ExportRequest,
    told: Callable[[int], None],
) -> ExportReport:
    """Read a place, and write what it holds into a new folder; `told` counts instances.

    Raises UsageError (a folder that is not empty, a study that is not there, a form that the
    place cannot have), SourceUnavailableError, StateError.
    """
    place = open_place(settings, request.place)
    if request.checksums and place.folder is None:
        raise UsageError(
            _("%s has no files that sha256sum could read.") % place.source.name,
            hint=_("Name a folder, or export as JSON and use `dcmvault manifest validate`."),
        )
    _make_folder(request.out)
    key = signing_key(home)
    clock = SystemClock()
    report = ExportReport(place.source.name, request.out, key.fingerprint, clock.now())
    reading = ManifestReading(
        place.source, request.depth, request.studies, by_uid=place.by_uid, told=told
    )
    writing = _Writing(request, report, key, home)
    found = _undamaged(reading)
    try:
        if request.checksums:
            writing.write_checksums(place, found)
        else:
            writing.write_studies(_studies(found, by_uid=place.by_uid))
    except OSError as error:
        raise StateError(
            _("The manifests cannot be written."), hint=f"{request.out}: {error.strerror}"
        ) from None
    report.problems = reading.problems
    return report


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(0o700, parents=True, exist_ok=True)
        is_empty = not any(out.iterdir())
    except OSError as error:
        raise UsageError(
            _("The folder for the manifests cannot be made."), hint=f"{out}: {error.strerror}"
        ) from None
    if not is_empty:
        raise UsageError(
            _("The folder for the manifests is not empty."),
            hint=_("Name a new one: manifests are never overwritten."),
        )


def _undamaged(reading: ManifestReading) -> Iterator[FoundInstance]:
    """Leave out copies that are other than their names say, and note them."""
    for found in reading.instances():
        named = _NAMED_BY_DIGEST.search(found.locator)
        if named is None or named[1] == found.listed.file_sha256.hex():
            yield found
        else:
            reading.problems.append(
                ManifestProblem(
                    "damaged",
                    "the copy is damaged: its bytes are not those that it is named by",
                    found.locator,
                    found.listed.identity,
                )
            )


def _studies(found: Iterator[FoundInstance], *, by_uid: bool) -> Iterator[StudyManifest]:
    """Make manifests: one by one where the place lists study by study, else at the end."""
    if not by_uid:
        gathered = by_study(one.listed for one in found)
        for uid in sorted(gathered):
            yield study_manifest(uid, gathered.pop(uid))
        return
    uid = ""
    members: list[ListedInstance] = []
    for one in found:
        study = one.listed.identity.study_instance_uid
        if members and study != uid:
            yield study_manifest(uid, members)
            members = []
        uid = study
        members.append(one.listed)
    if members:
        yield study_manifest(uid, members)


@dataclass(slots=True)
class _Writing:
    """Writes files, signs the one that names all others."""

    request: ExportRequest
    report: ExportReport
    key: SigningKey
    home: Path

    def write_studies(self, manifests: Iterator[StudyManifest]) -> None:
        """Write a document for each study, and the signed list of them."""
        (self.request.out / STUDIES).mkdir(0o700)
        rows: list[dict[str, object]] = []
        for manifest in manifests:
            name = f"{STUDIES}/{study_file_name(manifest.study_instance_uid)}"
            content = encode_study(manifest)
            self._write(name, content)
            self._count(manifest.instances, manifest.bytes)
            rows.append(
                {
                    "study_instance_uid": manifest.study_instance_uid,
                    "file": name,
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "instances": manifest.instances,
                    "bytes": manifest.bytes,
                    "merkle_root": manifest.merkle_root.hex(),
                }
            )
        self._require_all([str(row["study_instance_uid"]) for row in rows])
        self.report.studies = len(rows)
        newest = read_chain(self.home).links[-1:]
        index = {
            "format": INDEX_FORMAT,
            "version": VERSION,
            "made_at": self.report.made_at.isoformat(timespec="milliseconds"),
            "made_by": f"dcmvault {__version__}",
            "from": self.report.place,
            "depth": self.request.depth.value,
            "studies": rows,
            "newest_link": [{"sequence": one.sequence, "sha256": one.sha256} for one in newest],
        }
        self._sign(INDEX, document_bytes(index))
        lines = [
            checksum_line(
                hashlib.sha256(path.read_bytes()).digest(),
                os.fsencode(path.relative_to(self.request.out)),
            )
            for path in self.report.files
        ]
        self._write(_OWN_CHECKSUMS, b"".join(lines))

    def write_checksums(self, place: ReadablePlace, found: Iterator[FoundInstance]) -> None:
        """Write one line for each file, by its path below the place's folder."""
        assert place.folder is not None
        lines: list[tuple[bytes, bytes]] = []
        studies: set[str] = set()
        for one in found:
            assert one.path is not None
            path = os.path.relpath(one.path.resolve(), place.folder)
            lines.append((os.fsencode(path), one.listed.file_sha256))
            studies.add(one.listed.identity.study_instance_uid)
            self._count(1, one.listed.size)
        self._require_all(studies)
        self.report.studies = len(studies)
        content = b"".join(checksum_line(sha256, path) for path, sha256 in sorted(lines))
        self._sign(CHECKSUMS, content)

    def _count(self, instances: int, size: int) -> None:
        self.report.instances += instances
        self.report.bytes += size

    def _require_all(self, studies: Sequence[str] | set[str]) -> None:
        missing = sorted(set(self.request.studies) - set(studies))
        if missing:
            raise UsageError(
                _("%(place)s has no study %(uid)s.")
                % {"place": self.report.place, "uid": missing[0]},
                hint=_("Nothing was signed; the folder has what was found until then."),
            )

    def _sign(self, name: str, content: bytes) -> None:
        self._write(name, content)
        self._write(name + SIGNATURE, self.key.sign(content))
        self._write(PUBLIC_KEY, self.key.public_pem)

    def _write(self, name: str, content: bytes) -> None:
        path = self.request.out / name
        write_new(path, content)
        self.report.files.append(path)
