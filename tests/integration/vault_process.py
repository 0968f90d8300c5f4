"""A process at a vault, to be killed: `prune|write VAULT ...`; says when it is ready, then works.

`prune VAULT GRACE_HOURS` prunes once. `write VAULT SOURCE FOLDER BATCH` backs a folder up in
batches, each with its own snapshot. `prunes VAULT` prunes until its standard input ends.
"""

from __future__ import annotations

import os
import select
import sys
from datetime import timedelta
from pathlib import Path

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.sections import VaultDestinationSection
from dcmvault.destinations.vault import VaultDestination
from dcmvault.dicom.part10 import scan
from dcmvault.errors import VaultBusyError
from dcmvault.model.identifiers import RunId
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile
from dcmvault.model.snapshot import Origin
from dcmvault.object_stores.local import LocalStore
from dcmvault.vault.prune import PruneRequest, prune
from dcmvault.vault.repository import Vault, open_vault

ATTEMPTS = 10


def opened(place: Path) -> Vault:
    """Open an unencrypted vault."""
    clock = SystemClock()
    return open_vault(LocalStore(place, clock), [], clock)


def ready() -> None:
    """Say so, and wait until somebody answers."""
    print("ready", flush=True)
    sys.stdin.readline()


def prune_once(place: Path, grace_hours: str) -> None:
    """Prune whatever the share."""
    vault = opened(place)
    ready()
    prune(vault, PruneRequest(timedelta(hours=float(grace_hours)), most_dropped=1.0))


def prune_on_and_on(place: Path) -> None:
    """Prune with the usual grace time until the standard input ends."""
    ready()
    rounds = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        prune(opened(place), PruneRequest(most_dropped=1.0))
        rounds += 1
    print(rounds, flush=True)


def write(place: Path, source: str, folder: Path, batch: int) -> None:
    """Back up, a snapshot after each batch."""
    section = VaultDestinationSection(location=str(place), profile="fast")
    destination = VaultDestination(section, lambda: opened(place), SystemClock())
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    ready()
    for start in range(0, len(paths), batch):
        origin = Origin(RunId(f"{source}-{start}"), source)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with destination.open((), origin) as delivery:
                    for path in paths[start : start + batch]:
                        delivery.put(instance_file(path, folder))
                    delivery.flush()
                destination.take_snapshot(origin, None)
                break
            except VaultBusyError:
                if attempt == ATTEMPTS:
                    raise
        print(start, flush=True)


def instance_file(path: Path, folder: Path) -> InstanceFile:
    """Describe a file below a folder."""
    stat = path.stat()
    fingerprint = Fingerprint(stat.st_size, stat.st_mtime_ns, stat.st_ino)
    entry = InstanceEntry(os.fspath(path.relative_to(folder)), fingerprint)
    return InstanceFile(entry, path, scan(path))


def main() -> None:
    """Do what the arguments say."""
    what, place, *rest = sys.argv[1:]
    if what == "prune":
        prune_once(Path(place), *rest)
    elif what == "prunes":
        prune_on_and_on(Path(place))
    else:
        source, folder, batch = rest
        write(Path(place), source, Path(folder), int(batch))


if __name__ == "__main__":
    main()
