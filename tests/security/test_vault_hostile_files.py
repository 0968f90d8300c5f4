"""No byte is refused: hostile, damaged and foreign files come back from a vault as they were."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.vault_world import Files, VaultWorld
from tests.security.test_hostile_files import HOSTILE, SLOW_TO_SCAN, Hostile, deflate_bomb

from dcmvault.config.sections import VaultProfile
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.testing.recipe_files import write_recipe_files

#: Most resident memory that storing and restoring these files may need, interpreter included.
MAX_RSS_BYTES = 300 << 20
#: Places at which each file is cut off, and changes that are made to each.
CUTS, CHANGES = 16, 12
BATCH = 100

_CHILD = """
import hashlib, json, sys
from pathlib import Path
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.sections import VaultDestinationSection
from dcmvault.destinations.vault import VaultDestination
from dcmvault.dicom.part10 import scan
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile
from dcmvault.model.snapshot import Origin
from dcmvault.object_stores.local import LocalStore
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.rebuild import rebuild_file
from dcmvault.vault.repository import open_vault
from dcmvault.vault.state import present_state

def peak():
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) * 1024

folder, clock = Path(sys.argv[1]), SystemClock()
store = LocalStore(folder / "vault", clock)
init_vault(store, [], clock, encrypted=False)
section = VaultDestinationSection(location=str(folder / "vault"), profile="balanced")
destination = VaultDestination(section, lambda: open_vault(store, [], clock), clock)
origin = Origin("run", "source")
answers = {}
for path in sorted((folder / "files").iterdir()):
    try:
        header = scan(path)
    except MalformedDicomError:
        header = None
    stat = path.stat()
    fingerprint = Fingerprint(stat.st_size, stat.st_mtime_ns, stat.st_ino)
    with destination.open((), origin) as delivery:
        delivery.put(InstanceFile(InstanceEntry(path.name, fingerprint), path, header))
        delivery.flush()
    answers[path.name] = {"peak": peak()}
destination.take_snapshot(origin, None)
vault = open_vault(store, [], clock)
state = present_state(vault)
for uid in state.studies():
    for record in state.records(uid):
        digest = hashlib.sha256()
        for piece in rebuild_file(record, vault.read_blob):
            digest.update(piece)
        answers[record.locator] |= {"sha256": digest.hexdigest(), "restore_peak": peak()}
print(json.dumps(answers))
"""


#: What goes beyond the files of the scanner's tests.
MORE: Hostile = {
    "deflate bomb in the pixels": lambda: deflate_bomb(before_identity=False),
    "empty": bytes,
    "garbage with DICM": lambda: bytes(128) + b"DICM" + random.Random(1).randbytes(100_000),
}


@pytest.mark.skipif(sys.platform == "darwin", reason="its peak is not measured per process")
@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param({**HOSTILE, **MORE}, id="usual"),
        pytest.param(SLOW_TO_SCAN, id="slow", marks=pytest.mark.nightly),
    ],
)
def test_hostile_files_come_back_in_bounded_memory(tmp_path: Path, hostile: Hostile) -> None:
    (tmp_path / "files").mkdir()
    expected: dict[str, str] = {}
    for number, make in enumerate(hostile.values()):
        path = tmp_path / "files" / f"{number:02}"
        path.write_bytes(make())
        expected[path.name] = subprocess.check_output(["sha256sum", path], text=True).split()[0]
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    answers = json.loads(child.stdout)
    assert {key: one.get("sha256") for key, one in answers.items()} == expected
    names = dict(zip(sorted(expected), hostile, strict=True))
    peaks = {names[key]: (one["peak"], one["restore_peak"]) for key, one in answers.items()}
    assert max(max(pair) for pair in peaks.values()) < MAX_RSS_BYTES, peaks


def _variants(content: bytes, chance: random.Random) -> Iterator[bytes]:
    yield content
    yield content[128:]
    for _number in range(CUTS):
        yield content[: chance.randrange(len(content) + 1)]
    for _number in range(CHANGES if content else 0):
        changed = bytearray(content)
        for _byte in range(chance.randrange(1, 4)):
            at = chance.randrange(min(len(changed), 2000))
            changed[at] = chance.choice((0, 0xFF, 0x7F, chance.randrange(256)))
        yield bytes(changed)


@pytest.mark.parametrize("profile", ["fast", "balanced"])
def test_damaged_files_come_back(tmp_path: Path, profile: VaultProfile) -> None:
    folder, work = tmp_path / "recipes", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    write_recipe_files(folder)
    chance = random.Random(profile)
    world = VaultWorld(MemoryStore(), Files(work), redundant=False).init()
    process = world.process(profile=profile)
    files = [
        (f"{path.name}/{number}", variant)
        for path in sorted(path for path in folder.rglob("*") if path.is_file())
        if path.stat().st_size < 200_000
        for number, variant in enumerate(_variants(path.read_bytes(), chance))
    ]
    for start in range(0, len(files), BATCH):
        process.back_up("/x", files[start : start + BATCH])
    process.snapshot()
    world.compare()
