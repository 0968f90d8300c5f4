"""A document as plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from dcmvault.reports.bars import Bar
from dcmvault.reports.charts import Chart
from dcmvault.reports.document import Block, Card, Document, Facts, Note, Step, Table
from dcmvault.reports.escaping import visible

_WIDTH = 96


def render(document: Document) -> str:
    """Render UTF-8 text without colours or commands; drawings are told in words."""
    parts = [list(_head(document))]
    for section in document.shown:
        lines = [line for block in section.blocks for line in block_lines(block)]
        parts.append([*_title(section.title), *lines])
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _head(document: Document) -> Iterator[str]:
    yield from _wrapped(f"{document.title} {document.kicker}".strip())
    yield ""
    yield from _wrapped(document.headline)
    yield from _wrapped(document.detail)
    if document.figures:
        yield ""
        yield from _pairs([(label, value) for value, label in document.figures])


def block_lines(block: Block) -> Iterator[str]:
    """Write one part of a document."""
    if isinstance(block, Note):
        yield from _wrapped(block.text)
    elif isinstance(block, Step):
        yield from _wrapped(f"{block.label}: {block.text}", "  ")
    elif isinstance(block, Facts):
        yield from _pairs(block.rows)
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Bar | Chart):
        yield from _wrapped(block.description, "  ")
    else:
        yield from _card(block)


def _card(card: Card) -> Iterator[str]:
    yield from _wrapped(f"* {card.title}" + (f": {card.aside}" if card.aside else ""))
    for block in card.blocks:
        yield from (f"  {line}" for line in block_lines(block))


def _table(table: Table) -> Iterator[str]:
    lines = [list(table.head), *([visible(cell.text) for cell in row] for row in table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.head))]
    for line in lines:
        cells = [
            cell.rjust(width) if column in table.right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _pairs(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max((len(label) for label, _value in rows), default=0)
    for label, value in rows:
        yield from _wrapped(f"{label:<{width}}  {value}", " " * (width + 2))


def _title(text: str) -> list[str]:
    return [text, "-" * len(text)]


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        visible(text),
        _WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
