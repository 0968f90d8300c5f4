"""The contract of `ports.object_store` as tests: every implementation subclasses the suite.

Capabilities (`Staging`, `CompareAndSwap`, `Retention`) are tested where the store has them. The
suite asserts plainly and does not need pytest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from dcmvault.errors import ObjectExistsError, ObjectLockedError, ObjectMissingError
from dcmvault.ports.object_store import (
    CompareAndSwap,
    ObjectStore,
    Retention,
    StagedObject,
    Staging,
)

_WRITERS = 8
_INVALID_KEYS = (
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    ".hidden",
    "a/.hidden",
    "a b",
    "a\\b",
    "a\0b",
    "a\n",
    "é",
    "a:b",
)


class _SourceFailedError(Exception):
    """What a failing producer of chunks raises."""


class ObjectStoreSuite:
    """Tests that every object store passes. Subclasses give an empty store."""

    def store(self) -> ObjectStore:
        """Return an empty store."""
        raise NotImplementedError

    def reopened(self, store: ObjectStore) -> ObjectStore:
        """Return another view of the same objects, as another process would open it."""
        return store

    # put, get, head

    def test_put_then_get(self) -> None:
        """What was put is read back byte for byte, also by another view."""
        store = self.store()
        assert store.put("a/b/c.bin", [b"ab", b"", b"cd"]) == 4
        for view in (store, self.reopened(store)):
            assert view.get("a/b/c.bin") == b"abcd"
            assert view.head("a/b/c.bin") == 4

    def test_empty_object(self) -> None:
        """An object may have no bytes."""
        store = self.store()
        assert store.put("empty", []) == 0
        assert store.get("empty") == b""
        assert store.head("empty") == 0
        assert list(store.keys()) == ["empty"]

    def test_large_object_in_chunks(self) -> None:
        """Chunks of any size make one object."""
        store = self.store()
        chunks = [bytes([number]) * (number * 997) for number in range(1, 64)]
        assert store.put("large", chunks) == sum(map(len, chunks))
        assert store.get("large") == b"".join(chunks)

    def test_ranges(self) -> None:
        """A range is cut at the object's end; an empty one is empty."""
        store = self.store()
        store.put("key", [b"0123456789"])
        assert store.get("key", 3) == b"3456789"
        assert store.get("key", 3, 4) == b"3456"
        assert store.get("key", 8, 100) == b"89"
        assert store.get("key", 10, 1) == b""
        assert store.get("key", 100, 1) == b""
        assert store.get("key", 2, 0) == b""

    def test_missing_object(self) -> None:
        """What is not there has no size, no bytes, and cannot be removed."""
        store = self.store()
        store.put("a/b", [b"x"])
        for key in ("none", "a", "a/b/c", "a/bb"):
            assert store.head(key) is None, key
            _assert_raises(ObjectMissingError, store.get, key)
            _assert_raises(ObjectMissingError, store.delete, key)

    # Create-only.

    def test_same_bytes_again(self) -> None:
        """Putting the same bytes again succeeds."""
        store = self.store()
        for _ in range(2):
            assert store.put("key", [b"same"]) == 4
        assert store.get("key") == b"same"

    def test_other_bytes_are_refused(self) -> None:
        """Other bytes under an existing key are an error and change nothing."""
        store = self.store()
        store.put("key", [b"first"])
        for other in (b"other", b"", b"first and more", b"fir"):
            _assert_raises(ObjectExistsError, store.put, "key", [other])
        assert store.get("key") == b"first"
        assert list(store.keys()) == ["key"]

    def test_failed_put_leaves_nothing(self) -> None:
        """When the producer of chunks fails there is no object, not even a part of one."""
        store = self.store()

        def chunks() -> Iterator[bytes]:
            yield b"part"
            raise _SourceFailedError

        _assert_raises(_SourceFailedError, lambda: store.put("key", chunks()))
        assert store.head("key") is None
        assert list(store.keys()) == []
        assert store.put("key", [b"whole"]) == 5

    def test_writers_of_one_key(self) -> None:
        """Of many writers with different bytes exactly one wins, and its object is whole."""
        store = self.store()
        contents = [bytes([65 + number]) * 50_000 for number in range(_WRITERS)]
        barrier = threading.Barrier(_WRITERS)

        def write(content: bytes) -> bool:
            barrier.wait()
            try:
                store.put("a/race", [content[:25_000], content[25_000:]])
            except ObjectExistsError:
                return False
            return True

        with ThreadPoolExecutor(_WRITERS) as pool:
            won = list(pool.map(write, contents))
        assert won.count(True) == 1
        assert store.get("a/race") == contents[won.index(True)]

    def test_writers_of_the_same_bytes(self) -> None:
        """Many writers of the same object all succeed."""
        store = self.store()
        with ThreadPoolExecutor(_WRITERS) as pool:
            sizes = list(pool.map(lambda _: store.put("a/b/race", [b"x" * 1000]), range(_WRITERS)))
        assert sizes == [1000] * _WRITERS
        assert list(store.keys()) == ["a/b/race"]

    # keys, delete

    def test_keys_in_order(self) -> None:
        """Keys come in lexicographic order of the whole key, whatever folders they make."""
        store = self.store()
        keys = ["a/z", "a-b", "a.b/c", "a/b/c", "a0", "B", "a/b.c", "z"]
        for key in keys:
            store.put(key, [b"x"])
        assert list(store.keys()) == sorted(keys)

    def test_keys_with_prefix(self) -> None:
        """A prefix is a string prefix, not a folder."""
        store = self.store()
        keys = ["studies/ab/1", "studies/ab/2", "studies/abc", "studies/b", "studio", "x"]
        for key in keys:
            store.put(key, [b"x"])
        for prefix in ("", "s", "studi", "studies", "studies/", "studies/ab", "studies/ab/", "y"):
            assert list(store.keys(prefix)) == [key for key in keys if key.startswith(prefix)]

    def test_delete(self) -> None:
        """A deleted object is gone, the others stay, and its key is free again."""
        store = self.store()
        store.put("a/b", [b"old"])
        store.put("a/c", [b"other"])
        store.delete("a/b")
        assert store.head("a/b") is None
        assert list(self.reopened(store).keys()) == ["a/c"]
        store.put("a/b", [b"new"])
        assert store.get("a/b") == b"new"

    def test_invalid_keys(self) -> None:
        """A key that breaks the grammar is a ValueError everywhere, before anything happens."""
        store = self.store()
        for key in _INVALID_KEYS:
            _assert_raises(ValueError, store.put, key, [b"x"])
            _assert_raises(ValueError, store.get, key)
            _assert_raises(ValueError, store.head, key)
            _assert_raises(ValueError, store.delete, key)
        assert list(store.keys()) == []

    # Staging.

    def test_staged_bytes_are_invisible(self) -> None:
        """Until committed there is no object; a discarded one never comes to be."""
        store = self.store()
        if not isinstance(store, Staging):
            return
        kept, dropped = store.stage(), store.stage()
        for staged in (kept, dropped):
            staged.write(b"some ")
            staged.write(b"bytes")
        assert list(store.keys()) == []
        dropped.discard()
        assert kept.commit("a/kept") is True
        kept.discard()
        assert list(self.reopened(store).keys()) == ["a/kept"]
        assert store.get("a/kept") == b"some bytes"

    def test_staged_bytes_that_are_there(self) -> None:
        """Committing the same bytes says so; other bytes are an error that leaves both."""
        store = self.store()
        if not isinstance(store, Staging):
            return
        store.put("key", [b"there"])
        same = _staged(store, b"there")
        assert same.commit("key") is False
        same.discard()
        other = _staged(store, b"other")
        _assert_raises(ObjectExistsError, lambda: other.commit("key"))
        assert store.get("key") == b"there"
        store.delete("key")
        assert other.commit("key") is True
        assert store.get("key") == b"other"

    def test_staged_under_an_invalid_key(self) -> None:
        """An invalid key is a ValueError, and nothing is stored."""
        store = self.store()
        if not isinstance(store, Staging):
            return
        staged = _staged(store, b"bytes")
        for key in _INVALID_KEYS:
            _assert_raises(ValueError, staged.commit, key)
        staged.discard()
        staged.discard()
        assert list(store.keys()) == []

    # Compare and swap.

    def test_swap(self) -> None:
        """An object is replaced only by who knows its bytes."""
        store = self.store()
        if not isinstance(store, CompareAndSwap):
            return
        assert store.swap("lease", b"wrong", b"new") is False
        assert store.head("lease") is None
        assert store.swap("lease", None, b"one") is True
        assert store.swap("lease", None, b"two") is False
        assert store.swap("lease", b"one", b"two") is True
        assert store.swap("lease", b"one", b"three") is False
        assert self.reopened(store).get("lease") == b"two"

    def test_swap_of_a_removed_object(self) -> None:
        """What is gone equals nothing; an empty object is not an absent one."""
        store = self.store()
        if not isinstance(store, CompareAndSwap):
            return
        assert store.swap("a/lease", None, b"") is True
        assert store.swap("a/lease", None, b"one") is False
        assert store.swap("a/lease", b"", b"one") is True
        store.delete("a/lease")
        assert store.swap("a/lease", b"one", b"two") is False
        assert store.swap("a/lease", b"", b"two") is False
        assert list(store.keys()) == []
        assert store.swap("a/lease", None, b"two") is True
        assert list(store.keys()) == ["a/lease"]

    def test_swap_under_an_invalid_key(self) -> None:
        """An invalid key is a ValueError, and nothing is stored."""
        store = self.store()
        if not isinstance(store, CompareAndSwap):
            return
        for key in _INVALID_KEYS:
            _assert_raises(ValueError, store.swap, key, None, b"new")
        assert list(store.keys()) == []

    def test_swap_race(self) -> None:
        """Of many that swap from the same bytes exactly one does, time after time."""
        store = self.store()
        if not isinstance(store, CompareAndSwap):
            return
        swap = store.swap
        expected: bytes | None = None
        with ThreadPoolExecutor(_WRITERS) as pool:
            for turn in range(3):
                contents = [bytes([turn, number]) for number in range(_WRITERS)]
                won = list(pool.map(lambda new, old=expected: swap("lease", old, new), contents))
                assert won.count(True) == 1
                expected = contents[won.index(True)]
                assert store.get("lease") == expected

    # Retention. Its times are the store's own, so they are far in the future here.

    def test_retained_objects_stay(self) -> None:
        """A retained object cannot be removed; the others can."""
        store = self.store()
        if not isinstance(store, Retention):
            return
        store.put("packs/kept", [b"kept"])
        store.put("packs/free", [b"free"])
        store.retain("packs/kept", datetime.now(UTC) + timedelta(days=1))
        _assert_raises(ObjectLockedError, store.delete, "packs/kept")
        store.delete("packs/free")
        assert list(self.reopened(store).keys()) == ["packs/kept"]
        assert store.get("packs/kept") == b"kept"
        assert store.put("packs/kept", [b"kept"]) == 4

    def test_retention_only_extends(self) -> None:
        """An earlier time changes nothing: also a past one does not free the object."""
        store = self.store()
        if not isinstance(store, Retention):
            return
        store.put("kept", [b"kept"])
        now = datetime.now(UTC)
        for until in (now + timedelta(days=2), now + timedelta(days=3), now + timedelta(seconds=1)):
            store.retain("kept", until)
        held = store.retained_until("kept")
        assert held is not None
        assert abs(held - (now + timedelta(days=3))) < timedelta(seconds=1)
        assert store.retained_until("none") is None
        assert store.keep_until().utcoffset() is not None
        _assert_raises(ObjectLockedError, store.delete, "kept")

    def test_retaining_nothing(self) -> None:
        """There must be an object, and the time must be unambiguous."""
        store = self.store()
        if not isinstance(store, Retention):
            return
        until = datetime.now(UTC) + timedelta(days=1)
        _assert_raises(ObjectMissingError, store.retain, "none", until)
        store.put("key", [b"x"])
        _assert_raises(ValueError, store.retain, "key", until.replace(tzinfo=None))
        for key in _INVALID_KEYS:
            _assert_raises(ValueError, store.retain, key, until)


def _staged(store: Staging, content: bytes) -> StagedObject:
    staged = store.stage()
    staged.write(content)
    return staged


def _assert_raises(
    kind: type[Exception], action: Callable[..., object], *arguments: object
) -> None:
    try:
        action(*arguments)
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")
