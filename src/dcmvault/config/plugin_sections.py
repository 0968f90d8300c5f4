"""What the sections of plug-ins are made of; each plug-in subclasses the one of its group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from dcmvault.config.bandwidth import BandwidthSection
from dcmvault.config.options import Section


class PluginPlaceSection(Section):
    """A place that a plug-in reaches; its fields are the options of the place."""

    #: What an address begins with, before the colon; the name of the entry point.
    scheme: ClassVar[str] = ""

    @classmethod
    def from_address(cls, rest: str) -> Self:
        """Read what follows the colon; ValueError says, for people, what is wrong with it.

        What it sets cannot be set by options besides.
        """
        raise NotImplementedError

    @property
    def path(self) -> Path | None:
        """The folder that it reads or writes, if it is one of this machine: never its own copy."""
        return None

    @property
    def address(self) -> str:
        """The canonical address: equal places have equal ones, whatever was written."""
        raise NotImplementedError


class PluginSourceSection(PluginPlaceSection):
    """A source of a plug-in."""

    kind: Literal["plugin"] = "plugin"


class PluginDestinationSection(PluginPlaceSection):
    """A destination of a plug-in."""

    kind: Literal["plugin"] = "plugin"
    #: How fast copies are written.
    bandwidth: BandwidthSection = BandwidthSection()


class PluginStoreSection(Section):
    """An object store of a plug-in: the options of `store` in a vault's section."""

    #: What its URL begins with, before `://`; the name of the entry point.
    scheme: ClassVar[str] = ""

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, object]) -> Self:
        """Read `SCHEME://REST` and the table `store`; ValueError says what is wrong."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The canonical URL, without options: equal places have equal ones."""
        raise NotImplementedError


class NotReadableSection(PluginSourceSection):
    """A place that can be written to only: what reads it is not installed."""

    place: str

    @property
    def address(self) -> str:
        """The canonical address."""
        return self.place
