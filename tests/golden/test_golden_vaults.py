"""Vaults written by earlier versions come back for ever, by dcmvault and by the rescue tool."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.integration.rescue_world import contents

from dcmvault.object_stores.local import LocalStore
from dcmvault.sources.local_files import unescape
from dcmvault.testing.clock import FakeClock
from dcmvault.vault.blob import BlobType
from dcmvault.vault.rebuild import rebuild_file
from dcmvault.vault.recovery_words import from_words
from dcmvault.vault.repository import Vault, open_vault
from dcmvault.vault.slots import Passphrase, RecoveryKey, Secret
from dcmvault.vault.state import VaultState, present_state, state_at

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "vaults"


class Golden(NamedTuple):
    place: Path
    manifest: dict[str, Any]

    @property
    def words(self) -> str:
        return "\n".join(self.manifest["recovery"])


@pytest.fixture(scope="module", params=sorted(p.parent.name for p in GOLDEN.glob("*/vault.tar.xz")))
def golden(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Golden:
    folder = GOLDEN / request.param
    place = tmp_path_factory.mktemp("golden")
    with tarfile.open(folder / "vault.tar.xz") as archive:
        archive.extractall(place, filter="data")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return Golden(place / "vault", manifest)


def restored(state: VaultState) -> dict[str, str]:
    """SHA-256 of what the product makes of a state."""
    found = {}
    for uid in state.studies():
        for record in state.records(uid):
            digest = hashlib.sha256()
            for piece in rebuild_file(record, state.vault.read_blob):
                digest.update(piece)
            found[unescape(record.locator)] = digest.hexdigest()
    return found


def sidecars(state: VaultState) -> dict[str, str]:
    found = {}
    for snapshot in state.states:
        for files in snapshot.sidecars.values():
            for name, _size, _digest, blobs in files:
                content = b"".join(state.vault.read_blob(BlobType.VALUE, blob) for blob in blobs)
                found[f"_library/{name}"] = hashlib.sha256(content).hexdigest()
    return found


def opened(golden: Golden, secret: Secret) -> Vault:
    clock = FakeClock()
    return open_vault(LocalStore(golden.place, clock), [secret], clock)


def test_there_are_golden_vaults() -> None:
    profiles = ("fast", "balanced", "small", "archive")
    wanted = {f"v1-{one}-{cipher}" for one in profiles for cipher in ("aes-256-gcm", "none")}
    assert {path.name for path in GOLDEN.iterdir() if path.is_dir()} >= wanted


def test_dcmvault_restores(golden: Golden) -> None:
    vault = opened(golden, Passphrase(golden.manifest["passphrase"]))
    state = present_state(vault)
    assert restored(state) | sidecars(state) == golden.manifest["present"]
    older = golden.manifest["older"]
    (link,) = (link for link in vault.links() if link.name == older["snapshot"])
    assert restored(state_at(vault, [link])) == older["files"]


def test_the_recovery_key_opens(golden: Golden) -> None:
    vault = opened(golden, RecoveryKey(from_words(golden.words)))
    assert set(restored(present_state(vault))) < set(golden.manifest["present"])


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
    assert contents(tmp_path) == (golden.manifest["present"] if now else older["files"])
