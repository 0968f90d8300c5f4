"""The analysis of a run in words: what held it up, with figures, and what to change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dcmvault.i18n import format_bytes, format_duration, format_number
from dcmvault.i18n import gettext as _
from dcmvault.model.performance import Advice, Bottleneck, DestinationPerformance, Performance
from dcmvault.model.report import RunReport
from dcmvault.reports.bars import Bar, bar
from dcmvault.reports.document import Card, Note, Step
from dcmvault.reports.performance import analyse
from dcmvault.reports.wording import stage_label

#: In the order of the flow; each has one colour in all drawings.
_SHOWN = ("read", "deliver", "verify")
_LEAST_SHOWN_S = 0.05


def performance_blocks(report: RunReport) -> Iterator[Card | Step | Note]:
    """Yield the analysis; nothing where no destination has stages of its own."""
    told = analyse(report)
    if not any(part.stages for part in told.destinations):
        return
    yield from _summary(told)
    for part in told.destinations:
        if part.stages:
            yield _part(part)


def bottleneck_sentence(advice: Advice) -> str:
    """Name a bottleneck with its figures."""
    words: Mapping[Bottleneck, str] = {
        Bottleneck.SCAN: _("Listing the source took most of the time"),
        Bottleneck.READ: _("Reading the source took most of the time"),
        Bottleneck.ENCODE: _("Encoding for the vault took most of the time"),
        Bottleneck.WRITE: _("The vault's store took most of the time"),
        Bottleneck.ANSWERS: _("Waiting for the destination's answers took most of the time"),
        Bottleneck.NETWORK: _("Sending bytes took most of the time"),
        Bottleneck.BANDWIDTH: _("The configured bandwidth held it back"),
        Bottleneck.VERIFY: _("Verifying took most of the time"),
    }
    if advice.share < 1:
        sentence = _("%(what)s: %(seconds)s, %(share)s %% of %(whole)s.")
    else:
        sentence = _(
            "%(what)s: %(seconds)s, added up over what ran beside each other; all of %(whole)s."
        )
    return sentence % {
        "what": words[advice.bottleneck],
        "seconds": format_duration(advice.seconds),
        "share": format_number(100 * advice.share),
        "whole": " + ".join(stage_label(stage) for stage in advice.whole.split(" + ")),
    }


def what_to_change(bottleneck: Bottleneck) -> str:
    """Say what makes the next run faster."""
    words: Mapping[Bottleneck, str] = {
        Bottleneck.SCAN: _(
            "Little was new, so looking was most of the work. Run less often, or let the source "
            "tell what changed: a listener, or a library with its index."
        ),
        Bottleneck.READ: _(
            "Look at the disk or share that the source is on (its cable, its age, what else uses "
            "it); for a PACS as a source, raise “max_associations” of the source."
        ),
        Bottleneck.ENCODE: _(
            'Set “profile = "fast"” or “auto” for this vault: it encodes two to four times as '
            "fast, and stores a little more. More cores help as well."
        ),
        Bottleneck.WRITE: _(
            "The vault's place writes slowly: a faster disk or line helps, and a higher profile "
            "(“small”) has less to write."
        ),
        Bottleneck.ANSWERS: _(
            "The peer answers each instance slowly. Raise “max_associations”; try “async_window”; "
            "ask its administrator for TCP_NODELAY, and whether its database or disk is busy."
        ),
        Bottleneck.NETWORK: _(
            "The way to the destination is the limit: use a cable instead of Wi-Fi, another route, "
            "or “transcode” to compress without loss where the peer takes it."
        ),
        Bottleneck.BANDWIDTH: _(
            "Raise “bandwidth” in the configuration, or widen its window at night."
        ),
        Bottleneck.VERIFY: _(
            "Ask a lower level in the run, and prove a share regularly: “reverify_share” and "
            "`dcmvault verify --due`."
        ),
    }
    return words[bottleneck]


def _summary(told: Performance) -> Iterator[Step | Note]:
    if told.advice is None:
        yield Note(
            _("Nothing held this run up more than anything else, or it was too short to say.")
        )
        return
    sentence = bottleneck_sentence(told.advice)
    yield Note(f"{told.destination}: {sentence}" if told.destination else sentence)
    yield Step(_("To make it faster"), what_to_change(told.advice.bottleneck))


def _part(part: DestinationPerformance) -> Card:
    drawn: Bar = bar(
        [
            (f"stage{number}", stage_label(stage), seconds, format_duration(seconds))
            for number, stage in enumerate(_SHOWN)
            if (seconds := part.stages.get(stage, 0.0)) >= _LEAST_SHOWN_S
        ]
    )
    inside = ", ".join(
        f"{stage_label(stage)} {format_duration(seconds)}"
        for stage, seconds in part.stages.items()
        if stage not in _SHOWN and seconds >= _LEAST_SHOWN_S
    )
    notes = [Note(_("inside of it: %s") % inside)] if inside else []
    if part.advice is not None:
        notes.append(Note(bottleneck_sentence(part.advice)))
    speed = "" if part.bytes_per_s is None else f"{format_bytes(part.bytes_per_s)}/s"
    return Card(part.name, speed, (drawn, *notes))
