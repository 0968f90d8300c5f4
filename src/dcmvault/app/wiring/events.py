"""Who announces that a source changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.sections import FolderSourceSection, HorosSourceSection
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _


class Events(Protocol):
    """Announces changes from `start` until `stop`."""

    def start(self) -> None:
        """Begin to listen, anew if it did before."""
        ...

    def stop(self) -> None:
        """Listen no longer."""
        ...


def source_events(
    workplace: Workplace, address: str, announced: Callable[[float], None]
) -> Events | None:
    """Make what listens to a source's folder; None for a source that has none here.

    Raises UsageError where the package that listens is not installed.
    """
    section = workplace.source_section(address)
    if not isinstance(section, FolderSourceSection | HorosSourceSection):
        return None
    try:
        from dcmvault.sources.events import FolderEvents  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        raise UsageError(
            _("Watching needs a package that is not installed."),
            hint=_("Install dcmvault[watch]."),
        ) from error
    # What we write ourselves is no change, should the state folder be in the source.
    return FolderEvents(Path(section.path).resolve(), announced, without=(workplace.home,))
