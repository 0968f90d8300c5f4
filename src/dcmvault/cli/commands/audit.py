"""`dcmvault audit`: who did what; search it, export it, prove that it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from textwrap import indent
from typing import Any

import click

from dcmvault.app.audit import AuditDesk
from dcmvault.app.periods import Period
from dcmvault.cli.building import ExampleCommand, FamilyGroup, json_option
from dcmvault.cli.output import mark, print_json, say, table, tell, write_private_pieces
from dcmvault.cli.periods import period_options
from dcmvault.cli.session import begin_log, current_settings
from dcmvault.config.places import state_folder
from dcmvault.errors import StateError
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import AuditOutcome
from dcmvault.model.journal import AuditQuery, JournalVerdict
from dcmvault.reports.escaping import visible
from dcmvault.reports.journal_words import finding_sentence

_BROKEN = 3
#: Lines that are shown at once; a longer table begins again with its head.
_PIECE = 1000


def command() -> click.Command:
    """Build the group in the language in use."""
    return FamilyGroup(
        "audit",
        text=_("Who did what: search the audit journal, export it, prove that it is whole."),
        members=[
            _search_command(),
            _export_command(),
            _verify_command(),
            _rotate_command(),
            _forward_command(),
        ],
    )


def _filters() -> list[click.Parameter]:
    return [
        *period_options(),
        click.Option(
            ["--event"],
            default="",
            metavar="EVENT",
            help=_("Only this event, or all that begin so: “vault.” is all about vaults."),
        ),
        click.Option(
            ["--outcome"],
            type=click.Choice([outcome.value for outcome in AuditOutcome]),
            help=_("Only what ended so."),
        ),
        click.Option(
            ["--actor"], default="", metavar="TEXT", help=_("Only what somebody of this name did.")
        ),
        click.Option(
            ["--study"], default="", metavar="UID", help=_("Only what this study is named in.")
        ),
        click.Option(
            ["--text"],
            default="",
            metavar="TEXT",
            help=_("Only what has this in its place or its details."),
        ),
    ]


def _search_command() -> click.Command:
    return ExampleCommand(
        "search",
        callback=_search,
        text=_("List what is written in the audit journal, oldest first."),
        params=[*_filters(), json_option()],
        examples=[
            (
                _("What happened to vaults in the last week"),
                "dcmvault audit search --last 7d --event vault.",
            ),
            (
                _("Who asked for a study"),
                "dcmvault audit search --study 1.2.826.0.1.3680043.8.498.1",
            ),
        ],
    )


def _export_command() -> click.Command:
    return ExampleCommand(
        "export",
        callback=_export,
        text=_(
            "Write lines of the audit journal to a file (mode 0600), byte for byte as they are."
            "\n\nA whole journal can be checked without dcmvault: each line has the SHA-256 of the "
            "line before it."
        ),
        params=[
            *_filters(),
            click.Option(
                ["--output"], required=True, metavar="FILE", help=_("Write to this file.")
            ),
        ],
        examples=[
            (
                _("For an auditor"),
                "dcmvault audit export --since 2026-01-01 --until 2026-01-31 --output jan.jsonl",
            ),
        ],
    )


def _verify_command() -> click.Command:
    return ExampleCommand(
        "verify",
        callback=_verify,
        text=_(
            "Check that no line of the audit journal was changed, removed or moved.\n\n"
            "The end is held against the head that the state folder remembers. Who can write the "
            "state folder could write another journal and another head: against that, keep the "
            "head that this prints somewhere else, and give it with --head."
        ),
        params=[
            click.Option(
                ["--head"],
                default="",
                metavar="NUMBER:HASH",
                help=_("A head that was printed earlier; its line must be there."),
            ),
            json_option(),
        ],
        examples=[(_("Is the journal whole?"), "dcmvault audit verify")],
    )


def _rotate_command() -> click.Command:
    return ExampleCommand(
        "rotate",
        callback=_rotate,
        text=_("Begin the next file of the audit journal; the chain goes on in it."),
        params=[json_option()],
        examples=[(_("Begin a new file"), "dcmvault audit rotate")],
    )


def _forward_command() -> click.Command:
    return ExampleCommand(
        "forward",
        callback=_forward,
        text=_(
            "Send to the configured collector what it does not have yet, as DICOM audit messages."
            "\n\nServices do so by themselves, and so do commands when they end."
        ),
        params=[json_option()],
        examples=[(_("After the collector was away"), "dcmvault audit forward")],
    )


def _desk() -> AuditDesk:
    settings, home = current_settings(), state_folder()
    begin_log(home)
    return AuditDesk(home, settings)


def _query(period: Period, options: Mapping[str, str | None]) -> AuditQuery:
    return AuditQuery(
        since=period.since,
        until=period.until,
        **{name: text or "" for name, text in options.items()},
    )


def _search(
    since: str | None, until: str | None, last: str | None, as_json: bool, **options: str | None
) -> int:
    query = _query(Period.asked(since, until, last), options)
    pieces = _pieces(line.record for line in _desk().search(query))
    if as_json:
        _print_events(pieces)
        return 0
    head = (_("number"), _("time (UTC)"), _("event"), _("outcome"), _("who"), _("what"))
    found = 0
    for piece in pieces:
        say(table(head, map(_row, piece), right=frozenset({0})))
        found += len(piece)
    if not found:
        say(_("Nothing of the kind is written down."))
    return 0


def _pieces(records: Iterator[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    while piece := list(islice(records, _PIECE)):
        yield piece


def _print_events(pieces: Iterable[Sequence[Mapping[str, Any]]]) -> None:
    """Write what `print_json` would, a piece at a time: a journal may have millions of lines."""
    before = '{\n  "events": ['
    is_empty = True
    for piece in pieces:
        told = (indent(json.dumps(record, indent=2), "    ") for record in piece)
        click.echo(before + "\n" + ",\n".join(told), nl=False)
        before, is_empty = ",", False
    click.echo(f"{before}]\n}}" if is_empty else "\n  ]\n}")


def _row(record: Mapping[str, Any]) -> list[str]:
    actor = record.get("actor", {})
    who = actor.get("name") or actor.get("address") or actor.get("kind", "")
    details = record.get("details", {})
    studies = record.get("study_instance_uids", [])
    what = [str(record.get("place", ""))]
    what += [f"{name}={value}" for name, value in details.items() if name != "command"]
    what += studies[:1]
    return [
        str(record["seq"]),
        _time(str(record.get("at", ""))),
        visible(str(record["event"])),
        visible(str(record.get("outcome", ""))),
        visible(f"{who} ({actor.get('kind', '')})"),
        visible("  ".join(filter(None, what))[:160]),
    ]


def _time(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return visible(text)


def _export(
    since: str | None, until: str | None, last: str | None, output: str, **options: str | None
) -> int:
    query = _query(Period.asked(since, until, last), options)
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for line in _desk().search(query, exported_to=output):
            count += 1
            yield line.raw + b"\n"

    try:
        write_private_pieces(Path(output).absolute(), lines())
    except OSError as error:
        raise StateError(
            _("The file cannot be written."), hint=f"{output}: {error.strerror}"
        ) from None
    tell(ngettext("%s line written.", "%s lines written.", count) % format_number(count))
    say(output)
    return 0


def _verify(head: str, as_json: bool) -> int:
    verdict = _desk().verify(head)
    status = 0 if verdict.is_whole else _BROKEN
    if as_json:
        print_json({**_verdict_object(verdict), "exit_status": status})
        return status
    for finding in verdict.findings[:20]:
        say(f"{mark(ok=False)} {finding_sentence(finding)}")
    if len(verdict.findings) > 20:
        say(_("... and %s more: see --json.") % format_number(len(verdict.findings) - 20))
    if verdict.is_whole:
        lines = ngettext("%s line", "%s lines", verdict.lines) % format_number(verdict.lines)
        files = ngettext("%s file", "%s files", verdict.files) % format_number(verdict.files)
        say(
            f"{mark(ok=True)} "
            + _("The journal is whole: %(lines)s in %(files)s.") % {"lines": lines, "files": files}
        )
    if verdict.mended:
        say(
            ngettext(
                "%s line says that the journal was mended after a crash.",
                "%s lines say that the journal was mended after a crash.",
                verdict.mended,
            )
            % format_number(verdict.mended)
        )
    if verdict.last is not None:
        say(_("Head, to be kept elsewhere: %s") % f"{verdict.last.seq}:{verdict.last.sha256}")
    return status


def _verdict_object(verdict: JournalVerdict) -> dict[str, object]:
    last = verdict.last
    return {
        "whole": verdict.is_whole,
        "lines": verdict.lines,
        "files": verdict.files,
        "mended": verdict.mended,
        "head": None if last is None else {"seq": last.seq, "sha256": last.sha256},
        "findings": [
            {
                "kind": finding.kind.value,
                "file": finding.file,
                "line": finding.row,
                "seq": finding.seq,
                "last": finding.last or finding.seq,
            }
            for finding in verdict.findings
        ],
    }


def _rotate(as_json: bool) -> int:
    name = _desk().rotate()
    if as_json:
        print_json({"file": name})
    else:
        say(_("The journal goes on in %s.") % name)
    return 0


def _forward(as_json: bool) -> int:
    done = _desk().forward()
    if as_json:
        say(
            json.dumps(
                {
                    "collector": done.collector,
                    "sent": done.sent,
                    "waiting": done.waiting,
                    "skipped": done.skipped,
                }
            )
        )
        return 0
    say(
        ngettext("%(count)s line sent to %(name)s.", "%(count)s lines sent to %(name)s.", done.sent)
        % {"count": format_number(done.sent), "name": done.collector}
    )
    if done.waiting:
        say(
            ngettext("%s line waits.", "%s lines wait.", done.waiting) % format_number(done.waiting)
        )
    return 0
