"""Validates a manifest against a place: each instance is looked for there, and read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dcmvault.app.manifest_export import CHECKSUMS, INDEX, INDEX_FORMAT
from dcmvault.app.manifest_format import decode_study, read_document
from dcmvault.app.manifest_signing import (
    PUBLIC_KEY,
    SIGNATURE,
    fingerprint_of,
    is_signed,
    signing_key,
)
from dcmvault.app.wiring.reading import open_place
from dcmvault.config.settings import Settings
from dcmvault.errors import ManifestDamagedError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.manifest import (
    Depth,
    InstanceMatch,
    ListedInstance,
    ManifestProblem,
    Match,
    StudyManifest,
)
from dcmvault.pipeline.manifest_comparison import compare_with_manifest
from dcmvault.pipeline.manifest_reading import ManifestReading
from dcmvault.pipeline.selection import remarks_of
from dcmvault.pipeline.study_manifests import by_study

#: No manifest is larger (bytes).
_LARGEST = 2 << 30


@dataclass(frozen=True, slots=True)
class Signed:
    """By which key a manifest is signed: empty for none; `ours` is that of this state folder."""

    key: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True)
class LoadedManifest:
    """A manifest as it was written, its signature, digests and roots checked."""

    studies: tuple[StudyManifest, ...]
    signed: Signed

    @property
    def depth(self) -> Depth:
        """What must be computed of a copy to compare it."""
        listed = [one for study in self.studies for part in study.series for one in part.instances]
        if any(one.pixels for one in listed):
            return Depth.PIXELS
        return Depth.DATA_SET if any(one.data_set for one in listed) else Depth.FILE


@dataclass(slots=True)
class ValidationReport:
    """What a validation found."""

    place: str
    signed: Signed
    studies: int = 0
    matches: list[InstanceMatch] = field(default_factory=list)
    #: Files of the place that could not be read, whatever they hold.
    problems: list[ManifestProblem] = field(default_factory=list)
    #: Sentences about the place: what its listing may lack.
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> Mapping[Match, int]:
        """Count instances by what became of them."""
        counted = Counter(one.match for one in self.matches)
        return {match: counted[match] for match in Match}

    @property
    def exit_status(self) -> int:
        """0 if the place has every instance of the manifest as it should be, else 3."""
        return 0 if all(one.match.is_as_it_should_be for one in self.matches) else 3


def load_manifest(path: Path, home: Path) -> LoadedManifest:
    """Read what `manifest export` wrote: its folder, the list in it, or one study's document.

    Raises ManifestDamagedError where signature, digest or root is wrong, UsageError for what is
    no manifest of this kind.
    """
    if path.is_dir():
        if not (path / INDEX).exists() and (path / CHECKSUMS).exists():
            raise _checksums(path)
        path = path / INDEX
    if path.name == CHECKSUMS:
        raise _checksums(path.parent)
    content = _content(path)
    if path.name != INDEX:
        return LoadedManifest((decode_study(content),), Signed())
    signed = _signature(path, content, home)
    return LoadedManifest(tuple(_listed(path.parent, content)), signed)


def _listed(folder: Path, content: bytes) -> Iterator[StudyManifest]:
    document = read_document(content, INDEX_FORMAT)
    try:
        rows = [(str(row["file"]), str(row["sha256"])) for row in document["studies"]]
    except (KeyError, TypeError) as error:
        raise ManifestDamagedError("the list of manifests cannot be read") from error
    for name, sha256 in rows:
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ManifestDamagedError("the list of manifests names a file elsewhere")
        study = _content(folder / name)
        if hashlib.sha256(study).hexdigest() != sha256:
            raise ManifestDamagedError(
                f"the manifest {name} is not the one that was signed",
                hint="It was changed or damaged since: take another copy of it.",
            )
        yield decode_study(study)


def _signature(path: Path, content: bytes, home: Path) -> Signed:
    signature, public = path.with_name(path.name + SIGNATURE), path.with_name(PUBLIC_KEY)
    if not (signature.exists() and public.exists()):
        return Signed()
    pem = _content(public)
    if not is_signed(content, _content(signature), pem):
        raise ManifestDamagedError(
            "the signature of the manifest is wrong",
            hint="It was changed or damaged since it was signed: take another copy of it.",
        )
    fingerprint = fingerprint_of(pem)
    return Signed(fingerprint, ours=fingerprint == signing_key(home).fingerprint)


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST:
            raise ManifestDamagedError("the manifest is larger than any that dcmvault writes")
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(_("There is no manifest %s.") % path) from None
    except OSError as error:
        raise UsageError(
            _("The manifest cannot be read."), hint=f"{path}: {error.strerror}"
        ) from None


def _checksums(folder: Path) -> UsageError:
    return UsageError(
        _("This manifest is for sha256sum."),
        hint=_("In the folder to be checked: sha256sum -c %s") % (folder / CHECKSUMS),
    )


def validate_manifest(
    settings: Settings,
    home: Path,
    manifest: Path,
    against: str,
    told: Callable[[int], None],
) -> ValidationReport:
    """Read the manifest's studies at a place, and compare each instance.

    Raises what `load_manifest` does, and SourceUnavailableError where the place cannot be read.
    """
    loaded = load_manifest(manifest, home)
    place = open_place(settings, against)
    report = ValidationReport(place.source.name, loaded.signed, len(loaded.studies))
    wanted = {study.study_instance_uid: study for study in loaded.studies}
    reading = ManifestReading(
        place.source,
        loaded.depth,
        tuple(wanted),
        by_uid=place.by_uid,
        # What a vault wrote down when it stored a file says nothing of the file as it is now.
        by_records=False,
        told=told,
    )
    found: dict[str, list[ListedInstance]] = {}
    if wanted:
        found = by_study(one.listed for one in reading.instances())
    unread: dict[str, list[ManifestProblem]] = {}
    for problem in reading.problems:
        if problem.identity is not None:
            unread.setdefault(problem.identity.study_instance_uid, []).append(problem)
    for uid, study in sorted(wanted.items()):
        expected = [one for part in study.series for one in part.instances]
        report.matches += compare_with_manifest(expected, found.get(uid, ()), unread.get(uid, ()))
    report.problems = reading.problems
    report.warnings = remarks_of(place.source).warnings
    return report
