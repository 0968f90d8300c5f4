"""The local store's own promises: modes, sweeping, what disk errors mean, power cuts, kill -9."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmvault.errors import (
    DcmvaultError,
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    InstanceRefusedError,
    ObjectExistsError,
)
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.clock import FakeClock


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(root, FakeClock())


def test_only_the_owner_can_read(store: LocalStore, root: Path) -> None:
    before = os.umask(0)
    try:
        store.put("a/b", [b"x"])
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}
    assert modes == {"root": 0o700, ".staging": 0o700, "a": 0o700, "b": 0o600}


def test_a_write_makes_the_root_but_not_its_parent(tmp_path: Path) -> None:
    LocalStore(tmp_path / "new", FakeClock()).put("a", [b"x"])
    with pytest.raises(DestinationUnreachableError):
        LocalStore(tmp_path / "no" / "new", FakeClock()).put("a", [b"x"])
    assert not (tmp_path / "no").exists()


def test_nothing_is_concluded_from_a_missing_root(store: LocalStore) -> None:
    for ask in (lambda: store.head("a"), lambda: store.get("a"), lambda: next(store.keys())):
        with pytest.raises(DestinationUnreachableError):
            ask()


def test_root_that_is_a_file(root: Path, store: LocalStore) -> None:
    root.write_text("a file")
    with pytest.raises(DestinationError):
        store.put("a", [b"x"])


def test_foreign_files_are_no_objects(store: LocalStore, root: Path) -> None:
    store.put("a/b", [b"x"])
    (root / ".DS_Store").write_text("x")
    (root / "a name").write_text("x")
    (root / "a" / "link").symlink_to(root / "a" / "b")
    (root / "linked").symlink_to(root / "a")
    assert list(store.keys()) == ["a/b"]
    assert store.head("a/link") is None


def test_leftovers_of_a_crash_are_swept_after_a_day(root: Path) -> None:
    clock = FakeClock()
    LocalStore(root, clock).put("a", [b"x"])
    now = clock.now().timestamp()
    for name, age_s in (("young", 23 * 3600), ("old", 25 * 3600)):
        path = root / ".staging" / name
        path.write_text("x")
        os.utime(path, (now - age_s, now - age_s))
    LocalStore(root, clock).put("b", [b"x"])
    assert [path.name for path in (root / ".staging").iterdir()] == ["young"]


def test_folders_removed_behind_its_back_are_made_again(store: LocalStore, root: Path) -> None:
    store.put("a/b/c", [b"x"])
    (root / "a" / "b" / "c").unlink()
    (root / "a" / "b").rmdir()
    (root / "a").rmdir()
    store.put("a/b/c", [b"y"])
    assert store.get("a/b/c") == b"y"


@pytest.mark.parametrize("leaves_a_mount_point", [True, False])
def test_nothing_is_written_below_a_disk_that_went_away(
    store: LocalStore, root: Path, *, leaves_a_mount_point: bool
) -> None:
    """Some systems leave the empty mount point of a lost disk, others remove it."""
    store.put("a", [b"1"])
    disk = root.rename(root.with_name("disk"))
    if leaves_a_mount_point:
        root.mkdir()
    with pytest.raises(DestinationUnreachableError):
        store.put("b", [b"2"])
    assert not list(root.iterdir()) if leaves_a_mount_point else not root.exists()
    if leaves_a_mount_point:
        root.rmdir()
    disk.rename(root)
    store.put("b", [b"2"])
    assert list(store.keys()) == ["a", "b"]


def test_a_disk_that_goes_away_before_the_name_is_given(store: LocalStore, root: Path) -> None:
    staged = store.stage()
    staged.write(b"1")
    root.rename(root.with_name("disk"))
    root.mkdir()
    with pytest.raises(DestinationUnreachableError):
        staged.commit("studies/a")
    staged.discard()
    assert not list(root.iterdir())


def test_evict_keeps_the_bytes(store: LocalStore) -> None:
    store.put("a", [b"x" * 100_000])
    assert store.evict("a") is (sys.platform == "linux")
    assert store.get("a") == b"x" * 100_000


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DestinationStoppedError),
        (errno.EDQUOT, DestinationStoppedError),
        (errno.EROFS, DestinationStoppedError),
        (errno.EACCES, DestinationStoppedError),
        (errno.EIO, DestinationUnreachableError),
        (errno.ESTALE, DestinationUnreachableError),
        (errno.EFBIG, InstanceRefusedError),
        (errno.EMFILE, DestinationStoppedError),
    ],
)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "mkdir", "link"])
def test_what_disk_errors_mean(
    store: LocalStore,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[DcmvaultError],
    call: str,
) -> None:
    store.put("first", [b"x"])

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), "/folder/Doe^Jane")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(kind) as caught:
            store.put("a/second", [b"y"])
    assert caught.value.message
    assert caught.value.hint
    assert "Doe" not in caught.value.message + caught.value.hint
    assert list(store.keys()) == ["first"]
    assert list((root / ".staging").iterdir()) == []


def test_full_disk_for_real(root: Path, store: LocalStore) -> None:
    """Linux's device that is always full, as staged file."""
    if not Path("/dev/full").exists():
        return  # not this system's way to be full
    store.put("first", [b"x"])
    staged = store.stage()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, staged._descriptor)
    os.close(full)
    with pytest.raises(DestinationStoppedError, match="full"):
        staged.write(b"y")
    staged.discard()


