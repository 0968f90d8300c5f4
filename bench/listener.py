"""How fast the listener takes what it makes durable: `python -m bench.listener [--rounds N]`.

Four associations of DCMTK's dcmsend (TCP_NODELAY=1) send 150 CT slices each, by turns to our
listener, which answers every instance after its fsync, and to DCMTK's storescp (with and without
--fork), which never syncs; medians count, the faster of the two is what ours stands beside.
Then, with 20 idle sockets and an announced PDU of 4 GB, the time of a C-ECHO and the memory.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.delivery_figures.files import ct_slices
from scripts.peer_launch import free_port

from dcmvault.dicom import pdu

_ASSOCIATIONS = 4
_SLICES = 150
_ASKED_SHARE = 0.4
_ASKED_ECHO_S = 1.0
_ASKED_MB = 50.0
_AE_TITLE = "DCMVAULT"
_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
#: What runs as the listener's process: its spool and its service as the product has them.
_PROCESS = """
import signal, sys
from pathlib import Path
from dcmvault.dicom.commitment_scp import CommitmentScp
from dcmvault.dicom.spool import Spool
from dcmvault.dicom.association_scp import ScpRules
from dcmvault.dicom.storage_scp import StorageScp
with Spool(Path(sys.argv[1])) as spool:
    rules = ScpRules("DCMVAULT", port=int(sys.argv[2]))
    with StorageScp(rules, spool, CommitmentScp([spool.sop_classes])):
        signal.sigwait({signal.SIGTERM})
"""


@contextmanager
def _served(command: Sequence[str], port: int) -> Iterator[int]:
    """Run a server until the end, once its port is open; yield its process id."""
    with subprocess.Popen(command, env=_ENVIRONMENT) as process:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()


def _ours(spool: Path, port: int) -> list[str]:
    return [sys.executable, "-c", _PROCESS, str(spool), str(port)]


def _storescp(*options: str) -> Callable[[Path, int], list[str]]:
    def command(folder: Path, port: int) -> list[str]:
        folder.mkdir()
        return ["storescp", *options, "--output-directory", str(folder), str(port)]

    return command


def _instances_per_s(folders: Sequence[Path], port: int) -> float:
    began = time.perf_counter()
    senders = [
        subprocess.Popen(
            ["dcmsend", "-aec", _AE_TITLE, "--scan-directories", "127.0.0.1", str(port), str(one)],
            env=_ENVIRONMENT,
        )
        for one in folders
    ]
    if any(sender.wait() for sender in senders):
        raise SystemExit("dcmsend failed")
    return len(folders) * _SLICES / (time.perf_counter() - began)


def _split(folder: Path) -> list[Path]:
    """Make CT slices, and a folder of its own for each association."""
    made = ct_slices(folder / "ct", _ASSOCIATIONS * _SLICES)
    folders = [folder / f"sent{number}" for number in range(_ASSOCIATIONS)]
    for place in folders:
        place.mkdir()
    for number, path in enumerate(sorted(made.iterdir())):
        path.rename(folders[number // _SLICES] / path.name)
    for place in folders:
        for path in place.iterdir():
            path.read_bytes()
    return folders


def _measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    folders = _split(folder)
    contenders: dict[str, Callable[[Path, int], list[str]]] = {
        "dcmvault": _ours,
        "storescp --fork": _storescp("--fork"),
        "storescp": _storescp(),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _round in range(rounds):
        for name, command in contenders.items():
            place, port = folder / "received", free_port()
            with _served(command(place, port), port):
                rates[name].append(_instances_per_s(folders, port))
            received = sum(path.is_file() for path in place.rglob("*") if path.name != "lock")
            if received != _ASSOCIATIONS * _SLICES:
                raise SystemExit(f"{name} kept {received} instances")
            shutil.rmtree(place)
            # What the others left to the system to write must not be written at our cost.
            os.sync()
    return rates


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


def _besieged(folder: Path) -> tuple[float, float]:
    """Return the seconds of a C-ECHO beside idle sockets and an endless PDU, and what they cost."""
    port = free_port()
    with _served(_ours(folder / "besieged", port), port) as pid, ExitStack() as stack:
        echo = ["echoscu", "-aec", _AE_TITLE, "127.0.0.1", str(port)]
        subprocess.run(echo, check=True)
        before = _peak_mb(pid)
        for number in range(22):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            if number >= 20:
                kind = pdu.A_ASSOCIATE_RQ if number == 20 else pdu.P_DATA_TF
                connection.sendall(pdu.HEADER.pack(kind, 0xFFFFFFFF) + bytes(50_000))
        began = time.perf_counter()
        subprocess.run(echo, check=True)
        return time.perf_counter() - began, _peak_mb(pid) - before


def _verdict(is_reached: bool) -> str:
    return "REACHED" if is_reached else "NOT REACHED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; its disk is what is measured")
    arguments = parser.parse_args()
    version = subprocess.run(["storescp", "--version"], capture_output=True, text=True, check=False)
    print(f"beside {version.stdout.splitlines()[0]}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        rates = _measure(Path(name), arguments.rounds)
        echo_s, cost_mb = _besieged(Path(name))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        low, high = min(values), max(values)
        print(f"{name:16} {medians[name]:7.0f} instances/s  ({low:.0f} to {high:.0f})")
    share = medians["dcmvault"] / max(rate for name, rate in medians.items() if name != "dcmvault")
    print(
        f"durable / never synced {share:6.2f}  asked at least {_ASKED_SHARE}:"
        f" {_verdict(share >= _ASKED_SHARE)}"
    )
    print(
        f"C-ECHO besieged {echo_s * 1000:9.0f} ms  asked at most {_ASKED_ECHO_S:g} s:"
        f" {_verdict(echo_s <= _ASKED_ECHO_S)}"
    )
    print(
        f"memory besieged {cost_mb:9.1f} MB  asked at most {_ASKED_MB:g} MB:"
        f" {_verdict(cost_mb <= _ASKED_MB)}"
    )


if __name__ == "__main__":
    main()
