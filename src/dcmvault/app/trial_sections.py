"""Sources and destinations by name, as the configuration has them or the first run drafts them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dcmvault.app.first_run_draft import Draft, DraftPlace
from dcmvault.app.vault_access import is_vault
from dcmvault.config.load import settings_of
from dcmvault.config.sections import DestinationSection, SourceSection, VaultSection
from dcmvault.config.settings import Settings
from dcmvault.config.template_lines import text
from dcmvault.config.toml_values import toml_value


@dataclass(frozen=True, slots=True)
class TrialPlaces:
    """What can be tried, and what a destination is compared with."""

    configured: Settings
    drafted: Settings

    def source(self, name: str) -> SourceSection:
        """Return a source; AddressError where there is none of this name."""
        return self.drafted.sources.get(name) or self.configured.source(name)

    def destination(self, name: str) -> DestinationSection:
        """Return a destination; AddressError where there is none of this name."""
        found = self.drafted.destinations.get(name)
        return found.section if found else self.configured.destination(name).section

    @property
    def all_sources(self) -> tuple[SourceSection, ...]:
        """Every source, each once."""
        return tuple(({**self.configured.sources, **self.drafted.sources}).values())

    def is_new_vault(self, name: str) -> bool:
        """Say whether a destination is a vault that is drafted, and perhaps not made yet."""
        found = self.drafted.destinations.get(name)
        if found is None or not isinstance(found.section, VaultSection):
            return False
        path = found.section.path
        return path is None or not is_vault(path)


def trial_places(settings: Settings, draft: Draft) -> TrialPlaces:
    """Make sections of the places of a draft; ConfigurationError where one is wrong."""
    return TrialPlaces(settings, drafted_settings(draft))


def drafted_settings(draft: Draft) -> Settings:
    """Check places and rate of a draft as the configuration's loader does, by themselves."""
    lines = [
        f"bandwidth = {toml_value(draft.rate)}",
        *(line for one in draft.sources for line in _table("sources", one)),
        *(line for one in draft.destinations for line in _table("destinations", one)),
    ]
    return settings_of("\n".join(lines), Path("first-run.toml"))


def _table(family: str, place: DraftPlace) -> list[str]:
    rows = [f"{key} = {toml_value(value)}" for key, value in place.table.items()]
    return [f"[{family}.{text(place.name)}]", *rows]