def test_unreadable_object_is_not_the_same(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector under the key: the copy there is damaged, so ours is another one."""
    store.put("a", [b"bytes"])

    def fail(*arguments: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(ObjectExistsError):
        store.put("a", [b"bytes"])
    with pytest.raises(DestinationError) as caught:
        store.get("a")
    assert type(caught.value) is DestinationError


class PowerCuts:
    """Journals what matters to durability, in order, as a disk without mercy would take it.

    Worst case at each moment: a file has the bytes of its last fsync, a name exists durably
    only from its folder's next fsync on, and may exist (though not durably) from its making on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, object, object]] = []
        for name in ("write", "fsync", "link", "mkdir", "rename"):
            monkeypatch.setattr(os, name, self._recording(name))

    def _recording(self, name: str):  # type: ignore[no-untyped-def] # wraps whatever os has
        real = getattr(os, name)

        def call(*arguments, **options):  # type: ignore[no-untyped-def]
            answer = real(*arguments, **options)
            if name in ("write", "fsync"):
                self.events.append((name, os.fstat(arguments[0]).st_ino, None))
            elif name == "mkdir":
                path = Path(arguments[0])
                self.events.append(("name", path.parent.stat().st_ino, path.stat().st_ino))
            else:
                path = Path(arguments[1])
                self.events.append(("name", path.parent.stat().st_ino, path.stat().st_ino))
            return answer

        return call

    def check(self, path: Path, root: Path) -> None:
        """Whenever the name may be there its bytes are; in the end every name on the way is."""
        file = path.stat().st_ino
        dirty = False
        for name, one, two in self.events:
            if name == "write" and one == file:
                dirty = True
            if name == "fsync" and one == file:
                dirty = False
            assert not (name == "name" and two == file and dirty), "named before its bytes were"
        assert not dirty
        for step in [path, *path.parents][: len(path.relative_to(root).parts)]:
            inode, folder = step.stat().st_ino, step.parent.stat().st_ino
            named = [i for i, (n, _, two) in enumerate(self.events) if n == "name" and two == inode]
            synced = [
                i for i, (n, one, _) in enumerate(self.events) if (n, one) == ("fsync", folder)
            ]
            assert named, f"{step.name} was never named"
            assert synced, f"the name {step.name} may be lost"
            assert max(synced) > named[-1], f"the name {step.name} may be lost"


@pytest.mark.parametrize("links", [True, False])
def test_power_cuts(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def refuse(*arguments: object, **options: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
    cuts = PowerCuts(monkeypatch)
    store.put("a/b/one", [b"some", b"bytes"])
    cuts.check(root / "a" / "b" / "one", root.parent)
    store.put("a/two", [b"others"])
    cuts.check(root / "a" / "two", root.parent)


def test_the_bytes_that_were_there_are_made_durable_too(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer who was faster may not have come to its own fsync yet."""
    root.mkdir()
    (root / "a").mkdir()
    (root / "a" / "b").write_bytes(b"same")
    cuts = PowerCuts(monkeypatch)
    store.put("a/b", [b"same"])
    assert cuts.events[-1][:2] == ("fsync", (root / "a").stat().st_ino)
    assert ("fsync", root.stat().st_ino, None) in cuts.events


_WRITER = """
import hashlib, random, sys
from pathlib import Path
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.clock import FakeClock
store = LocalStore(Path(sys.argv[1]), FakeClock())
content = random.Random(int(sys.argv[2]))
while True:
    chunks = [content.randbytes(30_000) for _ in range(content.randint(1, 9))]
    name = hashlib.sha256(b"".join(chunks)).hexdigest()
    store.put(f"{name[:1]}/{name}", chunks)
    print(name, flush=True)
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kill_leaves_whole_objects(root: Path, store: LocalStore, seed: int) -> None:
    """After kill -9 every promised object is there, and every visible one is whole."""
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(root), str(seed)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    try:
        promised = [next(writer.stdout).strip() for _ in range(random.Random(seed).randint(3, 30))]
    finally:
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
    promised += [line for line in rest.splitlines() if len(line) == 64]
    held = {key.rpartition("/")[2]: key for key in store.keys("")}
    assert set(promised) <= set(held)
    for name, key in held.items():
        assert hashlib.sha256(store.get(key)).hexdigest() == name


def test_a_failing_producer_is_not_a_disk_error(store: LocalStore) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x"
        raise OSError(errno.ENOSPC, "the source's own error")

    with pytest.raises(OSError, match="the source's own"):
        store.put("a", chunks())
