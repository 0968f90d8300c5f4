"""A channel that appends each notice to a file, one JSON object per line."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dcmvault.config.notifications_section import EVENT_WORDS, ChannelSection
from dcmvault.config.plugins import Plugin
from dcmvault.errors import NotificationRefusedError, NotificationUnreachableError
from dcmvault.model.notice import Message
from dcmvault.ports.surroundings import Surroundings


class AppendSection(ChannelSection):
    """The options of the channel, beside those that all channels have."""

    usual_events = EVENT_WORDS

    channel: Literal["append"] = "append"
    #: The file that is appended to.
    path: Path


@dataclass(frozen=True, slots=True)
class AppendNotifier:
    """Appends; what `send` returned from is on the disk."""

    path: Path

    @property
    def name(self) -> str:
        """Say where it goes."""
        return str(self.path)

    def send(self, message: Message) -> str:
        """Append one line."""
        line = json.dumps(message.body, ensure_ascii=False).encode() + b"\n"
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, line)
                os.fsync(file)
            finally:
                os.close(file)
        except (IsADirectoryError, PermissionError) as error:
            raise NotificationRefusedError(
                f"nothing can be appended there: {error.strerror}", hint="check “path”"
            ) from error
        except OSError as error:
            raise NotificationUnreachableError(
                f"the file cannot be written: {error.strerror}", hint="is its disk mounted?"
            ) from error
        return "one line was appended"


def _build(section: AppendSection, surroundings: Surroundings) -> AppendNotifier:  # noqa: ARG001 - every plug-in is called so
    return AppendNotifier(section.path)


#: What the entry point names.
PLUGIN = Plugin(AppendSection, _build)
