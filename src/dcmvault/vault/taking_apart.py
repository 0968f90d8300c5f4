"""A file as skeleton and blobs: one pass over its bytes in file order (format page, 8)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.vault.blob import BlobType
from dcmvault.vault.codec import encode_bytes, encode_jpeg, encode_samples
from dcmvault.vault.cutting import Piece, pieces
from dcmvault.vault.freed_memory import give_back
from dcmvault.vault.profile import Profile
from dcmvault.vault.recoding import recode
from dcmvault.vault.records import BlobsValue, MoreValue, StreamValue, Value
from dcmvault.vault.shape import Cut, CutFile, CutKind, PixelAttributes, Recoded

#: JPEG baseline and extended (PS3.5 A.4.1): libjxl can make these streams anew, bit for bit.
_JPEG = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
#: Streams of one file that are recoded at once, and how many bytes of samples they may have.
_STREAMS_AT_ONCE = 4
_SAMPLES_AT_ONCE_BYTES = 8 << 20
#: A longer stream is stored in pieces as it is: recoding holds all of it in memory, several times.
_LONGEST_STREAM = 32 << 20


#: An encoder takes up to fifteen times the memory of what it encodes: larger pieces one by one.
LARGE_BYTES = 4 << 20
_ALONE = threading.Lock()


class NewBlob(NamedTuple):
    """A blob that may have to be stored."""

    kind: BlobType
    id: bytes
    content: bytes
    #: Makes the encoding; takes its time, and releases the interpreter lock.
    encode: Callable[[], bytes]


class TakenApart(NamedTuple):
    """What a file is made of."""

    file_sha256: bytes
    size: int
    literal: bytes
    auxiliary: bytes
    values: tuple[Value, ...]


def take_apart(
    source: ByteSource,
    cut_file: CutFile,
    profile: Profile,
    identify: Callable[[BlobType, bytes], bytes],
    offer: Callable[[NewBlob], None],
    workers: ThreadPoolExecutor,
) -> TakenApart:
    """Read a file once, offer its blobs, and return how to put it together."""
    work = _TakingApart(source, cut_file, profile, identify, offer, workers)
    return work.run()


class _TakingApart:
    def __init__(
        self,
        source: ByteSource,
        cut_file: CutFile,
        profile: Profile,
        identify: Callable[[BlobType, bytes], bytes],
        offer: Callable[[NewBlob], None],
        workers: ThreadPoolExecutor,
    ) -> None:
        self._source = source
        self._cut_file = cut_file
        self._profile = profile
        self._identify = identify
        self._offer = offer
        self._workers = workers
        self._digest = hashlib.sha256()
        self._size = 0
        self._literal = bytearray()
        self._auxiliary = bytearray()
        self._values: list[Value] = []

    def run(self) -> TakenApart:
        """Walk over the file."""
        position = 0
        streams: list[list[Cut]] = []
        at_once = self._streams_at_once()
        for one in self._cut_file.cuts:
            if one.kind is CutKind.MORE and streams:
                streams[-1].append(one)
                continue
            if streams and (one.kind is not CutKind.STREAM or len(streams) == at_once):
                position = self._take_streams(streams, position)
                streams = []
            if one.kind is CutKind.STREAM and one.end - one.start <= _LONGEST_STREAM:
                streams.append([one])
                continue
            self._literal += self._read(position, one.start)
            self._take(one)
            position = one.end
        position = self._take_streams(streams, position)
        self._literal += self._read(position, self._source.size)
        return TakenApart(
            self._digest.digest(),
            self._size,
            bytes(self._literal),
            bytes(self._auxiliary),
            tuple(self._values),
        )

    def _streams_at_once(self) -> int:
        """Say how many frames are recoded at once; they need room for their samples."""
        pixels = self._cut_file.pixels
        if pixels is None:
            return 1
        bits = pixels.columns * pixels.rows * pixels.samples_per_pixel * pixels.bits_allocated
        return max(min(_SAMPLES_AT_ONCE_BYTES // max(bits // 8, 1), _STREAMS_AT_ONCE), 1)

    def _read(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        data = self._source.read(start, end - start)
        self._digest.update(data)
        self._size += len(data)
        return data

    def _take(self, one: Cut) -> None:
        position = len(self._literal)
        frames = one.kind is CutKind.FRAMES
        kind = BlobType.FRAME if frames else BlobType.VALUE
        blobs: list[bytes] = []
        for piece in pieces(one, self._cut_file.pixels):
            content = self._read(piece.start, piece.end)
            if one.swap > 1:
                content = reverse_words(content, one.swap)
            blobs.append(self._store(kind, content, piece))
        self._values.append(BlobsValue(position, "f" if frames else "v", one.swap, tuple(blobs)))

    def _store(self, kind: BlobType, content: bytes, piece: Piece) -> bytes:
        identity = self._identify(kind, content)
        profile, pixels = self._profile, self._cut_file.pixels

        def encode() -> bytes:
            if piece.rows and pixels is not None:
                return _encode_piece(content, pixels, piece, profile)
            return encode_bytes(content, profile)

        self._offer(NewBlob(kind, identity, content, encode))
        return identity

    def _take_streams(self, streams: list[list[Cut]], position: int) -> int:
        """Take compressed frames, recoded where that is possible; a few at once.

        Each is a list of its fragments, mostly of one.
        """
        read: list[list[tuple[bytes, bytes]]] = []
        for fragments in streams:
            parts = []
            for one in fragments:
                parts.append((self._read(position, one.start), self._read(one.start, one.end)))
                position = one.end
            read.append(parts)
        whole = [b"".join(content for _before, content in parts) for parts in read]
        for parts, recoded in zip(read, self._recoded(whole), strict=True):
            if recoded is None:
                for literal, content in parts:
                    self._literal += literal
                    self._keep_stream(content)
                continue
            self._literal += parts[0][0]
            self._take_recoded(recoded)
            for literal, content in parts[1:]:
                self._literal += literal
                self._values.append(MoreValue(len(self._literal), len(content)))
        return position

    def _recoded(self, contents: list[bytes]) -> Iterable[Recoded | None]:
        pixels, syntax = self._cut_file.pixels, self._cut_file.transfer_syntax_uid
        if pixels is None or syntax in _JPEG or not self._profile.recodes:
            return [None] * len(contents)

        def one(content: bytes) -> Recoded | None:
            return recode(content, syntax, pixels)

        return map(one, contents) if len(contents) < 2 else self._workers.map(one, contents)

    def _keep_stream(self, content: bytes) -> None:
        identity = self._identify(BlobType.VALUE, content)
        profile = self._profile
        is_jpeg = self._cut_file.transfer_syntax_uid in _JPEG and profile.recodes
        encode = encode_jpeg if is_jpeg else encode_bytes
        self._offer(NewBlob(BlobType.VALUE, identity, content, lambda: encode(content, profile)))
        self._values.append(BlobsValue(len(self._literal), "v", 1, (identity,)))

    def _take_recoded(self, recoded: Recoded) -> None:
        samples, shape, profile = recoded.samples, recoded.shape, self._profile
        pixels = self._cut_file.pixels
        signed = pixels is not None and pixels.pixel_representation == 1
        identity = self._identify(BlobType.FRAME, samples)

        def encode() -> bytes:
            with _alone_if_large(samples):
                return encode_samples(
                    samples,
                    columns=shape.columns,
                    rows=shape.rows,
                    samples=shape.samples,
                    sample_bytes=shape.sample_bytes,
                    signed=signed,
                    planar=False,
                    profile=profile,
                )

        self._offer(NewBlob(BlobType.FRAME, identity, samples, encode))
        head = self._put_aside(recoded.head)
        tail = self._put_aside(recoded.tail) if recoded.kind != "rle" else (0, 0)
        self._values.append(
            StreamValue(len(self._literal), recoded.kind, identity, shape, head, tail)
        )

    def _put_aside(self, data: bytes) -> tuple[int, int]:
        offset = len(self._auxiliary)
        self._auxiliary += data
        return offset, len(data)


def _encode_piece(content: bytes, pixels: PixelAttributes, piece: Piece, profile: Profile) -> bytes:
    with _alone_if_large(content):
        return encode_samples(
            content,
            columns=piece.columns,
            rows=piece.rows,
            samples=piece.samples,
            sample_bytes=piece.sample_bytes,
            signed=pixels.pixel_representation == 1,
            planar=piece.planar,
            profile=profile,
        )


@contextmanager
def _alone_if_large(content: bytes) -> Iterator[None]:
    if len(content) <= LARGE_BYTES:
        yield
        return
    with _ALONE:
        give_back()
        yield


def reverse_words(content: bytes, width: int) -> bytes:
    """Reverse the bytes of each word of `width` bytes; what is left of one stays as it is."""
    whole = len(content) - len(content) % width
    swapped = bytearray(content)
    for at in range(width):
        swapped[at:whole:width] = content[width - 1 - at : whole : width]
    return bytes(swapped)
