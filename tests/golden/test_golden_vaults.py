"""Vaults written by earlier versions come back for ever, by dcmvault and by the rescue tool."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.conftest import RunDcmvault
from tests.integration.rescue_world import contents

from dcmvault.object_stores.local import LocalStore
from dcmvault.sources.local_files import unescape
from dcmvault.testing.clock import FakeClock
from dcmvault.vault.rebuild import rebuild_file
from dcmvault.vault.recovery_words import from_words
from dcmvault.vault.repository import open_vault
from dcmvault.vault.slots import RecoveryKey
from dcmvault.vault.state import VaultState, present_state, state_at

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "vaults"


class Golden(NamedTuple):
    place: Path
    manifest: dict[str, Any]

    @property
    def restored(self) -> dict[str, str]:
        """SHA-256 of each file that a restore makes, by its path."""
        sidecar = self.manifest["sidecar"].items()
        library = {f"_library/images/{name}": sha256 for name, sha256 in sidecar}
        return printable(self.manifest["present"]) | library

    @property
    def words(self) -> str:
        return "\n".join(self.manifest["recovery"])


def printable(files: dict[str, str]) -> dict[str, str]:
    """Control characters in names come back as underscores."""
    return {re.sub(r"[\x00-\x1f]", "_", path): sha256 for path, sha256 in files.items()}


@pytest.fixture(scope="module", params=sorted(p.parent.name for p in GOLDEN.glob("*/vault.tar.xz")))
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    folder = GOLDEN / request.param
    place = tmp_path_factory.mktemp("golden")
    with tarfile.open(folder / "vault.tar.xz") as archive:
        archive.extractall(place, filter="data")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return Golden(place / "vault", manifest)


def rebuilt(state: VaultState) -> dict[str, str]:
    """SHA-256 of what the product makes of a state."""
    found = {}
    for uid in state.studies():
        for record in state.records(uid):
            digest = hashlib.sha256()
            for piece in rebuild_file(record, state.vault.read_blob):
                digest.update(piece)
            found[unescape(record.locator)] = digest.hexdigest()
    return found


def test_there_are_golden_vaults() -> None:
    profiles = ("fast", "balanced", "small", "archive")
    wanted = {f"v1-{one}-{cipher}" for one in profiles for cipher in ("aes-256-gcm", "none")}
    assert {path.name for path in GOLDEN.iterdir() if path.is_dir()} >= wanted


def test_dcmvault_restores(golden: Golden, run_dcmvault: RunDcmvault, tmp_path: Path) -> None:
    secret = {"DCMVAULT_PASSPHRASE": golden.manifest["passphrase"]}
    done = run_dcmvault("restore", f"vault:{golden.place}", tmp_path, env=secret)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == golden.restored


def test_the_recovery_key_opens_and_the_past_is_there(golden: Golden) -> None:
    clock = FakeClock()
    key = RecoveryKey(from_words(golden.words))
    vault = open_vault(LocalStore(golden.place, clock), [key], clock)
    assert rebuilt(present_state(vault)) == golden.manifest["present"]
    older = golden.manifest["older"]
    (link,) = (link for link in vault.links() if link.name == older["snapshot"])
    assert rebuilt(state_at(vault, [link])) == older["files"]


@pytest.mark.parametrize("key", ["passphrase", "recovery"])
def test_the_rescue_tool_restores(golden: Golden, tmp_path: Path, key: str) -> None:
    older = golden.manifest["older"]
    now = key == "passphrase"
    command = [sys.executable, str(ROOT / "tools/rescue.py"), str(golden.place), str(tmp_path)]
    secret = golden.manifest["passphrase"] if now else golden.words
    subprocess.run(
        command if now else [*command, "--snapshot", older["snapshot"]],
        env={**os.environ, "DCMVAULT_PASSPHRASE": secret, "PYTHONSAFEPATH": "1"},
        check=True,
        capture_output=True,
    )
    assert contents(tmp_path) == (golden.restored if now else printable(older["files"]))
