"""What is done to a vault, one act at a time: to be disturbed, and done again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import permutations
from pathlib import Path

from tests.integration.vault_world import COST, FileKey, Model, VaultWorld, restored

from dcmvault.errors import DestinationError, UsageError
from dcmvault.ports.object_store import ObjectStore
from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.vault import index_renewal, key_changes, merging, prune
from dcmvault.vault.check import CheckRequest, check
from dcmvault.vault.choosing import Choice
from dcmvault.vault.lease import LEASE_TIME, hold_lease
from dcmvault.vault.prune import PruneRequest
from dcmvault.vault.repair import repair
from dcmvault.vault.retention import forget_snapshots, forget_study, hold_study
from dcmvault.vault.slots import KeyFile

#: With tiny files everything happens that else takes gigabytes.
SIZES: Sequence[tuple[object, str, int]] = (
    (merging, "SMALL_PACK_BYTES", 3000),
    (prune, "_LEAST_REWRITTEN_BYTES", 0),
    (index_renewal, "_MANY_INDEXES", 3),
)
NEW = "?"
#: Frames of so many rows and columns are stored by themselves.
SIDE = 24
FIRST, SECOND, THIRD = (make_uid("acts", number) for number in range(3))
_KEY_FILE = KeyFile(b"k" * 40)


@cache
def content(study: str, number: int, *, name: str = "A", pixels: int = 0) -> bytes:
    """Return one file of a study."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        elements: dict[str, object] = {"PatientName": name}
        if pixels:
            elements["PixelData"] = bytes([pixels]) * (2 * SIDE * SIDE)
        uid = make_uid(study, number)
        series = make_uid(study, "series")
        make_instance(path, study, series, uid, rows=SIDE, columns=SIDE, elements=elements)
        return path.read_bytes()


@dataclass(frozen=True)
class Act:
    """Something that is done to a vault."""

    name: str
    #: Does it, through a store.
    do: Callable[[VaultWorld, ObjectStore], None]
    #: Says in the model what has happened. A snapshot that was taken is called NEW.
    happened: Callable[[VaultWorld], None] = lambda _world: None
    #: Done before, undisturbed.
    before: Callable[[VaultWorld], None] = lambda _world: None
    #: Before it was done to its end, not everything can be read.
    mends: bool = False


def prepared(world: VaultWorld) -> VaultWorld:
    """Fill a new vault: studies with versions, two heads, journals that no snapshot took up."""
    process = world.process(profile="balanced")
    for name in ("A", "B", "C"):
        world.clock.advance(60)
        process.back_up("/x", [("1", content(FIRST, 1, name=name)), ("2", content(FIRST, 2))])
        process.back_up("/x", [("3", content(SECOND, 1, pixels=ord(name))), ("n", name.encode())])
        process.snapshot("/x")
    process.back_up("/y", [("4", content(THIRD, 1)), ("5", content(THIRD, 2))])
    process.back_up("/y", [("4", content(THIRD, 1, name="B"))])
    world.clock.advance(60)
    return world


_BROUGHT = [
    ("1", content(FIRST, 1, name="D")),
    ("6", content(THIRD, 3)),
    ("7", b"no DICOM at all"),
    ("8", content(SECOND, 7)),
]


def delivery(files: Sequence[tuple[str, bytes]]) -> Act:
    """Return the act of storing files."""

    def do(world: VaultWorld, store: ObjectStore) -> None:
        world.process(store).deliver("/x", files)

    def happened(world: VaultWorld) -> None:
        world.model.flushed({world.files.key("/x", locator, one): one for locator, one in files})

    return Act("back up", do, happened)


def _snapshot(world: VaultWorld, store: ObjectStore) -> None:
    world.process(store).destination.take_snapshot(world.origin("/y"), None)


def _taken(world: VaultWorld) -> None:
    world.model.snapshots[NEW] = dict(world.model.present)


def _forget_snapshots(world: VaultWorld, store: ObjectStore) -> None:
    vault = world.opened(store)
    forget_snapshots(vault, _oldest([link.name for link in Choice(vault).links]))


