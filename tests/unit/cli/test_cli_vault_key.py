"""`vault key` on real vaults in folders: keys come, open, and go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dcmvault import i18n
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.cli.commands.vault_key import command
from dcmvault.errors import UsageError, VaultBusyError, VaultLockedError
from dcmvault.object_stores.local import LocalStore
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.lease import hold_lease
from dcmvault.vault.recovery_words import from_words
from dcmvault.vault.repository import open_vault
from dcmvault.vault.slots import Argon2Cost, KeyFile, Passphrase, RecoveryKey

_CHEAP = Argon2Cost(iterations=1, lanes=1, memory_kib=8)


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DCMVAULT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "first")
    i18n.use_language("en")
    folder = tmp_path / "vault"
    folder.mkdir()
    store = LocalStore(folder, SystemClock())
    init_vault(store, [(Passphrase("first"), "ana")], SystemClock(), cost=_CHEAP)
    return folder


def _run(*arguments: str) -> int:
    status = command().main(list(arguments), prog_name="key", standalone_mode=False)
    assert isinstance(status, int)
    return status


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert _run(*arguments, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert isinstance(shown, dict)
    return shown


def _opens(vault: Path, *secrets: Passphrase | KeyFile | RecoveryKey) -> bool:
    try:
        open_vault(LocalStore(vault, SystemClock()), secrets, SystemClock())
    except VaultLockedError:
        return False
    return True


def test_list(vault: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("list", f"vault:{vault}") == 0
    shown = capsys.readouterr().out
    assert "passphrase" in shown
    assert "ana" in shown
    assert "Key epoch 1" in shown
    assert "365 days" in shown
    assert "1.1 TB written" in shown
    listed = _json(capsys, "list", f"vault:{vault}")
    assert [slot["kind"] for slot in listed["slots"]] == ["passphrase"]
    assert listed["rotation"] == {"days": 365, "bytes": 1 << 40}


def test_add_and_remove(vault: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"vault:{vault}"
    file = tmp_path / "vault.key"
    file.write_bytes(b"k" * 32)
    added = _json(capsys, "add", address, "--key-file", str(file), "--label", "safe")
    assert _opens(vault, KeyFile(b"k" * 32))
    first = added["slots"][0]["slot"]
    removed = _json(capsys, "remove", address, first)
    assert [slot["label"] for slot in removed["slots"]] == ["safe"]
    assert len(removed["epochs"]) == 2
    assert not _opens(vault, Passphrase("first"))
    assert _opens(vault, KeyFile(b"k" * 32))
    with pytest.raises(VaultLockedError, match="no key that was given"):
        _run("list", address)


def test_add_a_passphrase_by_reference(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECOND", "zweite")
    assert _run("add", f"vault:{vault}", "--passphrase", "env:SECOND") == 0
    assert _opens(vault, Passphrase("zweite"))


def test_add_asks_only_on_a_terminal(vault: Path) -> None:
    with pytest.raises(UsageError, match="no terminal"):
        _run("add", f"vault:{vault}")


def test_one_key_at_a_time(vault: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Name one key"):
        _run("add", f"vault:{vault}", "--key-file", str(tmp_path), "--age-recipient", "age1x")
    with pytest.raises(UsageError, match="cannot be read"):
        _run("add", f"vault:{vault}", "--key-file", str(tmp_path / "none"))


def test_rotate_and_policy(vault: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"vault:{vault}"
    assert len(_json(capsys, "rotate", address)["epochs"]) == 2
    changed = _json(capsys, "rotate", address, "--days", "30")
    assert changed["rotation"] == {"days": 30, "bytes": 1 << 40}
    assert len(changed["epochs"]) == 2
    assert _json(capsys, "rotate", address, "--gb", "5")["rotation"] == {
        "days": 30,
        "bytes": 5 * 10**9,
    }


def test_recovery(vault: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("recovery", f"vault:{vault}", "--label", "safe") == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 4
    assert _opens(vault, RecoveryKey(from_words(shown.out)))
    assert "not shown again" in shown.err


def test_waits_for_nobody_who_holds_the_lease(vault: Path) -> None:
    clock = SystemClock()
    with hold_lease(LocalStore(vault, clock), clock, "prune"), pytest.raises(VaultBusyError):
        _run("rotate", f"vault:{vault}")
    assert _run("rotate", f"vault:{vault}") == 0


def test_a_folder_is_no_vault(tmp_path: Path, vault: Path) -> None:
    with pytest.raises(UsageError, match="is not a vault"):
        _run("list", str(tmp_path))


def test_without_encryption(
    tmp_path: Path, vault: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    init_vault(LocalStore(bare, SystemClock()), [], SystemClock(), encrypted=False)
    assert _run("list", f"vault:{bare}") == 0
    assert "not encrypted" in capsys.readouterr().out
    with pytest.raises(UsageError, match="not encrypted"):
        _run("recovery", f"vault:{bare}")
