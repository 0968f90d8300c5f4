"""`python -m dcmvault` is the command `dcmvault`."""

from __future__ import annotations

from dcmvault.cli.main import main

main()
