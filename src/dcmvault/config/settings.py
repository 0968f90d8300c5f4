"""What a configuration says, and how names in it become sections."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from dcmvault.config import secrets
from dcmvault.config.addresses import (
    destination_section,
    did_you_mean,
    is_plain_word,
    source_section,
)
from dcmvault.config.audit_section import AuditSection
from dcmvault.config.bandwidth import BandwidthSection
from dcmvault.config.classification_section import ClassificationSection, RuleSection
from dcmvault.config.deletion_section import SafeToDeleteSection
from dcmvault.config.hooks_section import HooksSection
from dcmvault.config.listener_section import ListenerSection
from dcmvault.config.monitoring_section import MonitoringSection
from dcmvault.config.notifications_section import ChannelSection
from dcmvault.config.options import Section
from dcmvault.config.plans import PlanSection
from dcmvault.config.reverification import EvidenceAge, SampleSize, age_s, sample_of
from dcmvault.config.schedule_sections import ScheduleSection, WindowSection
from dcmvault.config.sections import DestinationSection, RetrySection, SourceSection
from dcmvault.config.serving_section import ServeSection
from dcmvault.config.web_section import WebSection
from dcmvault.errors import AddressError, ConfigurationError
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.plan import Sample
from dcmvault.model.report import Privacy

_POSTGRESQL = "postgresql://"
#: What people write who mean a PACS: `AET@host:port` or `host:port`.
_HOST_AND_PORT = re.compile(r"(?:[^@/\s]+@)?[^@:/\s]+:[0-9]{1,5}\Z")


class ConfiguredDestination(Section):
    """A destination with a name: how to reach it, and the level asked of it by default."""

    section: DestinationSection
    level: Level | None = None
    #: How old evidence may be; then it is due again, and counts as verification debt.
    reverify_after: EvidenceAge = ""
    #: How much is verified again at once, by `verify --due`.
    reverify_share: SampleSize = ""

    @property
    def due(self) -> Sample:
        """What is to be verified again."""
        return sample_of(self.reverify_share, self.oldest_s)

    @property
    def oldest_s(self) -> int:
        """How old evidence may be (seconds); 0: as old as it gets."""
        return age_s(self.reverify_after) if self.reverify_after else 0


@dataclass(frozen=True, slots=True)
class NamedDestination:
    """A destination as a command names it; `name` is the canonical address where it has none."""

    name: str
    section: DestinationSection
    level: Level | None


class Settings(Section):
    """Everything that a configuration file can say."""

    #: Language of words and figures; empty: as the environment says.
    language: Literal["", "en", "pt-BR"] = ""
    #: How much patient data reports show.
    privacy: Privacy = Privacy.OFF
    #: Empty: SQLite in the state folder. Else a postgresql:// URL without a password, or a
    #: reference (env:NAME, file:PATH) to a URL that may contain one.
    database: str = ""
    #: How this host is called among those that share a PostgreSQL database; empty: its own name.
    host: str = Field(default="", max_length=100)
    #: Places (names or addresses) that only one host, or some of them, reach, by host.
    hosts: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    retry: RetrySection = RetrySection()
    #: How fast bytes are sent to all destinations together.
    bandwidth: BandwidthSection = BandwidthSection()
    #: Our storage service, for what is pushed to us.
    listener: ListenerSection = ListenerSection()
    #: When an original may be deleted.
    safe_to_delete: SafeToDeleteSection = SafeToDeleteSection()
    #: Our query and retrieve service, for a vault that answers as a PACS.
    serve: ServeSection = ServeSection()
    #: How rules about studies are put to work, and the rules themselves.
    classification: ClassificationSection = ClassificationSection()
    rules: tuple[RuleSection, ...] = ()
    #: The daemon's API over HTTP.
    web: WebSection = WebSection()
    #: When to raise an alert, and when to hold backups.
    monitoring: MonitoringSection = MonitoringSection()
    #: The journal of who did what, and who gets a copy.
    audit: AuditSection = AuditSection()
    sources: Mapping[str, SourceSection] = Field(default_factory=dict)
    destinations: Mapping[str, ConfiguredDestination] = Field(default_factory=dict)
    plans: Mapping[str, PlanSection] = Field(default_factory=dict)
    schedules: Mapping[str, ScheduleSection] = Field(default_factory=dict)
    windows: Mapping[str, WindowSection] = Field(default_factory=dict)
    #: Who is told of what.
    notifications: Mapping[str, ChannelSection] = Field(default_factory=dict)
    #: Commands around runs.
    hooks: HooksSection = HooksSection()

    def source(self, name_or_address: str) -> SourceSection:
        """Return the source that a configured name or an address means.

        Where names are configured, a plain word that is neither a name nor an existing folder is
        an AddressError: a misspelt name must not become an empty source.
        """
        if found := self.sources.get(name_or_address):
            return found
        _refuse_misspelt(name_or_address, self.sources, _("a configured source"))
        return source_section(name_or_address)

    def destination(self, name_or_address: str) -> NamedDestination:
        """Return the destination that a configured name or an address means.

        Where names are configured, a plain word that is neither a name nor an existing folder is
        an AddressError: a misspelt name must not become a folder full of studies.
        """
        if found := self.destinations.get(name_or_address):
            return NamedDestination(name_or_address, found.section, found.level)
        _refuse_misspelt(name_or_address, self.destinations, _("a configured destination"))
        section = destination_section(name_or_address)
        return NamedDestination(section.address, section, None)

    def configured(self, address: str) -> ConfiguredDestination | None:
        """Return the configured destination with this canonical address; None for none."""
        for destination in self.destinations.values():
            if destination.section.address == address:
                return destination
        return None

    def plan(self, name: str) -> PlanSection:
        """Return the plan of this name; AddressError where none is configured."""
        if found := self.plans.get(name):
            return found
        if not self.plans:
            raise AddressError(
                _("No plan is configured."),
                hint=_("Write one into the configuration: [plans.NAME]."),
            )
        raise AddressError(
            _("There is no plan “%s”.") % name,
            hint=did_you_mean(name, self.plans)
            or _("Configured plans: %s.") % ", ".join(sorted(self.plans)),
        )

    def database_url(self) -> str:
        """Return the postgresql:// URL with its secrets, or nothing for SQLite.

        Never shown, logged or written; ConfigurationError where a reference leads nowhere.
        """
        if not secrets.is_reference(self.database):
            return self.database
        url = secrets.resolve(self.database)
        if not url.startswith(_POSTGRESQL):
            raise ConfigurationError(
                _("What “database” refers to is not a postgresql:// URL."),
                hint=_("Write postgresql://user:password@host/name there."),
            )
        return url


def _refuse_misspelt(text: str, names: Collection[str], kind: str) -> None:
    if not names and not _HOST_AND_PORT.match(text):
        return  # nothing is configured whose name this could be
    # A word that is too long for a name of a file is none: Path.exists would raise.
    is_there = os.path.exists(text)  # noqa: PTH110
    if is_plain_word(text) and not is_there and text.strip():
        pacs = _("If you mean a PACS, write dicom://%s") if _HOST_AND_PORT.match(text) else ""
        folder = pacs or _("If you mean a folder, write ./%s")
        raise AddressError(
            _("“%(word)s” is neither %(kind)s nor a folder here.") % {"word": text, "kind": kind},
            hint=did_you_mean(text, names) or folder % text,
        )
