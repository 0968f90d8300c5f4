"""Reading many files back: with few requests, and the frames of a large file side by side.

What a pack does not give any more is made from its parity, in memory; the vault stays as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from dcmvault.errors import DestinationError, VaultDamagedError
from dcmvault.vault.blob import BlobType
from dcmvault.vault.codec import decode
from dcmvault.vault.damage import out_of_reach
from dcmvault.vault.index import Place
from dcmvault.vault.pack import pack_key
from dcmvault.vault.rebuild import rebuild_file
from dcmvault.vault.records import InstanceRecord
from dcmvault.vault.repository import Vault

#: Blobs with fewer bytes between them are read in one request ...
_GAP_BYTES = 64 << 10
#: ... of at most about this many.
_SPAN_BYTES = 4 << 20
#: Spans whose bytes are held at once.
_SPANS_HELD = 2
#: Files at least so large are decoded by several threads; they have several blobs.
LARGE_BYTES = 16 << 20
#: Content that is decoded ahead of the file that is being written.
_AHEAD_BYTES = 24 << 20

_Blob = tuple[BlobType, bytes]
_T = TypeVar("_T")


class _Wanted(NamedTuple):
    place: Place
    span: int  #: number of the span that it lies in


class _Span(NamedTuple):
    pack: bytes
    start: int
    length: int


class FileReader:
    """Rebuilds files that lie near each other in packs; used by one thread.

    `decoders` decode the blobs of large files. `records` are best in the order of `by_place`.
    """

    def __init__(
        self,
        vault: Vault,
        records: Sequence[InstanceRecord],
        decoders: ThreadPoolExecutor,
    ) -> None:
        self._vault = vault
        self._decoders = decoders
        self._wanted, self._spans = _planned(vault, records)
        self._held: deque[tuple[int, bytes]] = deque(maxlen=_SPANS_HELD)

    def pieces(self, record: InstanceRecord) -> Iterator[bytes]:
        """Yield a file's bytes as `rebuild_file` does, with its promises and errors.

        Memory is bounded by a few blobs, whatever the size of the file.
        """
        blobs = _blobs_of(record)
        if record.size < LARGE_BYTES or len(blobs) < 2:
            return rebuild_file(record, self._read)
        return rebuild_file(record, _Ahead(blobs, self._begin, self._length).take)

    def _read(self, kind: BlobType, identity: bytes) -> bytes:
        return self._begin(kind, identity, inline=True)()

    def _length(self, blob: _Blob) -> int:
        wanted = self._wanted.get(blob)
        return 0 if wanted is None else wanted.place.content_length

    def _begin(
        self, kind: BlobType, identity: bytes, *, inline: bool = False
    ) -> Callable[[], bytes]:
        """Read a blob's bytes now; return what waits for their content."""
        wanted = self._wanted.get((kind, identity))
        if wanted is None:
            return lambda: self._slowly(kind, identity)
        try:
            sealed = self._sealed(wanted)
        except DestinationError as error:
            if out_of_reach(error):
                raise
            return lambda: self._slowly(kind, identity)

        def content() -> bytes:
            try:
                return _content(self._vault, kind, identity, wanted.place, sealed)
            except DestinationError as error:
                if out_of_reach(error):
                    raise
                return self._slowly(kind, identity)

        if inline:
            return content
        future: Future[bytes] = self._decoders.submit(content)
        return future.result

    def _slowly(self, kind: BlobType, identity: bytes) -> bytes:
        """Read a blob that is not where it should be, or is damaged there."""
        try:
            return self._vault.read_blob(kind, identity)
        except DestinationError as error:
            if out_of_reach(error):
                raise
            if isinstance(error, VaultDamagedError):
                raise
            raise VaultDamagedError(error.message, hint=error.hint) from error

    def _sealed(self, wanted: _Wanted) -> memoryview:
        data = next((data for number, data in self._held if number == wanted.span), None)
        span = self._spans[wanted.span]
        if data is None:
            data = self._vault.store.get(pack_key(span.pack), span.start, span.length)
            self._held.append((wanted.span, data))
        start = wanted.place.offset - span.start
        sealed = memoryview(data)[start : start + wanted.place.length]
        if len(sealed) != wanted.place.length:
            raise VaultDamagedError(f"the pack {span.pack.hex()} is cut short")
        return sealed


