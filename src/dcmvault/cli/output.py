"""Where words meet the terminal: what is escaped, what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from dcmvault.i18n import format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible


def say(text: str = "") -> None:
    """Write a line of the answer (stdout)."""
    click.echo(text, color=_colour())


def tell(text: str) -> None:
    """Write a line about how it goes (stderr)."""
    click.echo(text, err=True, color=_colour())


def _colour() -> bool | None:
    """Say no colour where nobody wants it (no-color.org); else the terminal decides."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def tell_error(message: str, hint: str) -> None:
    """Write an error for people: what happened, and what to do (stderr)."""
    head = click.style("dcmvault: ", fg="red", bold=True)
    tell(head + "\n".join(visible(line) for line in sentence(message).splitlines()))
    if hint:
        tell(f"  → {visible(sentence(hint))}")


def print_json(value: Mapping[str, object]) -> None:
    """Write the one object of `--json`, in ASCII: no consumer has to guess an encoding."""
    click.echo(json.dumps(value, indent=2))


def mark(ok: bool | None) -> str:
    """Return a coloured sign: good, bad, or neither."""
    if ok is None:
        return click.style("·", dim=True)
    return click.style("✓", fg="green") if ok else click.style("✗", fg="red")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[int]) -> str:
    """Align rows under a head; the columns in `right` hold figures."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = []
    for line in lines:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        texts.append("  ".join(cells).rstrip())
    return "\n".join([click.style(texts[0], bold=True), *texts[1:]])


def format_age(then: datetime | None, now: datetime | None = None) -> str:
    """Say how long ago something was: 5 minutes ago, 3 days ago, never."""
    if then is None:
        return _("never")
    minutes = int(((now or datetime.now(UTC)) - then).total_seconds() // 60)
    if minutes < 1:
        return _("just now")
    if minutes < 60:
        return ngettext("%s minute ago", "%s minutes ago", minutes) % minutes
    hours = minutes // 60
    if hours < 48:
        return ngettext("%s hour ago", "%s hours ago", hours) % hours
    days = hours // 24
    return ngettext("%s day ago", "%s days ago", days) % format_number(days)


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600, replacing an earlier one at once (OSError as it comes)."""
    write_private_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_private_bytes(path: Path, content: bytes) -> None:
    """Do the same with bytes."""
    write_private_pieces(path, [content])


def write_private_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Do the same with bytes that come in pieces."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(pieces)
    fresh.replace(path)


def is_operators_screen() -> bool:
    """Say whether the answer goes to a person's terminal (not to a file, a mail or a pipe)."""
    return sys.stdout.isatty()
