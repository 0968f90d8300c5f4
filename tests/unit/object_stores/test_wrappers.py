"""What wrappers of object stores add, and what they leave as it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dcmvault.errors import (
    AssociationRejectedError,
    DestinationAbsentError,
    DestinationStoppedError,
    DestinationUnreachableError,
    ObjectExistsError,
    ObjectMissingError,
)
from dcmvault.object_stores.cached import CachedStore
from dcmvault.object_stores.local import LocalStore
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.object_stores.retrying import Backoff, RetryingStore
from dcmvault.object_stores.throttled import ThrottledStore
from dcmvault.object_stores.wrapping import WrappedStore
from dcmvault.ports.object_store import (
    CacheEviction,
    CompareAndSwap,
    ObjectStore,
    Retention,
    Staging,
)
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.faulty import Fault, FaultyStore

_EXACT = Backoff(attempts=3, first_s=1, most_s=60, jitter=0)


class _Plain:
    """An object store without any capability."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.gets: list[str] = []

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        return self.inner.put(key, chunks)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self.gets.append(key)
        return self.inner.get(key, start, length)

    def head(self, key: str) -> int | None:
        return self.inner.head(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return self.inner.keys(prefix)

    def delete(self, key: str) -> None:
        self.inner.delete(key)


_KEPT_UNTIL = datetime(2031, 1, 1, tzinfo=UTC)


class _Keeping(_Plain):
    """An object store that offers retention."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.retained: list[tuple[str, datetime]] = []

    def keep_until(self) -> datetime:
        return _KEPT_UNTIL

    def retained_until(self, key: str) -> datetime | None:
        return dict(self.retained).get(key)

    def retain(self, key: str, until: datetime) -> None:
        self.retained.append((key, until))


def _wrappers(tmp_path: Path) -> list[Callable[[ObjectStore], WrappedStore]]:
    return [
        WrappedStore,
        lambda inner: RetryingStore(inner, FakeClock().advance),
        lambda inner: ThrottledStore(inner, _CountingPacer()),
        lambda inner: CachedStore(inner, tmp_path / "cache"),
    ]


# Capabilities.


def test_a_wrapper_offers_what_the_wrapped_store_offers(tmp_path: Path) -> None:
    local = LocalStore(tmp_path / "objects", FakeClock())
    for wrap in _wrappers(tmp_path):
        plain, swapping = wrap(_Plain(MemoryStore())), wrap(MemoryStore())
        keeping, evicting = wrap(_Keeping(MemoryStore())), wrap(local)
        assert isinstance(swapping, CompareAndSwap)
        assert isinstance(keeping, Retention)
        assert isinstance(evicting, CacheEviction)
        assert not isinstance(plain, CompareAndSwap)
        assert not isinstance(keeping, CompareAndSwap)
        for store in (plain, swapping, evicting):
            assert not isinstance(store, Retention)
        for store in (plain, swapping, keeping):
            # A cache has something to evict, whatever is behind it.
            assert isinstance(store, CacheEviction) == isinstance(store, CachedStore)
        for store in (plain, swapping, keeping, evicting):
            assert not isinstance(store, Staging)


def test_capabilities_do_what_those_of_the_wrapped_store_do(tmp_path: Path) -> None:
    until = datetime(2030, 1, 1, tzinfo=UTC)
    for wrap in _wrappers(tmp_path):
        keeping = _Keeping(MemoryStore())
        store = wrap(keeping)
        assert isinstance(store, Retention)
        store.retain("key", until)
        assert store.keep_until() == _KEPT_UNTIL
        assert store.retained_until("key") == until
        assert store.retained_until("other") is None
        assert keeping.retained == [("key", until)]
        memory = MemoryStore()
        store = wrap(memory)
        assert isinstance(store, CompareAndSwap)
        assert store.swap("key", None, b"new") is True
        assert memory.get("key") == b"new"


# Retrying.


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.LOSE_ANSWER])
def test_every_operation_survives_one_fault(fault: Fault) -> None:
    memory = MemoryStore()
    memory.put("old", [b"old"])
    actions: list[Callable[[RetryingStore], object]] = [
        lambda store: store.put("a", [b"ab", b"cd"]),
        lambda store: store.put("b", iter([b"ab", b"cd"])),
        lambda store: store.get("a"),
        lambda store: store.head("a"),
        lambda store: list(store.keys()),
        lambda store: store.delete("old"),
    ]
    expected: list[object] = [4, 4, b"abcd", 4, ["a", "b", "old"], None]
    for action, result in zip(actions, expected, strict=True):
        clock = FakeClock()
        assert action(RetryingStore(FaultyStore(memory, 1, fault), clock.advance, _EXACT)) == result
        assert clock.monotonic() == 1
    assert memory.get("b") == b"abcd"
    assert list(memory.keys()) == ["a", "b"]


def test_waiting_doubles_and_ends() -> None:
    waited: list[float] = []

    class Away(_Plain):
        def head(self, key: str) -> int | None:
            raise DestinationUnreachableError("away")

    backoff = Backoff(attempts=5, first_s=2, most_s=10, jitter=0)
    store = RetryingStore(Away(MemoryStore()), waited.append, backoff)
    with pytest.raises(DestinationUnreachableError):
        store.head("key")
    assert waited == [2, 4, 8, 10]


def test_jitter_keeps_within_its_bounds() -> None:
    for _ in range(50):
        first, second = Backoff(attempts=3, first_s=10, jitter=0.2).waits()
        assert 8 <= first <= 12
        assert 16 <= second <= 24


@pytest.mark.parametrize(
    "error",
    [
        DestinationStoppedError("access refused"),
        ObjectMissingError("missing"),
        AssociationRejectedError("an operator must do something"),
        DestinationAbsentError("the folder is not there"),
    ],
)
def test_what_time_does_not_help_is_not_repeated(error: Exception) -> None:
    asked = []

    class Failing(_Plain):
        def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            asked.append(key)
            raise error

    with pytest.raises(type(error)):
        RetryingStore(Failing(MemoryStore()), _never, _EXACT).get("key")
    assert asked == ["key"]


def test_a_put_that_broke_off_is_sent_whole() -> None:
    sent: list[list[bytes]] = []

    class Breaking(_Plain):
        def put(self, key: str, chunks: Iterable[bytes]) -> int:
            sent.append([])
            for chunk in chunks:
                sent[-1].append(chunk)
                if len(sent) < 3 and len(sent[-1]) == len(sent):
                    raise DestinationUnreachableError("broken off")
            return self.inner.put(key, sent[-1])

    memory = MemoryStore()
    store = RetryingStore(Breaking(memory), FakeClock().advance, _EXACT)
    assert store.put("key", (bytes([number]) * 3 for number in range(5))) == 15
    assert memory.get("key") == b"".join(bytes([number]) * 3 for number in range(5))
    assert len(sent) == 3


def test_a_producer_that_fails_is_not_taken_for_the_store() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"part"
        raise DestinationUnreachableError("where the bytes come from is away")

    memory = MemoryStore()
    with pytest.raises(DestinationUnreachableError, match="come from"):
        RetryingStore(memory, _never, _EXACT).put("key", chunks())
    assert list(memory.keys()) == []


def test_other_bytes_are_still_an_error() -> None:
    memory = MemoryStore()
    memory.put("key", [b"there"])
    store = RetryingStore(FaultyStore(memory, 1, Fault.REFUSE), FakeClock().advance, _EXACT)
    with pytest.raises(ObjectExistsError):
        store.put("key", [b"other"])


def test_a_list_goes_on_where_it_broke_off() -> None:
    class Breaking(_Plain):
        broken = False

        def keys(self, prefix: str = "") -> Iterator[str]:
            for number, key in enumerate(self.inner.keys(prefix)):
                if number == 2 and not self.broken:
                    self.broken = True
                    raise DestinationUnreachableError("broken off")
                yield key

    memory = MemoryStore()
    for name in "abcd":
        memory.put(name, [b"x"])
    store = RetryingStore(Breaking(memory), FakeClock().advance, _EXACT)
    assert list(store.keys()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("expected", [None, b"old"])
def test_a_swap_whose_answer_was_lost(expected: bytes | None) -> None:
    memory = MemoryStore()
    if expected is not None:
        memory.put("lease", [expected])
    for fault in (Fault.REFUSE, Fault.LOSE_ANSWER):
        new = fault.value.encode()
        store = RetryingStore(FaultyStore(memory, 1, fault), FakeClock().advance, _EXACT)
        assert isinstance(store, CompareAndSwap)
        assert store.swap("lease", expected, new) is True
        assert memory.get("lease") == new
        assert store.swap("lease", expected, b"late") is False
        expected = new


def test_a_swap_that_somebody_else_won_meanwhile() -> None:
    memory = MemoryStore()
    faulty = FaultyStore(memory, 1, Fault.REFUSE)

    def sleep(_seconds: float) -> None:
        memory.add("lease", b"theirs")

    store = RetryingStore(faulty, sleep, _EXACT)
    assert isinstance(store, CompareAndSwap)
    assert store.swap("lease", None, b"ours") is False
    assert memory.get("lease") == b"theirs"


def _never(_seconds: float) -> None:
    raise AssertionError("waited")


# Throttling.


class _CountingPacer:
    """Lets bytes pass at once, and remembers them."""

    piece = 10_000

    def __init__(self) -> None:
        self.taken: list[int] = []

    def take(self, size: int) -> None:
        self.taken.append(size)


def test_what_is_written_waits_for_the_pacer_before_it_is_handed_on() -> None:
    pacer = _CountingPacer()
    taken_then: list[int] = []
    parts: list[int] = []

    class Looking(_Plain):
        def put(self, key: str, chunks: Iterable[bytes]) -> int:
            for chunk in chunks:
                parts.append(len(chunk))
                taken_then.append(sum(pacer.taken))
            return sum(parts)

    store = ThrottledStore(Looking(MemoryStore()), pacer)
    assert store.put("k", [b"x" * 25_000, b"", b"y" * 7]) == 25_007
    assert pacer.taken == parts == [10_000, 10_000, 5_000, 7]
    assert taken_then == [10_000, 20_000, 25_000, 25_007]


def test_what_is_swapped_waits_for_the_pacer_and_what_is_read_does_not() -> None:
    pacer = _CountingPacer()
    store = ThrottledStore(MemoryStore(), pacer)
    assert isinstance(store, CompareAndSwap)
    assert store.swap("lease", None, b"ours")
    assert store.get("lease") == b"ours"
    assert store.head("lease") == 4
    assert pacer.taken == [4]


# Caching.


def _key(content: bytes, folder: str = "index/") -> str:
    return f"{folder}{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def _files(cache: Path) -> list[Path]:
    return sorted(cache.glob("??/*"))


@pytest.mark.parametrize(
    "folder", ["index/", "journal/", "snapshots/00000007-", "keys/00000001-", "index/ab/"]
)
def test_what_was_read_once_is_not_fetched_again(cache: Path, folder: str) -> None:
    plain = _Plain(MemoryStore())
    key = _key(b"content", folder)
    plain.put(key, [b"content"])
    for store in (CachedStore(plain, cache), CachedStore(plain, cache)):
        assert store.get(key) == b"content"
        assert store.get(key, 1, 3) == b"ont"
        assert store.get(key, 5) == b"nt"
    assert plain.gets == [key]


def test_what_was_written_is_kept(cache: Path) -> None:
    plain = _Plain(MemoryStore())
    key = _key(b"content")
    store = CachedStore(plain, cache)
    assert store.put(key, iter([b"con", b"tent"])) == 7
    assert store.get(key) == b"content"
    assert plain.gets == []
    assert cache.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in _files(cache))


def test_packs_and_what_has_no_digest_are_not_kept(cache: Path) -> None:
    plain = _Plain(MemoryStore())
    store = CachedStore(plain, cache)
    keys = [
        _key(b"x", "packs/aa/"),
        "config",
        "lease",
        "index/other",
        _key(b"x", "copies/1/index/"),
    ]
    for key in keys:
        store.put(key, [b"x"])
        assert store.get(key) == b"x"
    assert plain.gets == keys
    assert not cache.exists()


def test_bytes_that_are_not_those_of_the_name_are_given_but_not_kept(cache: Path) -> None:
    plain = _Plain(MemoryStore())
    key = _key(b"right")
    store = CachedStore(plain, cache)
    store.put(key, [b"wrong"])
    assert [store.get(key), store.get(key)] == [b"wrong", b"wrong"]
    assert plain.gets == [key, key]
    assert _files(cache) == []


def test_damage_in_the_cache_is_fetched_again(cache: Path) -> None:
    plain = _Plain(MemoryStore())
    key = _key(b"content")
    store = CachedStore(plain, cache)
    store.put(key, [b"content"])
    (path,) = _files(cache)
    path.write_bytes(b"cOntent")
    assert store.get(key) == b"content"
    assert plain.gets == [key]
    assert path.read_bytes() == b"content"


def test_evicting_reads_from_the_store_again(cache: Path) -> None:
    plain = _Plain(MemoryStore())
    key = _key(b"content")
    store = CachedStore(plain, cache)
    store.put(key, [b"content"])
    assert isinstance(store, CacheEviction)
    assert store.evict(key) is True
    assert store.get(key) == b"content"
    assert plain.gets == [key]
    plain.delete(key)
    with pytest.raises(ObjectMissingError):
        store.evict(key)
    with pytest.raises(ObjectMissingError):
        store.get(key)


def test_evicting_reaches_the_medium_behind(cache: Path, tmp_path: Path) -> None:
    local = LocalStore(tmp_path / "objects", FakeClock())
    store = CachedStore(local, cache)
    store.put(_key(b"content"), [b"content"])
    assert isinstance(store, CacheEviction)
    assert store.evict(_key(b"content")) == local.evict(_key(b"content"))


def test_what_is_removed_is_gone_here_too(cache: Path) -> None:
    store = CachedStore(MemoryStore(), cache)
    key = _key(b"content")
    store.put(key, [b"content"])
    store.delete(key)
    with pytest.raises(ObjectMissingError):
        store.get(key)
    assert store.head(key) is None


def test_the_longest_unused_go_first(cache: Path) -> None:
    plain = _Plain(MemoryStore())
    store = CachedStore(plain, cache, most_bytes=1000)
    contents = [bytes([number]) * 100 for number in range(10)]
    for age, content in enumerate(contents):
        store.put(_key(content), [content])
        os.utime(cache / _key(content)[6:8] / _key(content)[6:], (1000 + age, 1000 + age))
    store.get(_key(contents[0]))
    store.put(_key(b"new" * 30), [b"new" * 30])
    assert sum(path.stat().st_size for path in _files(cache)) <= 1000
    store.get(_key(contents[0]))
    store.get(_key(b"new" * 30))
    assert plain.gets == []
    store.get(_key(contents[1]))
    assert plain.gets == [_key(contents[1])]


def test_objects_too_large_for_the_cache_pass_by(cache: Path) -> None:
    plain = _Plain(MemoryStore())
    store = CachedStore(plain, cache, most_bytes=1000)
    content = b"x" * 400
    store.put(_key(content), [content[:200], content[200:]])
    assert store.get(_key(content)) == content
    assert _files(cache) == []


def test_a_cache_that_cannot_be_used_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder", encoding="ascii")
    store = CachedStore(MemoryStore(), tmp_path / "cache")
    key = _key(b"content")
    store.put(key, [b"content"])
    assert store.get(key) == b"content"
    store.delete(key)


def test_a_failed_put_keeps_nothing(cache: Path) -> None:
    store = CachedStore(FaultyStore(MemoryStore(), 1, Fault.REFUSE), cache)
    with pytest.raises(DestinationUnreachableError):
        store.put(_key(b"content"), [b"content"])
    assert _files(cache) == []
