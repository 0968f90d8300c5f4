"""Two files under one UID: whether they hold the same instance, and where they differ.

Equal `dsd1` digests are equal data sets. Where a copy travelled in another form of pixel data,
its elements are compared without what that form dictates, and its pixels as they are decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dcmvault.dicom.byte_source import ByteSource, FileBytes, InflatedBytes
from dcmvault.dicom.charset import decode_text
from dcmvault.dicom.digest import MAX_INFLATED, element_digests
from dcmvault.dicom.elements import ElementWalker
from dcmvault.dicom.encoding import PIXEL_DATA, Encoding
from dcmvault.dicom.file_meta import FileMeta, read_file_meta
from dcmvault.dicom.nesting import FRAGMENTS, SEQUENCE, SEQUENCE_END, VALUE
from dcmvault.dicom.pixel_shape import PHOTOMETRIC_INTERPRETATION
from dcmvault.dicom.pixels import pixels_digest
from dcmvault.dicom.reencoding import DICTATED_TAGS, ENCAPSULATION_TAGS
from dcmvault.dicom.transfer_syntaxes import FAMILIES, MAYBE_LOSSY, NATIVE
from dcmvault.dicom.vr_table import ValueKind, value_kind
from dcmvault.errors import MalformedDicomError

_TRANSFER_SYNTAX = 0x00020010
_CHARACTER_SET = 0x00080005
#: What coders of lossless compression tell of themselves: Derivation Description and Code Sequence.
_WRITTEN_BY_CODERS = frozenset({0x00082111, 0x00089215})
#: Kinds of colour whose decoded samples mean the same as those of another (PS3.3 C.7.6.3.1.2).
_DECODED_AS = {"YBR_RCT": "RGB", "YBR_ICT": "RGB", "YBR_FULL_422": "YBR_FULL"}
#: Bytes of a value that is given as text.
_LONGEST_TEXT = 1024
_NATIVE_FORM = "native"
#: Differences that are named; more of them say nothing more.
_NAMED = 8


class Likeness(Enum):
    """How alike two files are."""

    #: The same data set, whatever encoding it travelled in.
    EQUAL = "equal"
    #: Equal elements and decoded pixels, in another form of pixel data.
    TRANSCODED = "transcoded"
    #: Equal but for attributes that the peer is expected to write itself.
    COERCED = "coerced"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True, order=True)
class Coercion:
    """An attribute as (gggg,eeee) that a peer wrote, with its values: patient data.

    None is no attribute; what is no short text is given as the SHA-256 of what `dsd1` counts.
    """

    attribute: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found; `differences` is empty unless DIFFERENT, `coercions` unless COERCED.

    Differences are attributes as (gggg,eeee), "pixel data", or a sentence: never values.
    """

    likeness: Likeness
    differences: tuple[str, ...] = ()
    coercions: tuple[Coercion, ...] = ()


def compare(original: Path, copy: int, coerced: Collection[int] = ()) -> Comparison:
    """Compare a file with an open one (a descriptor) that is said to hold the same instance.

    `coerced` are tags of top-level attributes that the peer may have written itself.
    Raises MalformedDicomError when the original does not parse to its end or its pixels would
    have to be decoded and cannot be, OSError when it cannot be read. Memory is bounded by the
    largest frame and the number of elements.
    """
    with FileBytes(original) as file, _data_set(file) as first:
        here = element_digests(*first.place)
        with ExitStack() as stack:
            try:
                second = stack.enter_context(_data_set(stack.enter_context(FileBytes(copy))))
                there = element_digests(*second.place)
            except MalformedDicomError:
                return Comparison(Likeness.DIFFERENT, ("it does not parse as DICOM",))
            differing = {
                tag for tag in here.keys() | there.keys() if here.get(tag) != there.get(tag)
            }
            if PIXEL_DATA not in differing and second.is_mislabelled(first, here.get(PIXEL_DATA)):
                differing.add(_TRANSFER_SYNTAX)
            if not differing:
                return Comparison(Likeness.EQUAL)
            expected = frozenset(coerced) - {_TRANSFER_SYNTAX}
            if PIXEL_DATA in differing and first.is_of_other_form(second):
                expected |= _WRITTEN_BY_CODERS
                differing -= {PIXEL_DATA, *ENCAPSULATION_TAGS, *DICTATED_TAGS}
                if first.colours() != second.colours():
                    differing.add(PHOTOMETRIC_INTERPRETATION)
                if first.pixels() != second.pixels_if_sound():
                    differing.add(PIXEL_DATA)
            if not differing:
                return Comparison(Likeness.TRANSCODED)
            if not differing <= expected:
                words = _words(differing - expected, lossy=second.is_lossy_form_of(first))
                return Comparison(Likeness.DIFFERENT, tuple(words))
            old, new = first.texts(differing), second.texts(differing)
            return Comparison(
                Likeness.COERCED,
                coercions=tuple(
                    Coercion(
                        _name(tag),
                        old.get(tag, _digest_of(here.get(tag))),
                        new.get(tag, _digest_of(there.get(tag))),
                    )
                    for tag in sorted(differing)
                ),
            )


