"""Any sequence of what can happen to a vault: what it holds is what a simple model says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.integration.vault_acts import SIDE
from tests.integration.vault_world import COST, PASSPHRASE, Files, Process, VaultWorld

from dcmvault.errors import StudyHeldError
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.object_stores.wrapping import WrappedStore
from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.vault import blob_packs, index_renewal, key_changes, merging, outgoing, prune, writer
from dcmvault.vault.check import CheckRequest, check
from dcmvault.vault.choosing import Choice
from dcmvault.vault.lease import hold_lease
from dcmvault.vault.prune import PruneRequest
from dcmvault.vault.repository import Vault
from dcmvault.vault.retention import (
    KeepPolicy,
    apply_policy,
    forget_snapshots,
    forget_study,
    hold_study,
    release_study,
)
from dcmvault.vault.slots import KeyFile
from dcmvault.vault.state import present_state

STUDIES, INSTANCES = 3, 2
#: So many prunes without grace time leave nothing: one may make something else superfluous.
ROUNDS = 4
#: Other sizes than usual: with tiny files everything happens that else takes gigabytes.
SIZES: dict[str, dict[tuple[object, str], int]] = {
    "usual": {},
    "tiny": {
        (outgoing, "PACK_BYTES"): 1500,
        (blob_packs, "PACK_BYTES"): 3000,
        (merging, "SMALL_PACK_BYTES"): 2000,
        (writer, "BLOCK_BYTES"): 2000,
        (writer, "RECORDS_PER_BLOB"): 2,
        (prune, "_LEAST_REWRITTEN_BYTES"): 0,
        (index_renewal, "_MANY_INDEXES"): 2,
    },
    "packs that are never put together": {
        (merging, "SMALL_PACK_BYTES"): 0,
        (prune, "_LEAST_REWRITTEN_BYTES"): 0,
    },
}


@cache
def contents() -> list[bytes]:
    """Files of a few studies, each with another header and with other pixels; and no DICOM."""
    made: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        for study in range(STUDIES):
            for number in range(INSTANCES):
                uid = make_uid("model", study, number)
                for name, pixels in (("A", b""), ("B", b""), ("A", b"other")):
                    elements: dict[str, object] = {"PatientName": name}
                    if pixels:
                        elements["PixelData"] = pixels.ljust(2 * SIDE * SIDE, b"\1")
                    make_instance(
                        path,
                        make_uid("s", study),
                        make_uid("r", study),
                        uid,
                        rows=SIDE,
                        columns=SIDE,
                        elements=elements,
                    )
                    made.append(path.read_bytes())
    whole = made[0]
    return [*made, b"", b"no DICOM", whole[:300], whole[:-100], whole[128:]]


def locators() -> st.SearchStrategy[str]:
    return st.sampled_from(["1.dcm", "2.dcm", "a/1.dcm"])


def batches() -> st.SearchStrategy[list[tuple[str, int]]]:
    one = st.tuples(locators(), st.integers(0, len(contents()) - 1))
    return st.lists(one, min_size=1, max_size=3, unique_by=lambda pair: pair[0])


SOURCES = st.sampled_from(["/x", "/y"])
WHO = st.sampled_from(["A", "B", "new"])


class Meanwhile(WrappedStore):
    """A store that lets somebody else do something before it writes the first snapshot."""

    meanwhile: Callable[[], None] | None = None

    def put(self, key: str, chunks: object) -> int:
        """Store an object."""
        if "snapshots/" in key and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return self._inner.put(key, chunks)  # type: ignore[arg-type]


class VaultMachine(RuleBasedStateMachine):
    """A vault, two processes that live long, and others that come and go."""

    @initialize(sizes=st.sampled_from(sorted(SIZES)), redundant=st.booleans(), aes=st.booleans())
    def begin(self, sizes: str, redundant: bool, aes: bool) -> None:
        self.stack = ExitStack()
        patches = self.stack.enter_context(pytest.MonkeyPatch.context())
        for (module, name), size in SIZES[sizes].items():
            patches.setattr(module, name, size)
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.world = VaultWorld(MemoryStore(), Files(Path(folder)), redundant, aes).init()
        self.model = self.world.model
        self.processes: dict[str, Process] = {}

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    def process(self, who: str) -> Process:
        if who == "new":
            return self.world.process()
        return self.processes.setdefault(who, self.world.process())

    # Backups

    @rule(who=WHO, source=SOURCES, batch=batches(), snapshot=st.booleans())
    def back_up(
        self,
        who: str,
        source: str,
        batch: list[tuple[str, int]],
        snapshot: bool,
    ) -> None:
        process = self.process(who)
        self.world.clock.advance(1)
        process.back_up(source, [(locator, contents()[which]) for locator, which in batch])
        if snapshot:
            process.snapshot(source)

    @rule(who=WHO)
    def take_snapshot(self, who: str) -> None:
        self.world.clock.advance(1)
        self.process(who).snapshot()

    @rule(source=SOURCES, ours=batches(), theirs=batches())
    def two_at_once(
        self, source: str, ours: list[tuple[str, int]], theirs: list[tuple[str, int]]
    ) -> None:
        """Another process backs up and takes its snapshot just before ours is written."""
        self.world.clock.advance(1)
        store = Meanwhile(self.world.store)
        process, other = self.world.process(store), self.process("B")

        def meanwhile() -> None:
            other.back_up("/theirs", [(locator, contents()[which]) for locator, which in theirs])
            other.snapshot("/theirs")

        store.meanwhile = meanwhile
        process.back_up(source, [(locator, contents()[which]) for locator, which in ours])
        process.snapshot(source)

    @rule(who=st.sampled_from(["A", "B"]))
    def end_process(self, who: str) -> None:
        self.processes.pop(who, None)

    # What is kept

    @rule(last=st.integers(1, 3))
    def forget_by_policy(self, last: int) -> None:
        self.world.clock.advance(1)
        vault = self.world.opened()
        choice = Choice(vault)
        _kept, gone = apply_policy(KeepPolicy(last=last), choice.links, self.world.clock.now())
        self._forget(vault, [one.name for one in gone])

    @rule(chosen=st.sets(st.integers(0, 9), max_size=5))
    def forget_some(self, chosen: set[int]) -> None:
        """Forget snapshots from the middle, as policies do that keep some for longer."""
        self.world.clock.advance(1)
        vault = self.world.opened()
        at_top = {link.name for link in present_state(vault).links}
        names = [link.name for link in Choice(vault).links if link.name not in at_top]
        self._forget(vault, [name for number, name in enumerate(names) if number in chosen])

    def _forget(self, vault: Vault, names: list[str]) -> None:
        seen = dict(self.model.present)
        link = forget_snapshots(vault, names)
        for name in names:
            del self.model.snapshots[name]
        if link is not None:
            self.model.snapshots[link.name] = seen

    @rule(number=st.integers(0, 9))
    @precondition(lambda self: self.model.studies())
    def forget_study(self, number: int) -> None:
        self.world.clock.advance(1)
        studies = self.model.studies()
        uid = studies[number % len(studies)]
        vault = self.world.opened()
        if uid in self.model.held:
            with pytest.raises(StudyHeldError):
                forget_study(vault, uid)
            return
        seen = dict(self.model.present)
        link = forget_study(vault, uid)
        assert link is not None
        self.model.forget(uid)
        self.model.snapshots[link.name] = seen

    @rule(number=st.integers(0, 9))
    @precondition(lambda self: self.model.studies())
    def hold_or_release(self, number: int) -> None:
        self.world.clock.advance(1)
        studies = self.model.studies()
        uid = studies[number % len(studies)]
        vault = self.world.opened()
        seen = dict(self.model.present)
        if uid in self.model.held:
            link = release_study(vault, uid)
            self.model.held.discard(uid)
        else:
            link = hold_study(vault, uid, "a lawsuit")
            self.model.held.add(uid)
        assert link is not None
        self.model.snapshots[link.name] = seen

    @rule(at_once=st.booleans())
    def prune(self, at_once: bool) -> None:
        self.world.clock.advance(1)
        grace = timedelta(0) if at_once else prune.GRACE
        request = PruneRequest(grace, most_dropped=1.0)
        result = prune.prune(self.world.opened(), request)
        assert result.notes == []
        for _round in range(ROUNDS if at_once else 0):
            again = prune.prune(self.world.opened(), request)
            if (again.condemned_packs, again.removed_packs, again.waiting_packs) == (0, 0, 0):
                break
        else:
            assert not at_once, "there is always something left to prune"

    @rule(hours=st.integers(1, 30))
    def pass_time(self, hours: int) -> None:
        self.world.clock.advance(hours * 3600)

    # Keys

    @rule(what=st.sampled_from(["rotate", "add", "remove"]))
    def change_keys(self, what: str) -> None:
        if not self.world.encrypted:
            return
        self.world.clock.advance(1)
        with self.changing_keys() as vault:
            keys, objects, now = vault.sealing.keys, vault.objects, self.world.clock.now()
            if what == "rotate":
                key_changes.rotate(objects, keys, now)
            elif what == "add":
                secret = KeyFile(f"{len(keys.slots)}/{now}".encode().ljust(32, b"."))
                key_changes.add_slot(objects, keys, secret, label="x", now=now, cost=COST)
            elif len(keys.slots) > 1:
                slot = keys.slots[-1]
                assert slot.holder.kind is not PASSPHRASE.kind
                key_changes.remove_slot(objects, keys, slot.holder.slot, now)

    @contextmanager
    def changing_keys(self) -> Iterator[Vault]:
        vault = self.world.opened()
        with hold_lease(vault.store, vault.clock, "keys"):
            yield vault

    # What must hold

    @rule()
    def check(self) -> None:
        found = check(self.world.opened(), CheckRequest(read_data=True))
        assert found.errors == ()

    @invariant()
    def is_as_the_model_says(self) -> None:
        if hasattr(self, "world"):
            self.world.compare()
            assert present_state(self.world.opened()).holds().keys() == self.model.held


def _run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        VaultMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_sequence() -> None:
    _run(examples=20, steps=20)


@pytest.mark.nightly
def test_any_sequence_for_long() -> None:
    _run(examples=1500, steps=50)