def _oldest(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(("00000001-", "00000002-"))]


def _snapshots_forgotten(world: VaultWorld) -> None:
    for name in _oldest(list(world.model.snapshots)):
        del world.model.snapshots[name]
    _taken(world)


def _forget_study(world: VaultWorld, store: ObjectStore) -> None:
    forget_study(world.opened(store), FIRST)


def _study_forgotten(world: VaultWorld) -> None:
    _taken(world)
    world.model.forget(FIRST)


def _hold(world: VaultWorld, store: ObjectStore) -> None:
    hold_study(world.opened(store), SECOND, "a lawsuit")


def _forget_much(world: VaultWorld) -> None:
    """Make garbage: whole packs of it, and packs with some of it."""
    if world.model.forgotten:
        return
    _forget_snapshots(world, world.store)
    for name in _oldest(list(world.model.snapshots)):
        del world.model.snapshots[name]
    adopt(world)
    _forget_study(world, world.store)
    world.model.forget(FIRST)
    adopt(world)
    world.process().back_up("/z", [("z", content(THIRD, 7))])
    world.clock.advance(60)


def _prune(world: VaultWorld, store: ObjectStore) -> None:
    prune.prune(world.opened(store), PruneRequest(most_dropped=1.0))


def _prune_at_once(world: VaultWorld, store: ObjectStore) -> None:
    prune.prune(world.opened(store), PruneRequest(timedelta(0), most_dropped=1.0))


def _condemn(world: VaultWorld) -> None:
    _forget_much(world)
    _prune(world, world.store)
    world.clock.advance(25 * 3600)


def _rotate(world: VaultWorld, store: ObjectStore) -> None:
    vault = world.opened(store)
    with hold_lease(store, world.clock, "rotate"):
        key_changes.rotate(vault.objects, vault.sealing.keys, world.clock.now())


def _add_slot(world: VaultWorld) -> None:
    vault = world.opened()
    key_changes.add_slot(
        vault.objects,
        vault.sealing.keys,
        _KEY_FILE,
        label="file",
        now=world.clock.now(),
        cost=COST,
    )


def _remove_slot(world: VaultWorld, store: ObjectStore) -> None:
    vault = world.opened(store)
    with hold_lease(store, world.clock, "remove"):
        slots = vault.sealing.keys.slots
        if len(slots) > 1:
            key_changes.remove_slot(
                vault.objects, vault.sealing.keys, slots[-1].holder.slot, world.clock.now()
            )


