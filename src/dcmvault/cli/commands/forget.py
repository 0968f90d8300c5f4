"""`dcmvault forget`: the same as `dcmvault vault forget`."""

from __future__ import annotations

from dcmvault.cli.commands.vault_forget import command

__all__ = ["command"]
