"""A channel that keeps what it is sent, and fails when it is told to."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field

from dcmvault.errors import NotificationRefusedError, NotificationUnreachableError
from dcmvault.model.notice import Message


@dataclass(slots=True)
class RecordingNotifier:
    """A `ports.notifier.Notifier` in memory. Thread-safe."""

    messages: list[Message] = field(default_factory=list)
    #: Nobody takes anything now.
    is_down: bool = False
    #: Whatever comes is refused.
    refuses: bool = False
    #: Attempts that failed.
    failures: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        """Say where it goes."""
        return "memory"

    def send(self, message: Message) -> str:
        """Keep a message."""
        with self._lock:
            if self.is_down or self.refuses:
                self.failures += 1
            if self.is_down:
                raise NotificationUnreachableError("nobody is there")
            if self.refuses:
                raise NotificationRefusedError("the answer is no")
            self.messages.append(message)
            return "it was kept"

    def bodies(self) -> list[bytes]:
        """Return what came, as programs see it."""
        return [json.dumps(one.body, ensure_ascii=False).encode() for one in self.messages]
