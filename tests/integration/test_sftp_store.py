"""The SFTP store against an OpenSSH that is killed, hangs, lies about its key or refuses."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from scripts import peer_processes
from scripts.peer_launch import free_port, wait_until
from scripts.peer_processes import Sshd

from dcmvault.errors import (
    ConfigurationError,
    DestinationAbsentError,
    DestinationStoppedError,
    DestinationUnreachableError,
    ObjectMissingError,
)
from dcmvault.object_stores import sftp_connection, sftp_swap
from dcmvault.object_stores.sftp import SftpStore

pytestmark = pytest.mark.peers

_MIB = 1 << 20


class World:
    """A folder of the peer's, and stores on it that end with the test."""

    def __init__(self, sshd: Sshd) -> None:
        self.sshd = sshd
        self.root = sshd.storage / secrets.token_hex(4)
        self.stores: list[SftpStore] = []

    def store(self, **arguments: object) -> SftpStore:
        given: dict[str, object] = {
            "host": self.sshd.host,
            "path": str(self.root),
            "port": self.sshd.port,
            "user": self.sshd.user,
            "key_file": self.sshd.private_key,
            "known_hosts": self.sshd.known_hosts,
            **arguments,
        }
        store = SftpStore(**given)  # type: ignore[arg-type]  # the table above is plain
        self.stores.append(store)
        return store

    def connections(self) -> list[int]:
        """Return the ids of the processes that serve connections of this sshd."""
        found: list[int] = []
        parents = [self.sshd.process.pid]
        while parents:
            children = [pid for pid, parent in _processes() if parent in parents]
            found += children
            parents = children
        return found

    def signal_connections(self, number: signal.Signals) -> None:
        for process in self.connections():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)


def _processes() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                state = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield int(folder.name), int(state.rpartition(")")[2].split()[1])


@pytest.fixture
def world(sshd: Sshd) -> Iterator[World]:
    world = World(sshd)
    yield world
    for store in world.stores:
        store.close()
    shutil.rmtree(world.root, ignore_errors=True)


@pytest.fixture
def own_world() -> Iterator[World]:
    """The same with an sshd of this test's own, which it may harm."""
    with peer_processes.sshd() as sshd:
        world = World(sshd)
        yield world
        world.signal_connections(signal.SIGCONT)
        for store in world.stores:
            store.close()


def _reconfigure(sshd: Sshd, line: str) -> None:
    """Let sshd read its configuration again, with this line before all others."""
    path = sshd.folder / "sshd_config"
    path.write_text(f"{line}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    heard = sshd.log.count("listening on")
    sshd.process.send_signal(signal.SIGHUP)
    wait_until("sshd", sshd, lambda: sshd.log.count("listening on") > heard)


# Connecting.


@pytest.mark.parametrize("empty", [True, False])
def test_an_unknown_host_is_not_trusted(world: World, tmp_path: Path, empty: bool) -> None:
    known = tmp_path / "known_hosts"
    if empty:
        known.write_text("# nobody\n", encoding="ascii")
    store = world.store(known_hosts=known)
    with pytest.raises(DestinationStoppedError, match="is not in known_hosts"):
        store.head("key")
    assert not world.root.exists()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_another_host_key_stops(world: World, tmp_path: Path, kind: str) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", tmp_path / "other"], check=True)
    key = (tmp_path / "other.pub").read_text(encoding="ascii")
    known = tmp_path / "known_hosts"
    known.write_text(f"[{world.sshd.host}]:{world.sshd.port} {key}", encoding="ascii")
    store = world.store(known_hosts=known)
    for _ in range(2):
        with pytest.raises(DestinationStoppedError, match="ANOTHER KEY"):
            store.put("key", [b"x"])
    assert not world.root.exists()


def test_the_default_is_the_users_own_known_hosts(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DestinationStoppedError, match="is not in known_hosts"):
        world.store(known_hosts=None).put("key", [b"x"])
    (tmp_path / ".ssh").mkdir()
    shutil.copy(world.sshd.known_hosts, tmp_path / ".ssh" / "known_hosts")
    assert world.store(known_hosts=None).put("key", [b"x"]) == 1


def test_wrong_logins(own_world: World, tmp_path: Path) -> None:
    _reconfigure(own_world.sshd, "PasswordAuthentication yes")
    wrong = tmp_path / "wrong"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wrong], check=True)
    for login in (
        {"key_file": None, "password": secrets.token_hex()},
        {"key_file": wrong},
        {"user": "nobody-of-that-name"},
    ):
        with pytest.raises(DestinationStoppedError, match="does not accept the login") as caught:
            own_world.store(**login).put("key", [b"x"])
        assert str(tmp_path) not in str(caught.value)
    assert not own_world.root.exists()