def _damage(world: VaultWorld) -> None:
    """Flip a bit in some packs, and lose copies of other objects."""
    store = world.store
    for key in list(store.keys("packs/"))[::2]:
        data = bytearray(store.get(key))
        data[len(data) // 2] ^= 1
        store.delete(key)
        store.put(key, [bytes(data)])
    for folder in ("snapshots/", "copies/1/journal/", "index/"):
        for key in list(store.keys(folder)):
            store.delete(key)


def _repair(world: VaultWorld, store: ObjectStore) -> None:
    result = repair(world.opened(store))
    assert result.after.is_sound


ACTS = {
    act.name: act
    for act in (
        delivery(_BROUGHT),
        Act("snapshot", _snapshot, _taken),
        Act("forget snapshots", _forget_snapshots, _snapshots_forgotten),
        Act("forget study", _forget_study, _study_forgotten),
        Act("hold", _hold, _taken),
        Act("prune: condemn", _prune, before=_forget_much),
        Act("prune: remove", _prune, before=_condemn),
        Act("prune at once", _prune_at_once, before=_forget_much),
        Act("rotate", _rotate),
        Act("remove slot", _remove_slot, before=_add_slot),
        Act("repair", _repair, before=_damage, mends=True),
    )
}


def settle(world: VaultWorld, act: Act) -> bool:
    """Compare what was found after a disturbed act with the model; say whether it happened.

    All that was there before and was not to go is there, and what came is whole.
    """
    after = world.copy()
    act.happened(after)
    before_view, after_view = (one.model.view(one.model.present) for one in (world, after))
    choice = Choice(world.opened())
    present = restored(choice.present())
    assert present in (before_view, after_view)
    found = {link.name: restored(choice.snapshot(link.name)) for link in choice.links}
    old = world.model.snapshots.keys()
    assert found.keys() >= old & after.model.snapshots.keys()
    assert len(found.keys() - old) <= 1
    for name, holding in found.items():
        assert holding in _allowed(world.model, after.model, name)
    return present == after_view and bool(act.happened is not _taken or found.keys() - old)


def _allowed(before: Model, after: Model, name: str) -> list[dict[FileKey, bytes]]:
    if name in before.snapshots:
        return [model.view(before.snapshots[name]) for model in (before, after)]
    assert NEW in after.snapshots, "a snapshot that nobody took"
    return [after.view(after.snapshots[NEW]), before.view(after.snapshots[NEW])]


def tried(world: VaultWorld, act: Act, error: type[DestinationError]) -> DestinationError | None:
    """Do it, with this error or without, and take into the model what has come of it."""
    raised = None
    try:
        act.do(world, world.store)
    except error as found:
        raised = found
    if raised is None or settle(world, act):
        act.happened(world)
    taken = world.model.snapshots.pop(NEW, world.model.present)
    for link in Choice(world.opened()).links:
        world.model.snapshots.setdefault(link.name, dict(taken))
    world.compare()
    return raised


def go_on(world: VaultWorld, act: Act) -> None:
    """Do it again, undisturbed, and much more; nothing needs unlocking, and nothing is lost."""
    world.clock.advance(LEASE_TIME.total_seconds() + 1)
    happened = not act.mends and settle(world, act)
    try:
        act.do(world, world.store)
    except UsageError:
        assert happened, "it was not done, and cannot be done"
    act.happened(world)
    _much_more(world)


def go_on_from(world: VaultWorld, done: Sequence[Act]) -> None:
    """Compare what two acts made of a vault, in whichever order they count; then do much more."""
    world.clock.advance(LEASE_TIME.total_seconds() + 1)
    orders = [_states(world, order) for order in permutations(done)]
    choice = Choice(world.opened())
    present = restored(choice.present())
    ends = [order[-1].model for order in orders]
    end = next((one for one in ends if one.view(one.present) == present), None)
    assert end is not None, "the present is none that these acts can make"
    found = {link.name: restored(choice.snapshot(link.name)) for link in choice.links}
    old = world.model.snapshots.keys()
    assert found.keys() >= end.snapshots.keys() - {NEW}
    possible = [end.view(one.model.present) for order in orders for one in order]
    for name, holding in found.items():
        if name in old:
            assert holding == end.view(world.model.snapshots[name])
        else:
            assert holding in possible
    world.model = end
    _much_more(world)


def _states(world: VaultWorld, order: Sequence[Act]) -> list[VaultWorld]:
    """Return the world before, between and after some acts."""
    states = [world.copy()]
    for act in order:
        states.append(states[-1].copy())
        act.happened(states[-1])
    return states


def _much_more(world: VaultWorld) -> None:
    world.model.snapshots.pop(NEW, None)
    adopt(world)
    process = world.process()
    process.back_up("/x", [("9", content(THIRD, 9)), ("1", content(FIRST, 1, name="Z"))])
    process.snapshot()
    world.compare()
    for _round in range(2):
        world.clock.advance(3600)
        _prune_at_once(world, world.store)
    world.compare()
    found = check(world.opened(), CheckRequest(read_data=True))
    assert found.errors == (), [(one.trouble, one.key, one.message) for one in found.errors]


def adopt(world: VaultWorld) -> None:
    """Take in snapshots as they are; what is in them was compared before."""
    choice = Choice(world.opened())
    for link in choice.links:
        if link.name not in world.model.snapshots:
            holding = restored(choice.snapshot(link.name))
            world.model.snapshots[link.name] = {
                key: (one, world.model.flushes) for key, one in holding.items()
            }
