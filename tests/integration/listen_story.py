"""`dcmvault listen` as a process: its configuration, and the events that it tells."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from scripts.peer_launch import free_port
from tests.conftest import StartDcmvault

from dcmvault.dicom.part10 import scan


def configure(home: Path, *lines: str, settle_s: float = 0.5, keep_days: float = 0) -> int:
    """Write a configuration with a listener on a free port, and return the port.

    `lines` follow in the table [listener].
    """
    port = free_port()
    (home / "config.toml").write_text(
        "\n".join(
            (
                "[retry]",
                "wait_s = 0.2",
                "[listener]",
                f"port = {port}",
                f"settle_s = {settle_s}",
                f"keep_days = {keep_days}",
                "reserve_mb = 10",
                *lines,
            )
        )
    )
    return port


class Listen:
    """A running `dcmvault listen --json`."""

    def __init__(self, start: StartDcmvault, *destinations: str | Path) -> None:
        to = [part for one in destinations for part in ("--to", str(one))]
        self.process: subprocess.Popen[str] = start("listen", *to, "--json", "--progress", "none")
        self.until(lambda event: event["event"] == "listening")

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read events up to one that is wanted, and return it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if wanted(event):
                return event
        assert self.process.stderr is not None
        raise AssertionError(self.process.stderr.read())

    def stop(self) -> int:
        """End it as a service manager does, and return its exit status."""
        self.process.terminate()
        self.process.communicate(timeout=60)
        return self.process.returncode


def held_in(folder: Path) -> set[str]:
    """Read the SOP Instance UIDs of the copies in a folder destination."""
    return {scan(path).sop_instance_uid for path in folder.rglob("*.dcm")}


def in_spool(home: Path) -> list[Path]:
    """List what is in the spool, though folders go while they are looked at."""
    found: list[Path] = []
    for study in (home / "spool" / "studies").glob("*"):
        with suppress(FileNotFoundError):
            found += study.iterdir()
    return found
