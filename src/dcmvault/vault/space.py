"""What takes up a vault's space: by how values are coded, and by study.

Told from records and indexes alone; no pack is opened. How a value is coded follows from what it
was: an encoding that would not be smaller is stored as bytes in its place, and counted here alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from dcmvault.dicom.transfer_syntaxes import NATIVE
from dcmvault.errors import DestinationError
from dcmvault.vault.blob import BlobType
from dcmvault.vault.phases import Phase, Told
from dcmvault.vault.records import BlobsValue, InstanceRecord, StreamValue
from dcmvault.vault.repository import Vault
from dcmvault.vault.state import VaultState

#: JPEG baseline and extended (PS3.5 A.4.1), which are recoded as they are.
_JPEG = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
#: So many parts are told apart: 100 bytes of memory for each.
_MOST_PARTS = 2_000_000
_TOLD_EACH = 100


class Coding(StrEnum):
    """How values are coded; the words are stable."""

    #: Native pixels: JPEG XL, frame by frame.
    IMAGES = "jpeg-xl"
    #: JPEG streams: JPEG XL, from which the same stream comes back.
    JPEG = "jpeg-as-jpeg-xl"
    #: Compressed pixels that are decoded and made anew: JPEG XL.
    JPEG_LS = "jpeg-ls-as-jpeg-xl"
    LOSSLESS_JPEG = "lossless-jpeg-as-jpeg-xl"
    RLE = "rle-as-jpeg-xl"
    #: Compressed pixels of other kinds: as they are.
    STREAMS = "compressed-as-it-is"
    #: Other large values: Zstandard.
    VALUES = "zstandard"
    #: Headers: Zstandard, many together.
    HEADERS = "headers-zstandard"


_RECODED = {"jls": Coding.JPEG_LS, "ljpeg": Coding.LOSSLESS_JPEG, "rle": Coding.RLE}


class CodingFigures(NamedTuple):
    """Parts that are coded alike, each counted once however many files share it."""

    coding: Coding
    parts: int
    content_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Space:
    """What takes up the space of what a vault holds now."""

    codings: tuple[CodingFigures, ...]
    #: Stored bytes by Study Instance UID; what studies share counts for the first of them.
    by_study: Mapping[str, int]
    #: Whether all of it was looked at; a very large vault is not, nor one that is damaged.
    is_whole: bool


def space_of(vault: Vault, state: VaultState, told: Told) -> Space:
    """Add up what the files of a state need."""
    seen: set[bytes] = set()
    parts: Counter[Coding] = Counter()
    contents: Counter[Coding] = Counter()
    stored: Counter[Coding] = Counter()
    by_study: dict[str, int] = {}
    is_whole = True
    for number, uid in enumerate(state.studies()):
        if len(seen) >= _MOST_PARTS:
            is_whole = False
            break
        if number % _TOLD_EACH == 0:
            told(Phase.LOOKING, 0, 0)
        try:
            records = state.records(uid)
        except DestinationError:
            is_whole = False
            continue
        taken = 0
        for coding, kind, blob in _parts_of(records):
            if blob in seen:
                continue
            seen.add(blob)
            places = vault.index.places(kind, blob)
            if not places:
                continue
            parts[coding] += 1
            contents[coding] += places[0].content_length
            stored[coding] += places[0].length
            taken += places[0].length
        by_study[uid] = taken
    codings = [
        CodingFigures(one, parts[one], contents[one], stored[one]) for one in Coding if parts[one]
    ]
    codings.sort(key=lambda one: -one.stored_bytes)
    return Space(tuple(codings), by_study, is_whole)


def _parts_of(records: list[InstanceRecord]) -> Iterator[tuple[Coding, BlobType, bytes]]:
    for record in records:
        if record.skeleton.block:
            yield Coding.HEADERS, BlobType.HEADERS, record.skeleton.block
        for value in record.values:
            if isinstance(value, StreamValue):
                yield _RECODED[value.kind], BlobType.FRAME, value.blob
            elif isinstance(value, BlobsValue):
                kind = BlobType(value.kind.upper())
                coding = _coding_of(kind, record)
                for blob in value.blobs:
                    yield coding, kind, blob


def _coding_of(kind: BlobType, record: InstanceRecord) -> Coding:
    if kind is BlobType.FRAME:
        return Coding.IMAGES
    if record.transfer_syntax_uid in _JPEG:
        return Coding.JPEG
    if record.opaque_reason or record.transfer_syntax_uid in NATIVE:
        return Coding.VALUES
    return Coding.STREAMS