class _Ahead:
    """Has the next blobs of one file decoded while the ones before are written."""

    def __init__(
        self,
        blobs: Iterable[_Blob],
        begin: Callable[[BlobType, bytes], Callable[[], bytes]],
        length: Callable[[_Blob], int],
    ) -> None:
        self._coming = iter(blobs)
        self._begin = begin
        self._length = length
        self._under_way: deque[tuple[_Blob, int, Callable[[], bytes]]] = deque()
        self._bytes = 0

    def take(self, kind: BlobType, identity: bytes) -> bytes:
        """Return the next blob's content."""
        if kind is BlobType.HEADERS:
            return self._begin(kind, identity)()
        while self._bytes < _AHEAD_BYTES and (blob := next(self._coming, None)) is not None:
            length = self._length(blob)
            self._under_way.append((blob, length, self._begin(*blob)))
            self._bytes += length
        blob, length, content = self._under_way.popleft()
        assert blob == (kind, identity), "a file asks for its blobs in the order of its record"
        self._bytes -= length
        return content()


def by_place(
    vault: Vault, items: Iterable[_T], record_of: Callable[[_T], InstanceRecord]
) -> list[_T]:
    """Sort files by where their first large blob lies, so that packs are read from front to end."""

    def key(item: _T) -> tuple[bytes, int]:
        record = record_of(item)
        for kind, identity in [*_blobs_of(record)[:1], (BlobType.HEADERS, record.skeleton.block)]:
            for place in vault.index.places(kind, identity) if identity else ():
                return place.pack, place.offset
        return b"", 0

    return sorted(items, key=key)


def _blobs_of(record: InstanceRecord) -> list[_Blob]:
    """List a file's blobs in order, but for the header block, which many files share."""
    return [(BlobType(kind), blob) for kind, blob in record.blob_ids() if kind != "H"]


def _planned(
    vault: Vault, records: Iterable[InstanceRecord]
) -> tuple[dict[_Blob, _Wanted], list[_Span]]:
    """Say which bytes of which packs are read in one request each."""
    places: dict[_Blob, Place] = {}
    for record in records:
        for blob in _blobs_of(record):
            found = None if blob in places else vault.index.places(*blob)
            if found:
                places[blob] = found[0]
    wanted: dict[_Blob, _Wanted] = {}
    spans: list[_Span] = []
    for blob, place in sorted(places.items(), key=lambda item: item[1]):
        last = spans[-1] if spans else None
        end = place.offset + place.length
        if (
            last is not None
            and last.pack == place.pack
            and place.offset <= last.start + last.length + _GAP_BYTES
            and end - last.start <= _SPAN_BYTES
        ):
            spans[-1] = last._replace(length=max(last.length, end - last.start))
        else:
            spans.append(_Span(place.pack, place.offset, place.length))
        wanted[blob] = _Wanted(place, len(spans) - 1)
    return wanted, spans


def _content(
    vault: Vault, kind: BlobType, identity: bytes, place: Place, sealed: memoryview
) -> bytes:
    """Open and decode a blob; VaultDamagedError, or ObjectMissingError without its pack."""
    sealer = vault.packs.sealer(place.pack)
    encoding = sealer.open(place.number, kind.letter, identity, sealed)
    content = decode(encoding, place.content_length)
    # With encryption the id is authenticated with the bytes.
    if not vault.config.encrypted and vault.blob_id(kind, content) != identity:
        raise VaultDamagedError("a part of the vault is not what its id promises")
    return content
