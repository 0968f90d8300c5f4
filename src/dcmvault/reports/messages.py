"""Messages made of notices: subject, text, page and an object for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from dcmvault.i18n import gettext as _
from dcmvault.i18n import language
from dcmvault.model.notice import Attachment, Message, Notice
from dcmvault.reports.escaping import visible
from dcmvault.reports.letters import Letter, letter_of
from dcmvault.reports.times import utc

_WIDTH = 76
#: What comes first in the object for programs.
_VERSION = 1


def write_message(
    notice: Notice,
    *,
    details: Mapping[str, object] | None = None,
    attachments: tuple[Attachment, ...] = (),
) -> Message:
    """Write a message in the language in use.

    `details` are what a channel's privacy allows beyond the notice, for the object only.
    """
    letter = letter_of(notice)
    return Message(
        notice,
        visible(letter.subject),
        _text(letter, notice),
        _page(letter, notice),
        {
            "version": _VERSION,
            "id": notice.notice_id,
            "event": notice.event.value,
            "severity": notice.severity.value,
            "at": notice.at.isoformat(timespec="milliseconds"),
            "plan": notice.plan or None,
            "run": notice.run_id or None,
            "headline": letter.headline,
            "next_step": letter.next_step,
            **notice.facts,
            **(details or {}),
        },
        attachments,
    )


def _text(letter: Letter, notice: Notice) -> str:
    lines = [letter.headline, "", *textwrap.wrap(visible(letter.detail), _WIDTH), ""]
    if letter.points:
        lines += [f"{letter.points_title}:"]
        for point in letter.points:
            lines += textwrap.wrap(
                visible(point), _WIDTH, initial_indent="  - ", subsequent_indent="    "
            )
        lines.append("")
    lines += textwrap.wrap(": ".join([_("Next step"), letter.next_step]), _WIDTH)
    if letter.command:
        lines += ["", f"    {letter.command}"]
    lines.append("")
    width = max((len(label) for label, _value in letter.rows), default=0)
    lines += [f"{visible(label).ljust(width)}  {visible(value)}" for label, value in letter.rows]
    lines += ["", "-- ", _footer(notice), ""]
    return "\n".join(lines)


def _page(letter: Letter, notice: Notice) -> str:
    environment = Environment(
        loader=PackageLoader("dcmvault.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("letter.html").render(
        language=language().replace("_", "-"),
        letter=letter,
        tone=letter.tone.value,
        next_step=_("Next step"),
        footer=_footer(notice),
    )


def _footer(notice: Notice) -> str:
    return _("Sent by dcmvault on %s, without patient data unless the channel says otherwise.") % (
        utc(notice.at)
    )
