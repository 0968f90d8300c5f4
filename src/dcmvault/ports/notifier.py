"""The port of channels: who is told."""

from __future__ import annotations

from typing import Protocol

from dcmvault.model.notice import Message


class Notifier(Protocol):
    """One channel. Used by one thread at a time; nothing is connected before a message is sent."""

    @property
    def name(self) -> str:
        """Say where messages go, for people; without any secret."""
        ...

    def send(self, message: Message) -> str:
        """Hand a message over, and return what was answered, in a short sentence without secrets.

        On return the next one in line has it. The same message may be sent again (its
        `notice_id` is then the same), because an answer may be lost. Every wait ends: within two
        minutes it returns or raises.

        Raises NotificationUnreachableError where nobody took it now, and
        NotificationRefusedError where somebody answered no; and, of a channel with several
        recipients, NotificationPartlyTakenError where some were told and some were not; nothing
        else. No message of any contains a secret. A message `only_for` some goes to those alone.
        """
        ...
