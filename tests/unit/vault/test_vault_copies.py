"""Objects in triplicate: read, listed, removed and mended whatever copies are left."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.errors import (
    DestinationUnreachableError,
    ObjectExistsError,
    ObjectMissingError,
    VaultDamagedError,
)
from dcmvault.object_stores.local import LocalStore
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.faulty import CrashError, Fault, FaultyStore
from dcmvault.vault.copies import (
    CopyState,
    RedundantObjects,
    Soundness,
    check_line_holds,
    digest_of_key,
    with_check_line,
    without_check_line,
)

_DATA = b"some journal" * 100
_KEY = "journal/" + hashlib.sha256(_DATA).hexdigest()
_PACK = "packs/" + hashlib.sha256(_DATA).hexdigest()[:2] + "/" + hashlib.sha256(_DATA).hexdigest()
_SHA = hashlib.sha256(_DATA).digest()


def _places(key: str) -> list[str]:
    return [key, f"copies/1/{key}", f"copies/2/{key}"]


def _overwrite(store: MemoryStore, key: str, data: bytes) -> None:
    store.delete(key)
    store.put(key, [data])


def _flipped(data: bytes, at: int = 5) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "key",
    [
        f"journal/{_SHA.hex()}",
        f"packs/ab/{_SHA.hex()}",
        f"keys/00000012-{_SHA.hex()}",
        f"parity/ab/{'0' * 64}.{_SHA.hex()}",
        f"rescue/rescue-{_SHA.hex()}.py",
        f"rescue/vault-format-{_SHA.hex()}.md",
        f"copies/2/snapshots/00000001-{_SHA.hex()}",
    ],
)
def test_digest_of_a_key(key: str) -> None:
    assert digest_of_key(key) == _SHA


@pytest.mark.parametrize(
    "key", ["config", "README.txt", "lease", f"journal/a{_SHA.hex()}", f"{_SHA.hex()}/x", ""]
)
def test_keys_without_a_digest(key: str) -> None:
    assert digest_of_key(key) is None


@given(st.text(), st.data())
def test_the_check_line_tells_any_change(text: str, draw: st.DataObject) -> None:
    checked = with_check_line(text)
    assert check_line_holds(checked)
    assert without_check_line(checked).decode().removesuffix("\n") == text.removesuffix("\n")
    at = draw.draw(st.integers(0, len(checked) - 1))
    mask = draw.draw(st.integers(1, 255))
    for damaged in (
        checked[:at],
        checked[:at] + bytes([checked[at] ^ mask]) + checked[at + 1 :],
        checked + checked[at:],
    ):
        assert not check_line_holds(damaged)
        with pytest.raises(VaultDamagedError):
            without_check_line(damaged)


def test_how_many_copies_an_object_has() -> None:
    config = with_check_line("{}")
    ring = "keys/00000001-" + _SHA.hex()
    for copies, triple in ((1, {"config", ring}), (3, {"config", ring, _KEY})):
        store = MemoryStore()
        objects = RedundantObjects(store, copies)
        for key, data in (("config", config), (ring, _DATA), (_KEY, _DATA), (_PACK, _DATA)):
            objects.put(key, data)
            wanted = _places(key) if key in triple else [key]
            assert [place for place in _places(key) if store.head(place) is not None] == wanted
        assert objects.keys() == sorted(["config", ring, _KEY, _PACK])
    with pytest.raises(ValueError, match="1 or 3"):
        RedundantObjects(MemoryStore(), 2)


def test_bytes_that_do_not_belong_under_a_key_are_refused() -> None:
    objects = RedundantObjects(MemoryStore())
    for key in (_KEY, "config"):
        with pytest.raises(ValueError, match="do not belong"):
            objects.put(key, b"other")


_HARM = [
    (one, two, three)
    for one, two, three in itertools.product(("sound", "missing", "damaged"), repeat=3)
    if "sound" in (one, two, three)
]


@pytest.mark.parametrize("harm", _HARM)
@pytest.mark.parametrize("on_disk", [False, True])
def test_any_sound_copy_is_enough(harm: tuple[str, ...], on_disk: bool, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "vault", FakeClock()) if on_disk else MemoryStore()
    objects = RedundantObjects(store)
    objects.put(_KEY, _DATA)
    for place, state in zip(_places(_KEY), harm, strict=True):
        if state != "sound":
            store.delete(place)
        if state == "damaged":
            store.put(place, [_flipped(_DATA)])
    assert objects.get(_KEY) == _DATA
    assert objects.keys("journal/") == [_KEY]
    states = [
        CopyState(place, Soundness(state)) for place, state in zip(_places(_KEY), harm, strict=True)
    ]
    assert objects.inspect(_KEY) == states
    mended = objects.mend(_KEY)
    assert mended == [state.key for state in states if state.state is not Soundness.SOUND]
    assert all(store.get(place) == _DATA for place in _places(_KEY))


def test_no_sound_copy() -> None:
    store = MemoryStore()
    objects = RedundantObjects(store)
    for action in (objects.get, objects.mend, objects.delete):
        with pytest.raises(ObjectMissingError):
            action(_KEY)
    store.put(_places(_KEY)[1], [_flipped(_DATA)])
    for action in (objects.get, objects.mend):
        with pytest.raises(VaultDamagedError, match="every copy"):
            action(_KEY)
    objects.put(_KEY, _DATA)
    assert all(store.get(place) == _DATA for place in _places(_KEY))


def test_three_copies_damaged_at_different_places() -> None:
    store = MemoryStore()
    objects = RedundantObjects(store)
    objects.put(_KEY, _DATA)
    for number, place in enumerate(_places(_KEY)):
        _overwrite(store, place, _flipped(_DATA, number))
    assert objects.get(_KEY) == _DATA
    assert len(objects.mend(_KEY)) == 3
    assert all(store.get(place) == _DATA for place in _places(_KEY))
    for place in _places(_KEY):
        _overwrite(store, place, _flipped(_DATA))
    with pytest.raises(VaultDamagedError):
        objects.get(_KEY)


def test_delete_removes_every_copy() -> None:
    store = MemoryStore()
    objects = RedundantObjects(store)
    objects.put(_KEY, _DATA)
    store.delete(_KEY)
    objects.delete(_KEY)
    assert list(store.keys()) == []


def test_the_first_config_stays() -> None:
    store = MemoryStore()
    objects = RedundantObjects(store)
    first, second = with_check_line("first"), with_check_line("second")
    objects.put("config", first)
    objects.put("config", first)
    with pytest.raises(ObjectExistsError):
        objects.put("config", second)
    assert [store.get(place) for place in _places("config")] == [first] * 3
    _overwrite(store, "config", first[:-1])
    assert objects.get("config") == first
    objects.put("config", first)
    assert store.get("config") == first


class _PlaceAway(MemoryStore):
    """A store that cannot be reached when one place is read."""

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        if key == _KEY:
            raise DestinationUnreachableError("away")
        return super().get(key, start, length)


def test_a_store_that_is_away_is_not_taken_for_damage() -> None:
    objects = RedundantObjects(_PlaceAway())
    objects.put(_KEY, _DATA)
    with pytest.raises(DestinationUnreachableError):
        objects.get(_KEY)
    with pytest.raises(DestinationUnreachableError):
        objects.inspect(_KEY)


_CRASHES = list(itertools.product(range(1, 12), (Fault.DIE_BEFORE, Fault.DIE_AFTER)))


@pytest.mark.parametrize(("at", "fault"), _CRASHES)
def test_a_crash_while_a_damaged_pack_is_replaced(at: int, fault: Fault) -> None:
    """At each moment there are sound bytes, or the damaged ones that parity can mend."""
    store = MemoryStore()
    store.put(_PACK, [_flipped(_DATA)])
    try:
        RedundantObjects(FaultyStore(store, at, fault)).put(_PACK, _DATA)
    except CrashError:
        pass
    else:
        assert list(store.keys()) == [_PACK]
    if store.head(_PACK) is None:
        assert store.get(f"copies/1/{_PACK}") == _DATA
    after = RedundantObjects(store)
    try:
        after.mend(_PACK)
    except VaultDamagedError:  # only the damaged pack is there: its parity would mend it
        after.put(_PACK, _DATA)
    assert list(store.keys()) == [_PACK]
    assert store.get(_PACK) == _DATA


@pytest.mark.parametrize(("at", "fault"), _CRASHES)
def test_a_crash_between_the_copies(at: int, fault: Fault) -> None:
    """Where KEY is there, so are its copies, whether it was coming or going."""
    store = MemoryStore()
    for action in ("put", "delete"):
        objects = RedundantObjects(FaultyStore(store, at, fault))
        try:
            if action == "put":
                objects.put(_KEY, _DATA)
            else:
                objects.delete(_KEY)
        except CrashError:
            pass
        if store.head(_KEY) is not None:
            assert all(store.get(place) == _DATA for place in _places(_KEY))
        RedundantObjects(store).put(_KEY, _DATA)
