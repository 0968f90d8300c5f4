"""What Orthanc knows beside its DICOM files: metadata, labels and other attachments."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from dcmvault.dicom.orthanc_rest import (
    Connect,
    Connections,
    OrthancRest,
    ResourceGoneError,
)
from dcmvault.errors import EntryUnreadableError
from dcmvault.model.sidecar import SidecarFile, UnreadableSidecar
from dcmvault.sources.fetched_files import FetchedFile, FetchedFiles
from dcmvault.sources.orthanc.rows import series_rows

#: What the sidecar is about, as it is configured.
Scope = Literal["series", "instances"]

#: Bytes of the description of one patient or study, and of an attachment.
_LONGEST_DESCRIPTION = 1 << 30
_LONGEST_ATTACHMENT = 64 << 30
#: Attachments that are the instance itself, or are made of it.
_OF_THE_FILE = frozenset({"dicom", "dicom-as-json", "dicom-until-pixel-data"})
#: The name of an attachment as Orthanc's configuration allows it, or its number.
_ATTACHMENT = re.compile(r"[A-Za-z0-9._ -]{1,128}\Z")
_NO_PATH = frozenset({".", ".."})


@dataclass(slots=True)
class _Described:
    """A description on its way: the file, and the attachments that it names, as their paths."""

    name: str
    file: FetchedFile
    attachments: list[tuple[str, str]] = field(default_factory=list)


def read_sidecar(
    connect: Connect, *, scope: Scope, connections: int
) -> Iterator[SidecarFile | UnreadableSidecar]:
    """Hand out one description for each patient and study, each followed by its attachments."""
    with (
        FetchedFiles(kept=1, longest_file=_LONGEST_ATTACHMENT) as files,
        Connections(connect) as open_ones,
        ThreadPoolExecutor(connections) as workers,
    ):
        rest = open_ones.mine()
        coming = iter(
            [("patients", found) for found in rest.ids("/patients")]
            + [("studies", found) for found in rest.ids("/studies")]
        )
        ahead: deque[tuple[_Described, Future[UnreadableSidecar | None]]] = deque()
        has_labels = _offers_labels(rest)

        def describe(kind: str, found: str, described: _Described) -> UnreadableSidecar | None:
            writer = _Writer(open_ones.mine(), described, scope, has_labels=has_labels)
            return _described(writer, kind, found)

        try:
            while True:
                while len(ahead) < 2 * connections and (one := next(coming, None)):
                    described = _Described(f"{one[0]}/{one[1]}.json", files.new())
                    ahead.append((described, workers.submit(describe, *one, described)))
                if not ahead:
                    return
                described, answer = ahead.popleft()
                problem = answer.result()
                if problem is not None:
                    described.file.drop()
                    if problem.code != ResourceGoneError.code:
                        yield problem
                    continue
                yield _handed_out(described.name, described.file, files)
                for path, name in described.attachments:
                    yield _attachment(rest, path, name, files)
        finally:
            for _described_one, answer in ahead:
                answer.cancel()


def _described(writer: _Writer, kind: str, found: str) -> UnreadableSidecar | None:
    described = writer.described
    try:
        writer.write(kind, found)
        described.file.finish()
    except EntryUnreadableError as error:
        return UnreadableSidecar(described.name, error.code, error.message)
    except OSError as error:
        return UnreadableSidecar(described.name, *_not_kept(error))
    return None


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes one description: one resource a line, in the order of identifiers."""

    rest: OrthancRest
    described: _Described
    scope: Scope
    has_labels: bool

    def write(self, kind: str, found: str) -> None:
        """Write the file; ResourceGoneError where the patient or study is gone meanwhile."""
        write = self.described.file.write
        write(b'{"format": "dcmvault orthanc", "version": 1, "resources": [\n')
        write(self._line(kind, found))
        if kind == "studies":
            series = series_rows(self.rest.json(f"/studies/{found}/series?expand"))
            for series_id in sorted(series):
                self._add("series", series_id)
                if self.scope == "instances":
                    for instance_id in sorted(set(series[series_id].instance_ids)):
                        self._add("instances", instance_id)
        write(b"]}\n")

    def _add(self, kind: str, found: str) -> None:
        try:
            line = self._line(kind, found)
        except ResourceGoneError:  # deleted meanwhile
            return
        if self.described.file.size > _LONGEST_DESCRIPTION:
            raise EntryUnreadableError("Orthanc's metadata are too long.")
        self.described.file.write(b"," + line)

    def _line(self, kind: str, found: str) -> bytes:
        """Describe one resource; what it has not is left out."""
        path = f"/{kind}/{found}"
        told = self.rest.json(f"{path}/metadata?expand")
        metadata = {
            name: value
            for name, value in (told.items() if isinstance(told, dict) else ())
            if isinstance(value, str)
        }
        listed = self.rest.json(f"{path}/attachments")
        names = sorted(
            {name for name in listed if isinstance(name, str) and _is_other(name)}
            if isinstance(listed, list)
            else ()
        )
        row: dict[str, object] = {"level": kind, "id": found, "metadata": metadata}
        if names:
            row["attachments"] = names
        if self.has_labels and (labels := _texts(self.rest.json(f"{path}/labels"))):
            row["labels"] = labels
        self.described.attachments += [
            (f"{path}/attachments/{quote(name)}", f"attachments/{kind}/{found}/{name}")
            for name in names
        ]
        return json.dumps(row, sort_keys=True).encode("ascii") + b"\n"


def _offers_labels(rest: OrthancRest) -> bool:
    """Say whether this Orthanc has labels (since 1.12.0)."""
    try:
        rest.json("/tools/labels")
    except ResourceGoneError:
        return False
    return True


def _attachment(
    rest: OrthancRest, path: str, name: str, files: FetchedFiles
) -> SidecarFile | UnreadableSidecar:
    try:
        size = _size(rest.text(f"{path}/size"))
        if size > shutil.disk_usage(tempfile.gettempdir()).free:
            raise EntryUnreadableError("There is not room enough for the attachment here.")
        file = files.new()
        try:
            rest.patience.apply(lambda: _fetch(rest, path, file, size))
            if file.size != size:
                raise EntryUnreadableError("The attachment is not as long as Orthanc says.")
            file.finish()
        except BaseException:
            file.drop()
            raise
    except EntryUnreadableError as error:
        return UnreadableSidecar(name, error.code, error.message)
    except OSError as error:
        return UnreadableSidecar(name, *_not_kept(error))
    return _handed_out(name, file, files)


def _not_kept(error: OSError) -> tuple[str, str]:
    reason = os.strerror(error.errno or 0)
    return EntryUnreadableError.code, f"The file cannot be kept on this machine: {reason}."


def _fetch(rest: OrthancRest, path: str, file: FetchedFile, size: int) -> None:
    file.empty()
    rest.fetch(f"{path}/data", file.write, longest=size)


def _handed_out(name: str, file: FetchedFile, files: FetchedFiles) -> SidecarFile:
    files.hand_out(file.path)
    return SidecarFile(name, file.path, file.size)


def _is_other(name: str) -> bool:
    return bool(_ATTACHMENT.match(name)) and name not in _OF_THE_FILE | _NO_PATH


def _texts(value: object) -> list[str]:
    found = {one for one in value if isinstance(one, str)} if isinstance(value, list) else set()
    return sorted(found)


def _size(told: str) -> int:
    if not (told.isascii() and told.isdecimal() and len(told) < 16):
        raise EntryUnreadableError("Orthanc does not say how long the attachment is.")
    return min(int(told), _LONGEST_ATTACHMENT)
