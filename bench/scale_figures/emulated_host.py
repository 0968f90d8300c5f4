"""Hosts of their own on one machine: a network namespace each, a link, and a share of a core.

The link is a pair of virtual interfaces with a token bucket on either side, the share a quota of
the kernel's scheduler (control groups of either version). All needs root, and a namespace of the
bench's own (`unshare --net`), with which the links go.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

#: So many times as much as others a group's processes get of what there is, up to their quota.
_WEIGHT = 8
#: Where all hosts reach what is shared: an address on the loopback of the bench's namespace.
SERVER = "10.77.0.1"
_PERIOD_US = 20_000
_GENEROUS_S = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a host has: the rate of its link each way, and how much of a core; 0: no limit."""

    megabits_per_s: int = 0
    cores: float = 0.0

    def __str__(self) -> str:
        link = f"{self.megabits_per_s} Mbit/s" if self.megabits_per_s else ""
        core = f"{self.cores:g} of a core" if self.cores else ""
        return " and ".join(filter(None, (link, core))) or "no limit"


def make_shared_address() -> None:
    """Have `SERVER` in this namespace. SystemExit where this needs more rights."""
    if os.geteuid() != 0:
        raise SystemExit("Hosts with networks of their own need root: sudo make bench")
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{SERVER}/32", "dev", "lo")


@dataclass(slots=True)
class EmulatedHost:
    """A host, from its first worker until its `close`."""

    number: int
    home: Path
    limits: Limits
    environment: Mapping[str, str]
    process: subprocess.Popen[str] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)
    _holder: subprocess.Popen[bytes] = field(init=False)
    _group: Path | None = None

    def __post_init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self._stack.callback(_end, self._holder)
        ours = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{self._holder.pid}/ns/net").readlink() == ours:
            time.sleep(0.01)
        link, subnet = self._link, f"10.77.{self.number + 1}"
        # The shell of the namespace has no name of its own for it.
        peer = ("peer", "name", "eth0", "netns", str(self._holder.pid))
        _run("ip", "link", "add", link, "type", "veth", *peer)
        _run("ip", "address", "add", f"{subnet}.1/24", "dev", link)
        _run("ip", "link", "set", link, "up")
        self._inside("ip", "address", "add", f"{subnet}.2/24", "dev", "eth0")
        self._inside("ip", "link", "set", "eth0", "up")
        self._inside("ip", "link", "set", "lo", "up")
        self._inside("ip", "route", "add", "default", "via", f"{subnet}.1")
        if rate := self.limits.megabits_per_s:
            bucket = ("root", "tbf", "rate", f"{rate}mbit", "burst", "64kb", "latency", "50ms")
            _run("tc", "qdisc", "add", "dev", link, *bucket)
            self._inside("tc", "qdisc", "add", "dev", "eth0", *bucket)
        if self.limits.cores:
            self._group = _group_with(f"dcmvault-bench-{os.getpid()}-{link}", self.limits.cores)

    def begin(self) -> None:
        """Start its worker, and wait until it works."""
        enter = ("nsenter", "--target", str(self._holder.pid), "--net")
        with (self.home / "stderr").open("ab") as errors:
            self.process = subprocess.Popen(
                [*enter, sys.executable, "-m", "dcmvault", "worker", "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                env={**os.environ, **self.environment, "DCMVAULT_HOME": str(self.home)},
            )
        if self._group is not None:
            (self._group / "cgroup.procs").write_text(str(self.process.pid))
        assert self.process.stdout is not None
        if not self.process.stdout.readline().endswith("}\n"):
            raise SystemExit(f"A worker did not begin:\n{(self.home / 'stderr').read_text()}")

    def kill(self) -> None:
        """End its worker as a power cut does."""
        self._end(signal.SIGKILL)

    def cut_off(self, *, is_off: bool = True) -> None:
        """Pull its network cable, or plug it in again."""
        _run("ip", "link", "set", self._link, "down" if is_off else "up")

    def close(self) -> None:
        """End its worker in order, and have it no more."""
        self._end(signal.SIGTERM)
        self._stack.close()
        if self._group is not None:
            self._group.rmdir()

    @property
    def _link(self) -> str:
        return f"host{self.number}"

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(number)
        with process:
            process.wait(_GENEROUS_S)

    def _inside(self, *command: str) -> None:
        _run("nsenter", "--target", str(self._holder.pid), "--net", *command)


def _group_with(name: str, cores: float) -> Path:
    """Make a control group whose processes get so much of a core, whatever else goes on here."""
    root = Path("/sys/fs/cgroup")
    quota = int(cores * _PERIOD_US)
    if (root / "cgroup.controllers").exists():
        (root / "cgroup.subtree_control").write_text("+cpu")
        group = root / name
        group.mkdir()
        (group / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        (group / "cpu.weight").write_text(str(100 * _WEIGHT))
        return group
    group = root / "cpu" / name
    group.mkdir()
    (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
    (group / "cpu.cfs_quota_us").write_text(str(quota))
    (group / "cpu.shares").write_text(str(1024 * _WEIGHT))
    return group


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
