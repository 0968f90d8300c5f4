"""Verify: what can be asked for, before a run is started for it."""

from __future__ import annotations

from pathlib import Path

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.sections import HorosSourceSection
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _


def refuse_unknown_source(workplace: Workplace, name: str) -> None:
    """Refuse to verify what was never backed up: of a misspelt source, nothing is missing.

    `name` is a canonical address; a plain path may be a library that is not mounted now.
    """
    known = [source.name for source in workplace.catalogue.status.sources() if source.instances]
    library = "" if ":" in name else HorosSourceSection(path=Path(name)).address
    if name in known or library in known:
        return
    raise UsageError(
        _("Nothing of %(source)s was ever backed up, so there is nothing to verify.")
        % {"source": name},
        hint=_("Known sources: %(known)s.") % {"known": ", ".join(known) or "-"},
    )
