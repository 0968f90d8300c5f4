"""The header of a stored file, read from its skeleton: large values stay where they are.

What a file says of itself stands in its skeleton, which it shares a block with others of its
study. So the headers of a study cost one blob, and its pixels none.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.blob import BlobType
from dcmvault.vault.records import BlobsValue, InstanceRecord
from dcmvault.vault.repository import Vault
from dcmvault.vault.taking_apart import reverse_words

#: Bytes behind a position that a reader of element headers may look at.
_HEADER_BYTES = 12


class _Run(NamedTuple):
    """Consecutive bytes of a file: part of the literal, or one blob."""

    start: int
    length: int
    literal_at: int  #: -1 for a blob
    kind: BlobType = BlobType.VALUE
    blob: bytes = b""
    swap: int = 1


class SkeletonBytes:
    """Bytes of a stored file up to the first value whose length only decoding tells.

    That is a compressed frame which was recoded; nothing of a header stands behind one. Bytes are
    those of the file, but nothing compares them with its SHA-256. Reading a large value reads its
    blobs. Raises VaultDamagedError.
    """

    def __init__(self, vault: Vault, record: InstanceRecord) -> None:
        self._vault = vault
        self.size = record.size
        block, offset, length, literal_length = record.skeleton
        skeleton = b""
        if block:
            content = vault.read_blob(BlobType.HEADERS, block)
            skeleton = content[offset : offset + min(length, literal_length)]
        if len(skeleton) != literal_length:
            raise VaultDamagedError("a file's skeleton goes past the end of its header block")
        self._literal = skeleton
        self._runs = self._arranged(record)
        self._starts = [run.start for run in self._runs]

    def window(self, position: int) -> tuple[bytes, int]:
        """Return a buffer from `position` on, with 12 bytes at least where so many can be had."""
        run = self._run_at(position)
        if run is None:
            return b"", position
        data = self._bytes_of(run)
        # Of a value behind an element header a reader looks at nothing.
        left = run.start + len(data) - position
        missing = min(_HEADER_BYTES - left, self.size - run.start - len(data))
        if missing <= 0:
            return data, run.start
        if run is self._runs[-1]:
            return data + bytes(missing), run.start
        following = self._run_at(run.start + run.length)
        if following is None or following.literal_at < 0:
            return data + bytes(missing), run.start
        return data + self._bytes_of(following), run.start

    def read(self, start: int, length: int) -> bytes:
        """Return bytes, fewer where no more can be had."""
        found = bytearray()
        while len(found) < length:
            at = start + len(found)
            run = self._run_at(at)
            if run is None:
                break
            begin = at - run.start
            found += self._bytes_of(run)[begin : begin + length - len(found)]
        return bytes(found)

    def _arranged(self, record: InstanceRecord) -> list[_Run]:
        runs: list[_Run] = []
        at = literal_at = 0
        for value in record.values:
            if not literal_at <= value.position <= len(self._literal):
                raise VaultDamagedError("a record's values are out of order")
            if value.position > literal_at:
                runs.append(_Run(at, value.position - literal_at, literal_at))
                at += value.position - literal_at
                literal_at = value.position
            if not isinstance(value, BlobsValue):
                return runs
            kind = BlobType.FRAME if value.kind == "f" else BlobType.VALUE
            for blob in value.blobs:
                places = self._vault.index.places(kind, blob)
                if not places:
                    return runs
                runs.append(_Run(at, places[0].content_length, -1, kind, blob, value.swap))
                at += places[0].content_length
        if literal_at < len(self._literal):
            runs.append(_Run(at, len(self._literal) - literal_at, literal_at))
        return [run for run in runs if run.length]

    def _run_at(self, position: int) -> _Run | None:
        number = bisect_right(self._starts, position) - 1
        if number < 0:
            return None
        run = self._runs[number]
        return run if position < run.start + run.length else None

    def _bytes_of(self, run: _Run) -> bytes:
        if run.literal_at >= 0:
            return self._literal[run.literal_at : run.literal_at + run.length]
        content = self._vault.read_blob(run.kind, run.blob)
        return reverse_words(content, run.swap) if run.swap > 1 else content