@dataclass(frozen=True, slots=True)
class _DataSet:
    meta: FileMeta
    source: ByteSource
    position: int

    @property
    def place(self) -> tuple[ByteSource, int, Encoding]:
        return self.source, self.position, self.meta.encoding

    def is_of_other_form(self, other: _DataSet) -> bool:
        """Say whether the two hold their pixels in different forms."""
        syntaxes = {self.meta.transfer_syntax_uid, other.meta.transfer_syntax_uid}
        return len(syntaxes) == 2 and not syntaxes <= NATIVE

    def is_mislabelled(self, other: _DataSet, pixel_data: bytes | None) -> bool:
        """Say whether it gives the same pixel data (as `dsd1` counts them) out for another form.

        No digest of a data set has its transfer syntax, without which nobody can read them.
        """
        if pixel_data is None or _form(self.meta) == _form(other.meta):
            return False
        return pixel_data[:1] == b"E" or _form(self.meta) != _NATIVE_FORM

    def colours(self) -> str:
        """Return what its decoded samples mean, by its Photometric Interpretation."""
        told = self.texts({PHOTOMETRIC_INTERPRETATION}).get(PHOTOMETRIC_INTERPRETATION, "")
        return _DECODED_AS.get(told, told)

    def is_lossy_form_of(self, other: _DataSet) -> bool:
        """Say whether it was compressed in a way that loses something, and the other was not."""
        syntaxes = (self.meta.transfer_syntax_uid, other.meta.transfer_syntax_uid)
        return syntaxes[0] in MAYBE_LOSSY and syntaxes[1] not in MAYBE_LOSSY

    def texts(self, tags: Collection[int]) -> dict[int, str]:
        """Return the values of top-level attributes, of those that are short text."""
        raw: dict[int, bytes] = {}
        depth = 0
        for kind, tag, _vr, start, end in ElementWalker(*self.place):
            depth += (kind in (SEQUENCE, FRAGMENTS)) - (kind == SEQUENCE_END)
            wanted = tag in tags or tag == _CHARACTER_SET
            if kind == VALUE and not depth and wanted and end - start <= _LONGEST_TEXT:
                raw[tag] = self.source.read(start, end - start)
        character_set = raw.get(_CHARACTER_SET, b"")
        return {
            tag: decode_text(value, character_set)
            for tag, value in raw.items()
            if tag in tags and value_kind(tag) == ValueKind.TEXT
        }

    def pixels(self) -> str:
        return pixels_digest(*self.place, FAMILIES.get(self.meta.transfer_syntax_uid))

    def pixels_if_sound(self) -> str:
        """Return their digest; empty when they cannot be decoded."""
        try:
            return self.pixels()
        except MalformedDicomError:
            return ""


def form_of(path: Path | int) -> str:
    """Return in what form a file (a descriptor stays open) says that its pixel data are."""
    with FileBytes(path) as file:
        return _form(read_file_meta(file))


def _form(meta: FileMeta) -> str:
    """Return the form of pixel data that a file's transfer syntax tells of."""
    syntax = meta.transfer_syntax_uid
    family = FAMILIES.get(syntax)
    if family is not None:
        return family.value
    return _NATIVE_FORM if not syntax or syntax in NATIVE else syntax


@contextmanager
def _data_set(file: FileBytes) -> Iterator[_DataSet]:
    meta = read_file_meta(file)
    if not meta.deflated:
        yield _DataSet(meta, file, meta.data_set_start)
        return
    inflated = InflatedBytes(file, meta.data_set_start, MAX_INFLATED)
    try:
        yield _DataSet(meta, inflated, 0)
    finally:
        inflated.close()


def _words(tags: set[int], *, lossy: bool) -> Iterator[str]:
    if PIXEL_DATA in tags:
        yield "pixel data, which were compressed with loss" if lossy else "pixel data"
    others = sorted(tags - {PIXEL_DATA})
    for tag in others[:_NAMED]:
        yield _name(tag)
    if len(others) > _NAMED:
        yield f"and {len(others) - _NAMED} more attributes"


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _digest_of(counted: bytes | None) -> str | None:
    return None if counted is None else f"sha256:{hashlib.sha256(counted).hexdigest()}"