def test_key_files(world: World, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    shutil.copy(world.sshd.private_key, locked)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "open it", "-f", locked], check=True)
    assert world.store(key_file=locked, key_passphrase="open it").put("key", [b"x"]) == 1
    for passphrase in ("wrong", None):
        with pytest.raises(ConfigurationError, match="key file"):
            world.store(key_file=locked, key_passphrase=passphrase).get("key")
    for bad in (tmp_path / "none", world.sshd.known_hosts):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            world.store(key_file=bad).get("key")


def test_the_agents_key(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = tmp_path / "agent"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    monkeypatch.setenv("HOME", str(tmp_path))
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        try:
            while not socket.exists():
                assert agent.poll() is None
                time.sleep(0.01)
            with pytest.raises(DestinationStoppedError, match="does not accept the login"):
                world.store(key_file=None).put("key", [b"x"])
            subprocess.run(["ssh-add", "-q", world.sshd.private_key], check=True)
            assert world.store(key_file=None).put("key", [b"x"]) == 1
        finally:
            agent.terminate()


def test_nobody_there(world: World) -> None:
    with pytest.raises(DestinationUnreachableError, match="refuses connections"):
        world.store(port=free_port()).put("key", [b"x"])
    with pytest.raises(DestinationUnreachableError, match="is not known"):
        world.store(host="no-such-host.invalid").put("key", [b"x"])


def test_a_host_without_sftp(own_world: World) -> None:
    path = own_world.sshd.folder / "sshd_config"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("Subsystem sftp internal-sftp", ""), encoding="utf-8")
    _reconfigure(own_world.sshd, "")
    with pytest.raises(DestinationStoppedError, match="offers no SFTP"):
        own_world.store().put("key", [b"x"])


@pytest.mark.parametrize("allowed", [1, 2])
def test_a_host_that_allows_few_sessions(own_world: World, allowed: int) -> None:
    _reconfigure(own_world.sshd, f"MaxSessions {allowed}")
    store = own_world.store()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: store.put(f"a/{number}", [b"x" * 9]), range(30)))
    assert len(list(store.keys())) == 30
    assert len(store._connection._sessions) == allowed


def test_a_forgotten_store_ends_its_thread(world: World) -> None:
    def threads() -> int:
        gc.collect()
        return sum(thread.name == "sftp" for thread in threading.enumerate())

    before = threads()
    store = world.store()
    store.put("key", [b"x"])
    assert threads() == before + 1
    store.close()
    assert threads() == before
    assert store.get("key") == b"x"
    world.stores.clear()
    del store
    assert threads() == before


# Roots.


def test_where_nothing_is(world: World) -> None:
    store = world.store(path=f"{world.root}/none/deeper")
    for read in (store.get, store.head, lambda _: list(store.keys())):
        with pytest.raises(DestinationAbsentError, match="is not there"):
            read("key")
    with pytest.raises(DestinationAbsentError, match="is not there"):
        store.put("key", [b"x"])


def test_a_root_that_goes_away_is_not_made_again(world: World) -> None:
    store = world.store()
    store.put("a/key", [b"x"])
    world.root.rename(world.root.with_name("away"))
    try:
        with pytest.raises(DestinationUnreachableError):
            store.put("a/other", [b"x"])
        world.root.mkdir()  # an empty mount point
        with pytest.raises(DestinationUnreachableError, match="went away"):
            store.put("a/other", [b"x"])
        assert list(world.root.iterdir()) == []
    finally:
        shutil.rmtree(world.root.with_name("away"))


def test_removed_folders_are_made_again(world: World) -> None:
    store = world.store()
    store.put("a/b/key", [b"x"])
    shutil.rmtree(world.root / "a")
    store.put("a/b/other", [b"x"])
    assert list(store.keys()) == ["a/b/other"]


def test_a_path_relative_to_where_the_login_begins(world: World) -> None:
    home = Path(f"~{world.sshd.user}").expanduser()
    relative = os.path.relpath(world.root, home)
    world.store(path=relative).put("key", [b"x"])
    assert (world.root / "key").read_bytes() == b"x"


