"""The questions of `dcmvault config init` on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import click

from dcmvault.app.detecting import Detected
from dcmvault.cli.output import tell, tell_error
from dcmvault.config.addresses import destination_section, source_section
from dcmvault.config.week import minutes
from dcmvault.errors import AddressError
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible

#: When nights are quiet, unless somebody says otherwise.
_NIGHT = "02:00"


@dataclass(frozen=True, slots=True)
class Answers:
    """What is to be written down."""

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    #: Time of day at which the plan runs each night; empty: not by itself.
    nightly_at: str
    #: Transfers pause from 8 to 18 on week days.
    pauses_by_day: bool


def interview(found: list[Detected]) -> Answers:
    """Ask; an empty answer takes what stands in brackets. click.Abort on Ctrl-C."""
    tell(_("Some questions; Enter takes what stands in [brackets], Ctrl-C leaves all as it is."))
    sources = [place.address for place in found if _wanted(place)]
    _ask_addresses(
        _("A source: a folder, a library, a PACS (Enter: no more)"), sources, _check_source
    )
    destinations: list[str] = []
    offered = [p for p in found if p.as_destination and p.address not in sources]
    for place in offered:
        question = _("Send copies to the Orthanc on this machine (%s)?") % place.as_destination
        if click.confirm(question, default=False, err=True):
            destinations.append(place.as_destination)
    _ask_addresses(
        _("A destination: vault:FOLDER, a folder, dicom://AET@host:port (Enter: no more)"),
        destinations,
        _check_destination,
    )
    nightly_at, pauses = "", False
    if sources and destinations:
        nightly_at = _ask_time()
        question = _("Pause transfers from 8 to 18 on week days (urgent work excepted)?")
        pauses = bool(nightly_at) and click.confirm(question, default=False, err=True)
    return Answers(tuple(sources), tuple(destinations), nightly_at, pauses)


def _wanted(place: Detected) -> bool:
    if place.kind == "horos":
        question = _("Back up the library that is here, %s?") % visible(place.address)
    else:
        question = _("Back up the Orthanc on this machine (%s)?") % place.address
    wanted = click.confirm(question, default=True, err=True)
    if wanted and place.needs_login:
        tell(_("It wants a password: write “user” and “password” into its table afterwards."))
    return wanted


def _ask_addresses(question: str, known: list[str], check: Callable[[str], object]) -> None:
    while typed := click.prompt(question, default="", show_default=False, err=True).strip():
        try:
            check(typed)
        except AddressError as error:
            tell_error(error.message, error.hint)
            continue
        known.append(typed)


def _check_source(typed: str) -> None:
    source_section(typed)


def _check_destination(typed: str) -> None:
    destination_section(typed)


def _ask_time() -> str:
    question = _("Run every night at this time (“-”: not by itself)")
    while (typed := click.prompt(question, default=_NIGHT, err=True).strip()) != "-":
        try:
            minutes(typed)
        except ValueError as error:
            tell_error(str(error), "")
            continue
        return str(typed)
    return ""
