"""The profile `auto`: as much effort as a vault's place leaves time for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from dcmvault.vault.profile import DEFAULT_PROFILE, PROFILES, Profile

#: What encoding costs and gains, profile by profile, on frames of CT, MR and CR: content bytes a
#: second and core, and stored bytes per content byte. Only their relations matter here.
_RATES = {"fast": 112e6, "balanced": 46e6, "small": 22e6, "archive": 6e6}
_SIZES = {"fast": 0.27, "balanced": 0.23, "small": 0.20, "archive": 0.196}
#: Bytes that were measured before anything is concluded.
_ENOUGH_BYTES = 4 << 20
#: What was measured counts half after so many bytes: a network changes.
_MEMORY_BYTES = 256 << 20


@dataclass(slots=True)
class _Rate:
    """Bytes a second, the latest counting most."""

    size: float = 0.0
    seconds: float = 0.0

    def add(self, size: int, seconds: float) -> None:
        if self.size > _MEMORY_BYTES:
            self.size, self.seconds = self.size / 2, self.seconds / 2
        self.size += size
        self.seconds += seconds

    @property
    def value(self) -> float:
        """Bytes a second; 0 while too little was measured."""
        return self.size / self.seconds if self.size >= _ENOUGH_BYTES and self.seconds else 0.0


@dataclass(slots=True)
class EffortGauge:
    """Measures encoders and store, and says which profile keeps the encoders ahead.

    Safe for several threads; one for each vault and process.
    """

    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    #: Told of seconds in which all encoders (`encode`) or the store (`write`) were busy.
    spent: Callable[[str, float], None] = lambda _stage, _seconds: None
    _stored: _Rate = field(default_factory=_Rate)
    #: Encoding under each profile, scaled to what `fast` would do.
    _encoded: _Rate = field(default_factory=_Rate)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stored(self, size: int, seconds: float) -> None:
        """Note that the store took so many bytes in so many seconds."""
        self.spent("write", seconds)
        with self._lock:
            self._stored.add(size, seconds)

    def encoded(self, profile: Profile, size: int, seconds: float) -> None:
        """Note that one core encoded so many bytes of content in so many seconds."""
        self.spent("encode", seconds / self.cores)
        with self._lock:
            self._encoded.add(size, seconds * _RATES[profile.name] / _RATES["fast"])

    def profile(self) -> Profile:
        """Return the highest profile whose encoding is no slower than the store's writing.

        The default one until enough was measured; the fastest where none is fast enough.
        """
        with self._lock:
            stored, fast = self._stored.value, self._encoded.value
        if not stored or not fast:
            return DEFAULT_PROFILE
        chosen = PROFILES["fast"]
        for name, profile in PROFILES.items():
            encodes = fast * self.cores * _RATES[name] / _RATES["fast"]
            if encodes >= stored / _SIZES[name]:
                chosen = profile
        return chosen
