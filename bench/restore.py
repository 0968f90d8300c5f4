"""The figure of restoring: `python -m bench.restore`.

600 CT slices of half a megabyte lie in a folder, and in a vault (as `vault init` and `backup` make
it: encrypted, with parity, on the same disk). `dcmvault restore` brings them from the vault to an
Orthanc, and `dcmvault backup` from the folder to the same Orthanc, which is emptied between; both
are whole processes with a fresh state folder, and ask for the same level. Medians count. Exits with
status 2, and the line that installs them, where a peer is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.delivery_figures import files
from bench.delivery_figures.contenders import versions
from scripts.peer_processes import Orthanc, orthanc

_SLICES = 600
_ASKED = 0.5
_COMMAND = Path(sys.executable).with_name("dcmvault")


def main() -> None:
    """Measure, print, and exit with status 1 where the figure is not reached."""
    parser = argparse.ArgumentParser(prog="python -m bench.restore", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if not shutil.which("Orthanc"):
        print("Not installed: Orthanc. On Debian and Ubuntu:", file=sys.stderr)
        print("    sudo apt-get install -y orthanc", file=sys.stderr)
        raise SystemExit(2)
    print(versions())
    with tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as work, orthanc() as peer:
        folder = files.ct_slices(Path(work, "CT"), _SLICES)
        size = files.size_of(folder)
        print(f"{_SLICES} CT slices, {size / 1e6:.0f} MB")
        vault = f"vault:{work}/vault"
        home = Path(work, "home")
        _run(home, "vault", "init", vault)
        _run(home, "backup", str(folder), "--to", vault, "--progress", "none")
        delivered, restored = [], []
        for number in range(options.runs):
            delivered.append(_timed(peer, Path(work, f"d{number}"), "backup", str(folder), "--to"))
            restored.append(_timed(peer, Path(work, f"r{number}"), "restore", vault))
    direct, back = statistics.median(delivered), statistics.median(restored)
    for name, seconds in (("from the folder", direct), ("from the vault", back)):
        print(f"{name:<20} {seconds:8.2f} s {size / seconds / 1e6:8.0f} MB/s")
    ratio = direct / back
    verdict = "REACHED" if ratio >= _ASKED else "NOT REACHED"
    print(f"restore beside delivery: {ratio:.2f} x, asked {_ASKED:g} x: {verdict}")
    sys.exit(0 if ratio >= _ASKED else 1)


def _timed(peer: Orthanc, home: Path, *command: str) -> float:
    """Carry out a command that brings all slices to an empty Orthanc; return its seconds."""
    peer.wipe()
    began = time.perf_counter()
    _run(home, *command, peer.address, "--progress", "none")
    took = time.perf_counter() - began
    if peer.statistics()["CountInstances"] != _SLICES:
        raise SystemExit(f"{command[0]} did not bring all slices")
    return took


def _run(home: Path, *command: str) -> None:
    environment = {
        **os.environ,
        "DCMVAULT_HOME": str(home),
        "DCMVAULT_PASSPHRASE": "what opens this vault",
    }
    words: Sequence[str] = (str(_COMMAND), *command)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]}: status {done.returncode}\n{done.stderr}{done.stdout}")


if __name__ == "__main__":
    main()
