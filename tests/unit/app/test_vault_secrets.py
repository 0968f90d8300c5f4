"""What opens a vault is what its section refers to, else the environment's passphrase."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcmvault.app.vault_secrets import vault_secrets
from dcmvault.config.sections import VaultSection
from dcmvault.errors import ConfigurationError
from dcmvault.vault.slots import AgeIdentity, KeyFile, Passphrase


def test_everything_that_is_configured_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "not asked for")
    monkeypatch.setenv("MY_PASSPHRASE", "open sesame")
    (tmp_path / "key").write_bytes(b"\xff" * 40)
    (tmp_path / "identity").write_text("AGE-SECRET-KEY-1")
    section = VaultSection(
        location="/vault",
        passphrase="env:MY_PASSPHRASE",
        key_file=f"{tmp_path}/key",
        identity_file=f"{tmp_path}/identity",
    )
    assert vault_secrets(section) == [
        Passphrase("open sesame"),
        KeyFile(b"\xff" * 40),
        AgeIdentity("AGE-SECRET-KEY-1"),
    ]
    assert "sesame" not in repr(section) + repr(vault_secrets(section))


def test_the_environment_s_passphrase_is_for_what_is_not_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "from the environment")
    assert vault_secrets(VaultSection(location="/vault")) == [Passphrase("from the environment")]
    monkeypatch.delenv("DCMVAULT_PASSPHRASE")
    assert vault_secrets(VaultSection(location="/vault")) == []


def test_what_cannot_be_had_is_said(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * ((1 << 20) + 1))
    (tmp_path / "binary").write_bytes(b"\xff")
    for section, says in (
        (VaultSection(location="/v", key_file=f"{tmp_path}/none"), "cannot be read"),
        (VaultSection(location="/v", key_file=f"{tmp_path}/large"), "larger than"),
        (VaultSection(location="/v", identity_file=f"{tmp_path}/binary"), "no text"),
        (VaultSection(location="/v", passphrase="env:DCMVAULT_SURELY_NOT_SET"), "is not set"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            vault_secrets(section)