def test_links_and_strange_names_are_no_objects(world: World) -> None:
    store = world.store()
    store.put("a/key", [b"x"])
    (world.root / "link").symlink_to(world.root / "a" / "key")
    (world.root / "linked").symlink_to(world.root / "a")
    (world.root / "not a key").write_bytes(b"x")
    assert list(store.keys()) == ["a/key"]
    assert store.head("link") is None
    with pytest.raises(ObjectMissingError):
        store.get("link")


def test_objects_are_their_owners_alone(world: World) -> None:
    world.store().put("a/key", [b"x"])
    assert (world.root / "a").stat().st_mode & 0o777 == 0o700
    assert (world.root / "a" / "key").stat().st_mode & 0o777 == 0o600


def test_a_disk_without_permission(world: World) -> None:
    if os.geteuid() == 0:
        # Root may write everywhere but here.
        store = world.store(path="/proc/dcmvault")
    else:
        world.root.mkdir(0o500)
        store = world.store(path=f"{world.root}/none")
    with pytest.raises((DestinationStoppedError, DestinationAbsentError)):
        store.put("key", [b"x"])


# Lost connections.


def test_a_lost_connection_is_made_again(own_world: World) -> None:
    store = own_world.store()
    store.put("key", [b"x"])
    for _ in range(3):
        own_world.signal_connections(signal.SIGKILL)
        try:
            assert store.get("key") == b"x"
        except DestinationUnreachableError:
            assert store.get("key") == b"x"


