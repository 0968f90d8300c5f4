"""Objects in a bucket of S3 (and what speaks like it), Azure Blob Storage or Google Cloud Storage.

All three acknowledge a write only when it is durable, and create or replace an object only if a
condition holds; both promises of the port stand on that. A store that ignores conditions is found
out by the first `swap`.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain

import obstore
from obstore import exceptions
from obstore.store import ObjectStore as Bucket

from dcmvault.errors import DestinationError, ObjectExistsError, ObjectMissingError
from dcmvault.object_stores.cloud_errors import (
    always_busy,
    cloud_errors,
    conditions_ignored,
)
from dcmvault.object_stores.keys import check_key, is_valid_key
from dcmvault.ports.clock import Clock

#: Objects up to this size are sent in one request; larger ones part by part, then copied.
_ONE_REQUEST = 64 << 20
_PART = 16 << 20
_PARTS_AT_ONCE = 4
#: No valid key: what lies there is never listed.
_STAGING = ".staging"
_STALE = timedelta(days=1)
#: How often a write that met another one, which then was not there, is tried.
_ATTEMPTS = 5

_Condition = (exceptions.AlreadyExistsError, exceptions.PreconditionError)


class CloudStore:
    """An object store with compare-and-swap under a prefix of a bucket.

    Nothing is asked before the first operation. A missing bucket is never taken for an empty one.
    Objects are at most 5 GiB (S3's limit for a copy); `one_request` bytes of each writer are held
    in memory. Larger objects are made of parts under `.staging/` and then copied to their key, on
    the condition that it is free; what a crash leaves there is removed a day later by a store
    that puts a large object (parts that were never put together cost until a lifecycle rule of
    the bucket removes them).
    """

    def __init__(self, bucket: Bucket, clock: Clock, *, one_request: int = _ONE_REQUEST) -> None:
        self._bucket = bucket
        self._clock = clock
        self._one_request = one_request
        #: The bucket has answered, so what it does not have is missing.
        self._seen = False
        self._swept = False
        self._refuses = False

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store an object under a new key, or the same bytes again."""
        check_key(key)
        held: list[bytes] = []
        size = 0
        rest = iter(chunks)
        for chunk in rest:
            held.append(chunk)
            size += len(chunk)
            if size > self._one_request:
                return self._put_large(key, chain(held, rest))
        content = b"".join(held)
        for _ in range(_ATTEMPTS):
            if self._create(key, content):
                return size
            theirs = self._content(key)
            if theirs == content:
                return size
            if theirs is not None:
                raise _exists(key)
        raise always_busy()

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object."""
        check_key(key)
        if length == 0:
            if self.head(key) is None:
                raise ObjectMissingError(f"no object {key}")
            return b""
        options: obstore.GetOptions = {}
        if length is not None:
            options["range"] = (start, start + length)
        elif start:
            options["range"] = {"offset": start}
        try:
            with cloud_errors(key):
                content = bytes(obstore.get(self._bucket, key, options=options).bytes())
        except ObjectMissingError:
            raise
        except DestinationError:
            # A range that begins behind the object's end is an error of many kinds.
            size = self.head(key) if options else None
            if size is None or start < size:
                raise
            return b""
        self._seen = True
        return content

    def head(self, key: str) -> int | None:
        """Return an object's size in bytes."""
        check_key(key)
        try:
            with cloud_errors(key):
                size: int = obstore.head(self._bucket, key)["size"]
        except ObjectMissingError:
            if not self._seen:
                self._ask_for_bucket()
            return None
        self._seen = True
        return size

    def written_at(self, key: str) -> datetime:
        """Return when the store took an object, by its own clock."""
        check_key(key)
        with cloud_errors(key):
            at: datetime = obstore.head(self._bucket, key)["last_modified"]
        return at

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List keys, as they are now; objects that are not ours (other names) are left out."""
        folder, _, _ = prefix.rpartition("/")
        found: list[str] = []
        with cloud_errors():
            for page in obstore.list(self._bucket, folder or None):
                found += [
                    entry["path"]
                    for entry in page
                    if entry["path"].startswith(prefix) and is_valid_key(entry["path"])
                ]
        self._seen = True
        # Not every store lists in the order of bytes (S3 Express does not).
        found.sort()
        return iter(found)

    def delete(self, key: str) -> None:
        """Remove an object. In a bucket with versions the store keeps what its rules say."""
        if self.head(key) is None:
            raise ObjectMissingError(f"no object {key}")
        with cloud_errors(key):
            obstore.delete(self._bucket, key)

    def swap(self, key: str, expected: bytes | None, new: bytes) -> bool:
        """Replace an object if it equals `expected`."""
        check_key(key)
        for _ in range(_ATTEMPTS):
            if expected is None:
                if self._create(key, new):
                    self._must_refuse(key, new)
                    return True
                if self.head(key) is not None:
                    return False
                continue
            version: obstore.UpdateVersion = {}
            try:
                with cloud_errors(key):
                    found = obstore.get(self._bucket, key)
                    is_expected = bytes(found.bytes()) == expected
                    if e_tag := found.meta["e_tag"]:
                        version["e_tag"] = e_tag
                    if generation := found.meta["version"]:
                        version["version"] = generation
            except ObjectMissingError:
                return False
            if not is_expected:
                return False
            try:
                with cloud_errors(key), contextlib.suppress(*_Condition):
                    obstore.put(self._bucket, key, new, mode=version, use_multipart=False)
                    return True
            except ObjectMissingError:
                return False
        raise always_busy()

    def _create(self, key: str, content: bytes) -> bool:
        """Send an object in one request, to be stored only if there is none under its key."""
        with cloud_errors(key):
            try:
                obstore.put(self._bucket, key, content, mode="create", use_multipart=False)
            except _Condition:
                return False
        self._seen = True
        return True

    def _must_refuse(self, key: str, content: bytes) -> None:
        """Find out, once, whether the store keeps its promise to create only."""
        if not self._refuses and self._create(key, content):
            raise conditions_ignored()
        self._refuses = True

    def _content(self, key: str) -> bytes | None:
        try:
            return self.get(key)
        except ObjectMissingError:
            return None

    def _ask_for_bucket(self) -> None:
        """Raise unless the bucket answers; a HEAD of an object says no more than `not found`."""
        with cloud_errors():
            for _ in obstore.list(self._bucket, _STAGING, chunk_size=1):
                break
        self._seen = True

    def _put_large(self, key: str, chunks: Iterator[bytes]) -> int:
        """Send an object in parts to a place of its own, and give it its key from there."""
        self._sweep()
        staged = f"{_STAGING}/{secrets.token_hex(16)}"
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                size += len(chunk)
                yield chunk

        with cloud_errors(key):
            obstore.put(
                self._bucket, staged, counted(), chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE
            )
        try:
            with cloud_errors(key):
                try:
                    obstore.copy(self._bucket, staged, key, overwrite=False)
                except _Condition:
                    is_new = False
                else:
                    is_new = True
            if not is_new and not self._equal(staged, key, size):
                raise _exists(key)
        finally:
            with contextlib.suppress(DestinationError), cloud_errors(key):
                obstore.delete(self._bucket, staged)
        return size

    def _equal(self, staged: str, key: str, size: int) -> bool:
        if self.head(key) != size:
            return False
        for start in range(0, size, _PART):
            length = min(_PART, size - start)
            with cloud_errors(key):
                ours = obstore.get_range(self._bucket, staged, start=start, length=length)
                if bytes(ours) != self.get(key, start, length):
                    return False
        return True

    def _sweep(self) -> None:
        """Remove what writers that died have left, once in this store's life."""
        if self._swept:
            return
        self._swept = True
        before = self._clock.now() - _STALE
        with cloud_errors():
            for page in obstore.list(self._bucket, _STAGING):
                stale = [entry["path"] for entry in page if entry["last_modified"] < before]
                for path in stale:
                    with contextlib.suppress(FileNotFoundError):
                        obstore.delete(self._bucket, path)


def _exists(key: str) -> ObjectExistsError:
    return ObjectExistsError(
        f"other bytes are stored under {key}",
        hint="The stored object is damaged, or was put there by something else.",
    )
