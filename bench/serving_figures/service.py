"""`dcmvault serve` in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSPHRASE = {"DCMVAULT_PASSPHRASE": "a passphrase of the bench"}


@contextmanager
def serving(
    home: Path, vault: Path, configuration: str = "", *, tells: bool = True
) -> Iterator[tuple[int, int]]:
    """Run it until the context is left; yields its port and its process id."""
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(configuration, "utf-8")
    environment = {**os.environ, "DCMVAULT_HOME": str(home), **PASSPHRASE}
    command = [sys.executable, "-m", "dcmvault", "serve", f"vault:{vault}", "--dicom-port", "0"]
    began = time.perf_counter()
    with subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            took = time.perf_counter() - began
            if tells:
                print(f"dcmvault serve: {told['studies']} studies, ready after {took:.1f} s")
            yield int(told["dicom_port"]), process.pid
        finally:
            process.terminate()