def test_a_connection_that_was_forgotten_while_idle(
    own_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a firewall: no answer, no end."""
    monkeypatch.setattr(sftp_connection, "_IDLE_S", 0.0)
    monkeypatch.setattr(sftp_connection, "_PROBE_S", 0.5)
    store = own_world.store()
    store.put("key", [b"x"])
    own_world.signal_connections(signal.SIGSTOP)
    assert store.get("key") == b"x"


def test_a_host_that_hangs(own_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sftp_connection, "_ANSWER_S", 0.5)
    store = own_world.store()
    store.put("key", [b"x"])
    own_world.signal_connections(signal.SIGSTOP)
    with pytest.raises(DestinationUnreachableError, match="was lost"):
        store.get("key")
    assert store.get("key") == b"x"


@pytest.mark.parametrize("sent", [0, 1, 3, 7])
def test_the_peer_is_killed_in_the_middle_of_a_put(own_world: World, sent: int) -> None:
    store = own_world.store()
    store.put("packs/other", [b"x"])
    content = [secrets.token_bytes(_MIB) for _ in range(8)]

    def chunks() -> Iterator[bytes]:
        yield from content[:sent]
        own_world.signal_connections(signal.SIGKILL)
        yield from content[sent:]

    with pytest.raises(DestinationUnreachableError, match="was lost"):
        store.put("packs/key", chunks())
    assert store.head("packs/key") is None
    assert list(store.keys()) == ["packs/other"]
    assert store.put("packs/key", content) == 8 * _MIB
    assert own_world.store().get("packs/key") == b"".join(content)


def test_a_peer_that_dies_at_any_moment_leaves_whole_objects(own_world: World) -> None:
    """Writers go on through kills; what a put returned for is there, whole."""
    store = own_world.store()
    kept: list[str] = []

    def write(number: int) -> None:
        content = bytes([number]) * 300_000
        for _ in range(20):
            try:
                store.put(f"{number % 3}/{number}", [content])
            except DestinationUnreachableError:
                continue
            kept.append(f"{number % 3}/{number}")
            return
        raise AssertionError("no put in twenty succeeded")

    with ThreadPoolExecutor(4) as pool:
        done = pool.map(write, range(40))
        for _ in range(5):
            time.sleep(0.05)
            own_world.signal_connections(signal.SIGKILL)
        assert len(list(done)) == 40
    fresh = own_world.store()
    assert sorted(fresh.keys()) == sorted(kept)
    for key in kept:
        assert fresh.get(key) == bytes([int(key[2:])]) * 300_000


def test_what_a_crash_left_is_swept_a_day_later(world: World) -> None:
    world.store().put("key", [b"x"])
    staging = world.root / ".staging"
    (staging / "old").write_bytes(b"old")
    (staging / "new").write_bytes(b"new")
    yesterday = time.time() - 25 * 3600
    os.utime(staging / "old", (yesterday, yesterday))
    world.store().put("other", [b"x"])
    assert [path.name for path in staging.iterdir()] == ["new"]


# Durability.


def test_bytes_and_names_are_brought_to_the_medium_in_order(own_world: World) -> None:
    """OpenSSH is asked: fsync of the file, its name, fsync of the folder; then put returns."""
    store = own_world.store()
    store.put("packs/first", [b"x"])
    trace = own_world.sshd.folder / "trace"
    command = ["strace", "-f", "-y", "-e", "trace=fsync,link", "-o", str(trace)]
    command += [f"-p{process}" for process in own_world.connections()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") as strace:
        try:
            assert strace.stderr is not None
            for _ in own_world.connections():
                assert "attached" in strace.stderr.readline()
            store.put("packs/second", [b"y"])
        finally:
            strace.terminate()
    calls = re.findall(r"(fsync|link)\((.*)\) += 0", trace.read_text(encoding="utf-8"))
    names = [(call, re.sub(r"[0-9a-f]{32}", "ID", what)) for call, what in calls]
    root = str(own_world.root)
    assert names[0][0] == "fsync"
    assert names[0][1].endswith(f"<{root}/.staging/ID>")
    assert names[1] == ("link", f'"{root}/.staging/ID", "{root}/packs/second"')
    assert names[2][1].endswith(f"<{root}/packs>")
    assert len(names) == 3


# Swapping.


def _swapped(world: World, key: str) -> Path:
    return Path(sftp_swap.folder_of(str(world.root), key))


def test_a_swap_that_died_before_it_showed(world: World) -> None:
    """The generation counts; the object under its key follows with the next swap."""
    store = world.store()
    assert store.swap("lease", None, b"one")
    (_swapped(world, "lease") / "000000000002").write_bytes(b"\1two")
    assert (world.root / "lease").read_bytes() == b"one"
    assert store.get("lease") == b"two"
    assert not store.swap("lease", b"one", b"three")
    assert store.swap("lease", b"two", b"three")
    assert (world.root / "lease").read_bytes() == b"three"


def test_a_removal_that_died_before_it_showed(world: World) -> None:
    store = world.store()
    assert store.swap("lease", None, b"one")
    (_swapped(world, "lease") / "000000000002").write_bytes(b"")
    store.delete("lease")
    assert store.head("lease") is None
    assert store.swap("lease", None, b"two")
    assert store.get("lease") == b"two"


def test_an_object_that_was_put_is_swapped_too(world: World) -> None:
    store = world.store()
    store.put("lease", [b"put"])
    assert not store.swap("lease", None, b"one")
    assert store.swap("lease", b"put", b"one")
    store.delete("lease")
    store.put("lease", [b"put again"])
    assert store.get("lease") == b"put again"
    assert store.swap("lease", b"put again", b"two")


def test_old_generations_are_removed_and_sleepers_give_up(world: World) -> None:
    store = world.store()
    value: bytes | None = None
    for number in range(1, 13):
        assert store.swap("lease", value, b"%d" % number)
        value = b"%d" % number
    folder = _swapped(world, "lease")
    assert len(list(folder.iterdir())) == 12
    long_ago = time.time() - 2 * 24 * 3600
    for path in folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert store.swap("lease", value, b"13")
    left = sorted(int(path.name) for path in folder.iterdir())
    assert left == list(range(6, 14))
    # Somebody who looked when 3 was the newest, and slept for days, takes 4, which is free.
    session = store._connection.session()
    advance = sftp_swap._advance(
        session.client, str(world.root), f"{world.root}/.staging", "lease", 3, b"sleeper"
    )
    assert session.run(advance) is False
    assert sorted(int(path.name) for path in folder.iterdir()) == left
    assert store.get("lease") == b"13"
    assert not list((world.root / ".staging").iterdir())


def test_a_counter_under_swaps_loses_nothing(world: World) -> None:
    """Several stores, as processes on several hosts, add to one number."""
    world.store().swap("counter", None, b"0")
    stores = [world.store() for _ in range(3)]

    def add(store: SftpStore) -> None:
        for _ in range(10):
            while True:
                now = store.get("counter")
                if store.swap("counter", now, b"%d" % (int(now) + 1)):
                    break

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(add, stores))
    assert world.store().get("counter") == b"30"
