"""Files of a vault one after the other, each whole and verified, made ready while others are sent.

A file is given only when all of it came out with its SHA-256: half an instance is never sent.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from dcmvault.archives.kept_files import KeptFiles
from dcmvault.errors import DestinationError
from dcmvault.model.query import ArchivedInstance, InstanceBytes, UnreadableInstance
from dcmvault.vault.damage import out_of_reach
from dcmvault.vault.reading import FileReader
from dcmvault.vault.records import InstanceRecord
from dcmvault.vault.repository import Vault

#: What one worker makes ready at a time: files, and their bytes.
_FILES_AT_ONCE = 16
_BYTES_AT_ONCE = 4 << 20
#: Bytes that are made ready ahead; with one worker's more, whatever the size of files.
_BYTES_AHEAD = 32 << 20
#: Files of more bytes lie in a temporary file without a name, not in memory.
_LARGE_BYTES = 32 << 20

Read = InstanceBytes | UnreadableInstance


def read_ahead(
    vault: Vault, instances: Iterable[ArchivedInstance], kept: KeptFiles
) -> Generator[Read, None, None]:
    """Yield the file of each instance in turn, from what is `kept` where it is there.

    Raises DestinationError for the place as a whole.
    """
    cores = os.cpu_count() or 1
    chunks = _chunks(instances)
    with (
        ThreadPoolExecutor(cores, thread_name_prefix="decoder") as decoders,
        ThreadPoolExecutor(cores, thread_name_prefix="rebuild") as pool,
    ):
        coming: deque[tuple[int, Future[list[Read]]]] = deque()
        ahead = 0
        try:
            while True:
                while ahead < _BYTES_AHEAD and (chunk := next(chunks, None)) is not None:
                    size = sum(one.size for one in chunk)
                    coming.append((size, pool.submit(_read, vault, chunk, decoders, kept)))
                    ahead += size
                if not coming:
                    return
                size, future = coming.popleft()
                yield from future.result()
                ahead -= size
        finally:
            for _size, future in coming:
                future.cancel()


def _chunks(instances: Iterable[ArchivedInstance]) -> Iterator[list[ArchivedInstance]]:
    chunk: list[ArchivedInstance] = []
    size = 0
    for instance in instances:
        chunk.append(instance)
        size += instance.size
        if len(chunk) >= _FILES_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _read(
    vault: Vault,
    chunk: Sequence[ArchivedInstance],
    decoders: ThreadPoolExecutor,
    kept: KeptFiles,
) -> list[Read]:
    there = [kept.get(one.file_sha256) for one in chunk]
    missing = [record_of(one) for one, data in zip(chunk, there, strict=True) if data is None]
    reader = FileReader(vault, missing, decoders)
    found: list[Read] = []
    for instance, data in zip(chunk, there, strict=True):
        try:
            if data is None:
                data = _whole(record_of(instance), reader, kept)
            found.append(InstanceBytes(instance, data))
        except DestinationError as error:
            if out_of_reach(error):
                raise
            found.append(UnreadableInstance(instance, error.code, error.message))
    return found


def _whole(record: InstanceRecord, reader: FileReader, kept: KeptFiles) -> memoryview:
    """Return all of a file; VaultDamagedError where it is not what was stored."""
    if record.size <= _LARGE_BYTES:
        # Ends only when the SHA-256 was right.
        data = memoryview(b"".join(reader.pieces(record)))
        kept.put(record.file_sha256, data)
        return data
    with tempfile.TemporaryFile(prefix="dcmvault-") as file:
        for piece in reader.pieces(record):
            file.write(piece)
        file.flush()
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def record_of(instance: ArchivedInstance) -> InstanceRecord:
    """Return the record of an instance that this archive gave out."""
    assert isinstance(instance.place, InstanceRecord), "an instance of another archive"
    return instance.place
