"""WADO-RS: frames as they are stored or as samples, and as people see them (PS3.18 10.4.1)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

from dcmvault.dicom.byte_source import ViewBytes
from dcmvault.dicom.instance_frames import InstanceFrames, frames_of
from dcmvault.dicom.json_model import opened_data_set
from dcmvault.dicom.rendering import Look, encoded, render
from dcmvault.dicom.transfer_syntaxes import FAMILIES, Family
from dcmvault.dicomweb.media_types import MediaRange, accepted, choose
from dcmvault.dicomweb.multipart_reply import Part, multipart
from dcmvault.dicomweb.replies import Outcome, RefusedError, Reply, Request
from dcmvault.dicomweb.retrieval import OCTETS, one_file, selected
from dcmvault.errors import MalformedDicomError
from dcmvault.model.query import ArchivedInstance
from dcmvault.ports.archive import Archive

_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
#: PS3.18 table 8.7.3-5: media types of compressed frames.
_MEDIA_TYPES = {
    Family.JPEG: "image/jpeg",
    Family.JPEG_LS: "image/jls",
    Family.JPEG_2000: "image/jp2",
    Family.RLE: "image/dicom-rle",
}
_HIGH_THROUGHPUT = "1.2.840.10008.1.2.4.20"
_MOST_FRAMES = 10_000
_THUMBNAIL = (128, 128)
_LARGEST_VIEWPORT = 16_384
_FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}


def frames(archive: Archive, request: Request, outcome: Outcome) -> Reply:
    """Answer the frames that a path lists, or all of the pixel data."""
    ranges = accepted(request)
    found = selected(archive, request, outcome)
    wanted = _numbers(request.path)
    parts = _frames(archive, found, wanted, ranges, outcome)
    first = next(parts, None)
    if first is None:
        raise RefusedError(404, "the instance has no frames")
    media_type = first.media_type.partition(";")[0]
    if ranges[0].name == media_type and len(wanted) == 1:
        return Reply(200, first.media_type, _pieces(first, parts))
    return multipart(media_type, chain([first], parts))


def _pieces(
    first: Part, parts: Generator[Part, None, None]
) -> Generator[bytes | memoryview, None, None]:
    yield from first.pieces
    parts.close()


def _numbers(path: tuple[str, ...]) -> Sequence[int]:
    """Read a list of frames; empty for all of them."""
    if "frames" not in path:
        return ()
    texts = path[path.index("frames") + 1].split(",")
    if len(texts) > _MOST_FRAMES:
        raise RefusedError(400, "the path names more frames than anybody needs")
    if not all(text.isascii() and text.isdecimal() and 0 < len(text) < 11 for text in texts):
        raise RefusedError(400, "frames are named by numbers from 1 on, divided by commas")
    return [int(text) for text in texts]


@contextmanager
def _opened(
    archive: Archive, found: Sequence[ArchivedInstance]
) -> Iterator[tuple[ViewBytes, InstanceFrames]]:
    """Give a file and its frames; RefusedError where it has none that can be told apart."""
    reading = one_file(archive, found)
    try:
        read = next(reading)
        source = ViewBytes(read.data)
        with opened_data_set(source) as opened:
            yield source, frames_of(opened, read.instance.transfer_syntax_uid)
    except MalformedDicomError as error:
        raise RefusedError(406, f"the pixels of the instance cannot be given: {error}") from error
    finally:
        reading.close()


def _frames(
    archive: Archive,
    found: Sequence[ArchivedInstance],
    wanted: Sequence[int],
    ranges: Sequence[MediaRange],
    outcome: Outcome,
) -> Generator[Part, None, None]:
    with _opened(archive, found) as (_source, held):
        numbers = wanted or range(1, held.shape.frames + 1)
        if not 1 <= min(numbers) <= max(numbers) <= held.shape.frames:
            raise RefusedError(404, f"the instance has {held.shape.frames} frames")
        as_stored = _as_stored(held, ranges)
        media_type, syntax = OCTETS, _EXPLICIT_VR_LITTLE_ENDIAN
        if as_stored and held.is_compressed:
            media_type, syntax = _stored_type(held), held.transfer_syntax_uid
        for number in numbers:
            frame = held.stored(number) if as_stored else held.samples(number)
            outcome.sent += 1
            yield Part(f"{media_type}; transfer-syntax={syntax}", [frame])


def _stored_type(held: InstanceFrames) -> str:
    family = FAMILIES.get(held.transfer_syntax_uid)
    if family is None:
        return OCTETS
    if held.transfer_syntax_uid.startswith(_HIGH_THROUGHPUT):
        return "image/jphc"
    return _MEDIA_TYPES[family]


def _as_stored(held: InstanceFrames, ranges: Sequence[MediaRange]) -> bool:
    """Say whether frames are given as stored; RefusedError where neither way is accepted."""
    stored = _stored_type(held)
    syntax = held.transfer_syntax_uid
    for one in ranges:
        asked = one.transfer_syntax
        is_named = stored != OCTETS and stored in (one.name, one.inner)
        covers = is_named or one.covers_part(OCTETS) or one.covers_part(stored)
        # Samples are the default (PS3.18 section 8.7.3.3.2).
        if held.is_compressed and covers and asked in ("*", syntax, *([""] if is_named else [])):
            return True
        if one.covers_part(OCTETS) and asked in ("", "*", _EXPLICIT_VR_LITTLE_ENDIAN):
            return False
    raise RefusedError(406, f"frames are given as {OCTETS} or {stored}")


def rendered(archive: Archive, request: Request, outcome: Outcome) -> Reply:
    """Answer a frame as an image, of a study or series the middle instance's first."""
    media_type = choose(request, ("image/jpeg", "image/png"))
    look = _look(request)
    found = selected(archive, request, outcome)
    if request.path[-1] == "thumbnail" and look.viewport is None:
        look = replace(look, viewport=_THUMBNAIL)
    wanted = _numbers(request.path) or (1,)
    if len(wanted) > 1:
        raise RefusedError(406, "one frame is rendered at a time")
    with _opened(archive, found[len(found) // 2 :]) as (source, held):
        if not 1 <= wanted[0] <= held.shape.frames:
            raise RefusedError(404, f"the instance has {held.shape.frames} frames")
        image = encoded(render(source, held, wanted[0], look), media_type, look.quality)
    outcome.sent += 1
    return Reply(200, media_type, [image], {"Content-Length": str(len(image))})


def _look(request: Request) -> Look:
    """Read the parameters of rendering (PS3.18 section 8.3.5.1)."""
    look = Look()
    for value in request.values("window"):
        texts = value.split(",")
        function = _FUNCTIONS.get(texts[2].lower()) if len(texts) == 3 else "LINEAR"
        centre, width = _floats(texts[:2]) or (0.0, 0.0)
        if function is None or len(texts) < 2 or width <= 0:
            raise RefusedError(400, "“window” is centre,width,function")
        look = replace(look, window=(centre, width, function))
    for value in request.values("viewport"):
        texts = value.split(",")
        columns, rows = _floats(texts[:2]) or (0.0, 0.0)
        if (
            len(texts) != 2
            or not 1 <= min(columns, rows) <= max(columns, rows) <= _LARGEST_VIEWPORT
        ):
            raise RefusedError(400, "“viewport” is columns,rows")
        look = replace(look, viewport=(int(columns), int(rows)))
    for value in request.values("quality"):
        if not (value.isascii() and value.isdecimal()) or not 1 <= int(value[:4]) <= 100:
            raise RefusedError(400, "“quality” is a number from 1 to 100")
        look = replace(look, quality=int(value))
    return look


def _floats(texts: Sequence[str]) -> tuple[float, float] | None:
    try:
        first, second = map(float, texts)
    except ValueError:
        return None
    return (first, second) if abs(first) < 1e9 and abs(second) < 1e9 else None
