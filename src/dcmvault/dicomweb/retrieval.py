"""WADO-RS: instances, their metadata, and values that metadata refer to (PS3.18 section 10.4)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain

from dcmvault.dicom.byte_source import ViewBytes
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.json_model import JsonDataSet, bulk_value, json_of_header
from dcmvault.dicom.received import part10_head
from dcmvault.dicom.transcode import target_for, transcoded
from dcmvault.dicomweb.media_types import MediaRange, accepted, choose
from dcmvault.dicomweb.multipart_reply import Part, multipart
from dcmvault.dicomweb.replies import DICOM_JSON, JSON, Outcome, RefusedError, Reply, Request
from dcmvault.errors import InstanceUnsendableError, MalformedDicomError
from dcmvault.model.query import (
    ArchivedInstance,
    InstanceBytes,
    Selection,
    UnreadableInstance,
)
from dcmvault.ports.archive import Archive

DICOM = "application/dicom"
OCTETS = "application/octet-stream"
_DEFAULT = "1.2.840.10008.1.2.1"
_ANY = "*"


def selected(archive: Archive, request: Request, outcome: Outcome) -> Sequence[ArchivedInstance]:
    """Return the instances that a path names; RefusedError where there are none."""
    uids = dict(zip(request.path[::2], request.path[1::2], strict=False))
    named = [uids.get(name, "") for name in ("studies", "series", "instances")]
    for uid in filter(None, named):
        if not is_usable_uid(uid):
            raise RefusedError(400, "the path names what is no UID")
    study, series, instance = ((uid,) if uid else () for uid in named)
    outcome.service = "WADO-RS"
    outcome.study_instance_uids, outcome.series_instance_uids = study, series
    outcome.sop_instance_uids = instance
    selection = Selection(study, series, instance)
    found = archive.instances(selection)
    if not found:
        raise RefusedError(404, "there is no such study, series or instance")
    outcome.hidden = not archive.is_whole(selection, found)
    return found


def retrieve(archive: Archive, request: Request, outcome: Outcome) -> Reply:
    """Answer instances as multipart/related of application/dicom; one alone if asked for so."""
    ranges = accepted(request)
    dicom = [one for one in ranges if one.covers_part(DICOM)]
    if not dicom:
        raise RefusedError(406, f"instances are given as multipart/related; type={DICOM} only")
    found = selected(archive, request, outcome)
    syntaxes = _syntaxes(dicom)
    parts = _instances(archive, found, syntaxes, outcome)
    first = _first_of(parts, found, outcome)
    if dicom[0].name == DICOM and len(found) == 1:
        return Reply(200, DICOM, _alone(first, parts))
    reply = multipart(DICOM, _chained(first, parts))
    reply.warning = lambda: _left_out(outcome)
    return reply


def _left_out(outcome: Outcome) -> str:
    """Say at the end that not all came: at the beginning nobody knows."""
    left_out = []
    if outcome.failed:
        left_out.append(f'299 dcmvault "instances left out: {outcome.failed}"')
    if outcome.hidden:
        left_out.append('299 dcmvault "damage hides more of this, without a name"')
    return ", ".join(left_out)


def _syntaxes(ranges: Sequence[MediaRange]) -> frozenset[str]:
    """Say what is accepted: transfer syntaxes, none for any.

    A client that names none means Explicit VR Little Endian (PS3.18 section 8.7.3.5.2).
    """
    named = {one.transfer_syntax or _DEFAULT for one in ranges}
    return frozenset() if _ANY in named else frozenset(named)


def _instances(
    archive: Archive,
    found: Sequence[ArchivedInstance],
    syntaxes: frozenset[str],
    outcome: Outcome,
) -> Generator[Part, None, None]:
    """Make ready one instance after the other; what cannot be given is left out, and counted."""
    with closing(archive.read(found)) as reading:
        for read in reading:
            if isinstance(read, UnreadableInstance):
                outcome.failed += 1
                continue
            if not syntaxes or read.instance.transfer_syntax_uid in syntaxes:
                outcome.sent += 1
                yield _part(read.instance.transfer_syntax_uid, [read.data])
                continue
            try:
                yield from _turned(read, syntaxes)
            except InstanceUnsendableError:
                outcome.failed += 1
                outcome.unaccepted += 1
            else:
                outcome.sent += 1


def _turned(read: InstanceBytes, syntaxes: frozenset[str]) -> Iterator[Part]:
    """Give an instance in another transfer syntax, without loss. InstanceUnsendableError."""
    instance = read.instance
    target = target_for(instance.transfer_syntax_uid, syntaxes)
    if not target:
        raise InstanceUnsendableError("the instance cannot be turned into what is accepted")
    with tempfile.TemporaryFile(prefix="dcmvault-") as file:
        file.write(read.data)
        file.flush()
        with transcoded(file.fileno(), target) as result:
            head = part10_head(instance.sop_class_uid, instance.sop_instance_uid, target)
            yield _part(target, chain([head], result.chunks()))


def _part(syntax: str, pieces: Iterator[bytes] | list[memoryview]) -> Part:
    return Part(f"{DICOM}; transfer-syntax={syntax}", pieces)


def _first_of(parts: Iterator[Part], found: Sequence[ArchivedInstance], outcome: Outcome) -> Part:
    """Make the first part, so that what fails wholly fails with a status."""
    first = next(parts, None)
    if first is None:
        if not outcome.unaccepted:
            raise RefusedError(500, "what was asked for is damaged, and cannot be read")
        held = ", ".join(sorted({one.transfer_syntax_uid for one in found}))
        raise RefusedError(
            406, f"it cannot be given in an accepted transfer syntax; it is held in {held}"
        )
    return first


def _chained(first: Part, parts: Generator[Part, None, None]) -> Generator[Part, None, None]:
    with closing(parts):
        yield first
        yield from parts


def _alone(
    first: Part, parts: Generator[Part, None, None]
) -> Generator[bytes | memoryview, None, None]:
    with closing(parts):
        yield from first.pieces


def metadata(archive: Archive, request: Request, outcome: Outcome) -> Reply:
    """Answer the attributes of instances, with addresses for long values and pixel data."""
    media_type = choose(request, (DICOM_JSON, JSON))
    found = selected(archive, request, outcome)
    rows = _headers(archive, found, request.root, outcome)
    first = next(rows, None)
    if first is None:
        raise RefusedError(500, "what was asked for is damaged, and cannot be read")
    return Reply(200, media_type, _listed(chain([first], rows)), warning=lambda: _left_out(outcome))


def _headers(
    archive: Archive, found: Sequence[ArchivedInstance], root: str, outcome: Outcome
) -> Iterator[JsonDataSet]:
    for instance, header in archive.headers(found):
        base = root + instance_path(instance)
        try:
            if header is None:
                raise MalformedDicomError("it cannot be read")
            row = json_of_header(header, f"{base}/bulkdata/")
        except MalformedDicomError:
            outcome.failed += 1
            continue
        row["00081190"] = {"vr": "UR", "Value": [base]}
        # PS3.18 section 10.4.1.1.2: what the instance is held in.
        row["00083002"] = {"vr": "UI", "Value": [instance.transfer_syntax_uid]}
        outcome.answers += 1
        yield row


def _listed(rows: Iterator[JsonDataSet]) -> Iterator[bytes]:
    mark = "["
    for row in rows:
        text = mark + json.dumps(row, ensure_ascii=False, allow_nan=False)
        yield text.encode("utf-8", "replace")
        mark = ","
    yield b"]"


def instance_path(instance: ArchivedInstance) -> str:
    """Return the path of an instance below the root."""
    return (
        f"/studies/{instance.study_instance_uid}/series/{instance.series_instance_uid}"
        f"/instances/{instance.sop_instance_uid}"
    )


def one_file(
    archive: Archive, found: Sequence[ArchivedInstance]
) -> Generator[InstanceBytes, None, None]:
    """Give the one file that a path names, while the generator is open."""
    with closing(archive.read(found[:1])) as reading:
        for read in reading:
            if isinstance(read, UnreadableInstance):
                raise RefusedError(
                    500, f"the instance is damaged, and cannot be read ({read.code})"
                )
            yield read


def bulk_data(archive: Archive, request: Request, outcome: Outcome) -> Reply:
    """Answer one value that metadata referred to."""
    at = request.path.index("bulkdata")
    path = "/".join(request.path[at + 1 :])
    found = selected(archive, request, outcome)
    ranges = accepted(request)
    for read in one_file(archive, found):
        value = bulk_value(ViewBytes(read.data), path)
        if value is None:
            break
        outcome.sent += 1
        if ranges[0].name != "multipart/related" and any(one.covers(OCTETS) for one in ranges):
            return Reply(200, OCTETS, [value], {"Content-Length": str(len(value))})
        if any(one.covers_part(OCTETS) for one in ranges):
            return multipart(OCTETS, iter([Part(OCTETS, [value])]))
        raise RefusedError(406, f"values are given as {OCTETS} only")
    raise RefusedError(404, "the instance has no such value")
