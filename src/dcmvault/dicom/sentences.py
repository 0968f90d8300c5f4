"""What an error says, ended as sentences end: entries and sources speak in sentences."""

from __future__ import annotations


def sentence(message: str) -> str:
    """End a message as sentences end."""
    return message if message.endswith((".", "!", "?")) else f"{message}."
