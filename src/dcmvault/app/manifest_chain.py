"""The chain of runs: after each backup run one signed link lists what its destinations hold.

A link names the one before by its SHA-256. So nobody can change, remove or insert a link without
the key, but the newest ones: that they are gone is seen only by whoever knew them. The catalogue
remembers the newest, and an export names the newest of its time.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from dcmvault import __version__
from dcmvault.app.manifest_format import VERSION, document_bytes, read_document
from dcmvault.app.manifest_signing import (
    MANIFEST_FOLDER,
    PUBLIC_KEY,
    SIGNATURE,
    SigningKey,
    is_signed,
    signing_key,
    write_new,
)
from dcmvault.durability import make_folder_durable
from dcmvault.errors import ManifestDamagedError, StateError
from dcmvault.i18n import gettext as _
from dcmvault.model.identifiers import RunId
from dcmvault.pipeline.study_manifests import by_study, study_manifest
from dcmvault.ports.manifests import ManifestCatalogue, NewestLink

LINK_FORMAT = "dcmvault-manifest-link"
_CHAIN = "chain"
_LINK_NAME = re.compile(r"[0-9]{8}-[0-9A-Za-z-]+\.json\Z")
_DIGITS = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Link:
    """One link as it stands in its file."""

    sequence: int
    sha256: str  #: of the file
    previous: str  #: SHA-256 of the link before; empty for the first
    run_id: str
    made_at: str
    studies: int


@dataclass(frozen=True, slots=True)
class Chain:
    """All links, oldest first, and what is wrong with them (sentences; none: nothing)."""

    links: tuple[Link, ...]
    faults: tuple[str, ...]
    #: The newest link as the catalogue remembers it; None where nobody was asked, or knows one.
    newest: NewestLink | None = None


def seal_run(
    home: Path, catalogue: ManifestCatalogue, run_id: RunId, clock: Callable[[], datetime]
) -> None:
    """Add the link of a backup run that ended; one that is there already is left.

    That it cannot be written does not make the run fail: the copies are held.
    """
    try:
        _seal(home, catalogue, run_id, clock)
    except (StateError, ManifestDamagedError, OSError) as error:
        code = getattr(error, "code", type(error).__name__)
        _log.warning("the run %s has no link in the chain of manifests: %s", run_id, code)


def _seal(
    home: Path, catalogue: ManifestCatalogue, run_id: RunId, clock: Callable[[], datetime]
) -> None:
    folder = home / MANIFEST_FOLDER / _CHAIN
    # One by one: parents that are made along the way would be open to others.
    folder.parent.mkdir(0o700, exist_ok=True)
    folder.mkdir(0o700, exist_ok=True)
    with _alone(folder):
        known = _links(folder)
        key = signing_key(home)
        newest = _newest(known)
        if any(path.stem.endswith(f"-{run_id}") for path in known):
            if newest is not None:  # a crash may have come before it was remembered
                catalogue.remember_link(key.fingerprint, newest)
            return
        listed = _what_is_held(catalogue, run_id)
        if not listed:
            return
        remembered = catalogue.newest_link(key.fingerprint)
        if remembered is not None and (newest is None or remembered.sequence > newest.sequence):
            # What was cut off leaves a gap, and stays known.
            newest = remembered
        number = 0 if newest is None else newest.sequence
        content = document_bytes(
            {
                "format": LINK_FORMAT,
                "version": VERSION,
                "sequence": number + 1,
                "previous": "" if newest is None else newest.sha256,
                "run": run_id,
                "made_at": clock().isoformat(timespec="milliseconds"),
                "made_by": f"dcmvault {__version__}",
                "key": key.fingerprint,
                "manifests": listed,
            }
        )
        path = folder / f"{number + 1:08}-{run_id}.json"
        # The link comes last: what a crash left before it is replaced.
        _replace(_signature_of(path), key.sign(content))
        _replace(path, content)
        catalogue.remember_link(key.fingerprint, NewestLink(number + 1, _sha256(content)))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from adding a link at the same time."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        make_folder_durable(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    write_new(fresh, content)
    fresh.replace(path)


def _links(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if _LINK_NAME.match(path.name))


def _number(path: Path) -> int:
    return int(path.name[:_DIGITS])


def _newest(paths: Sequence[Path]) -> NewestLink | None:
    if not paths:
        return None
    return NewestLink(_number(paths[-1]), _sha256(paths[-1].read_bytes()))


def _what_is_held(catalogue: ManifestCatalogue, run_id: RunId) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for destination, instances in catalogue.held_after(run_id):
        for uid, members in sorted(by_study(instances).items()):
            manifest = study_manifest(uid, members)
            rows.append(
                {
                    "destination": destination,
                    "study_instance_uid": uid,
                    "instances": manifest.instances,
                    "bytes": manifest.bytes,
                    "merkle_root": manifest.merkle_root.hex(),
                }
            )
    return rows


def read_chain(
    home: Path, remembered: Callable[[str], NewestLink | None] = lambda _chain: None
) -> Chain:
    """Read the chain of a state folder, and check signatures, numbers and names.

    `remembered` is asked for the newest link, by the fingerprint of the key that signs the chain.
    Raises StateError when it cannot be read.
    """
    folder = home / MANIFEST_FOLDER / _CHAIN
    try:
        paths = _links(folder)
        key = signing_key(home)
        newest = remembered(key.fingerprint)
        checked = _checked(paths, key.public_pem)
        return replace(checked, faults=(*checked.faults, *_cut_off(paths, newest)), newest=newest)
    except OSError as error:
        raise StateError(
            _("The chain of manifests cannot be read."), hint=f"{folder}: {error.strerror}"
        ) from None


def _cut_off(paths: Sequence[Path], newest: NewestLink | None) -> Iterator[str]:
    """Say what is wrong with the end of a chain whose newest link somebody knows."""
    if newest is None:
        return
    last = _number(paths[-1]) if paths else 0
    if last < newest.sequence:
        yield f"{newest.sequence - last} links after link {last} are missing"
    for path in paths:
        if _number(path) == newest.sequence and _sha256(path.read_bytes()) != newest.sha256:
            yield f"link {newest.sequence} is another one than was made"


def _signature_of(path: Path) -> Path:
    return path.with_name(path.name + SIGNATURE)


def _signature(path: Path) -> bytes:
    try:
        return _signature_of(path).read_bytes()
    except FileNotFoundError:
        return b""


def _checked(paths: Sequence[Path], public: bytes) -> Chain:
    links: list[Link] = []
    faults: list[str] = []
    before: tuple[int, str] = (0, "")
    for path in paths:
        number, content = _number(path), path.read_bytes()
        sha256 = _sha256(content)
        if not is_signed(content, _signature(path), public):
            faults.append(f"the signature of link {number} is wrong or missing")
        if number != before[0] + 1:
            missing = number - before[0] - 1
            faults.append(f"{missing} links before link {number} are missing")
        try:
            document = read_document(content, LINK_FORMAT)
            link = Link(
                int(document["sequence"]),
                sha256,
                str(document["previous"]),
                str(document["run"]),
                str(document["made_at"]),
                len(document["manifests"]),
            )
        except (ManifestDamagedError, KeyError, TypeError, ValueError):
            faults.append(f"link {number} cannot be read")
        else:
            if (link.sequence, link.previous) != (number, before[1]) and number == before[0] + 1:
                faults.append(f"link {number} does not follow the one before it")
            links.append(link)
        before = (number, sha256)
    return Chain(tuple(links), tuple(faults))


def export_chain(home: Path, folder: Path) -> Sequence[Path]:
    """Copy all links with their signatures, and the public key, into a folder; return the files.

    Raises OSError as it comes, FileExistsError for what is there already.
    """
    chain = home / MANIFEST_FOLDER / _CHAIN
    written = []
    key: SigningKey = signing_key(home)
    # Not what a crash left half written.
    for path in (one for link in _links(chain) for one in (link, _signature_of(link))):
        if not path.exists():
            continue
        target = folder / path.name
        write_new(target, path.read_bytes())
        written.append(target)
    write_new(folder / PUBLIC_KEY, key.public_pem)
    return [*written, folder / PUBLIC_KEY]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
