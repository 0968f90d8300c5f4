"""A document as PDF, for who files it on paper. Needs the extra `pdf`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reportlab.graphics.shapes import Drawing, Line, Rect, String
from reportlab.lib.colors import HexColor
from reportlab.platypus import KeepTogether, Spacer

from dcmvault.reports import pdf_fonts
from dcmvault.reports import pdf_parts as pdf
from dcmvault.reports.bars import WIDTH as BAR_WIDTH
from dcmvault.reports.bars import Bar
from dcmvault.reports.charts import WIDTH as CHART_WIDTH
from dcmvault.reports.charts import Chart
from dcmvault.reports.document import Block, Card, Cell, Document, Facts, Note, Step, Table

#: The colours of `style.css` on paper.
_COLOURS: Mapping[str, str] = {
    "stored": "#11806a",
    "held": "#8ccabb",
    "claimed": "#b7791f",
    "failed": "#b83227",
    "unreadable": "#8a4fa0",
    "conflict": "#b7791f",
    "open": "#b5bcbf",
    "blank": "#e3e6e4",
    "stage0": "#3d6a8a",
    "stage1": "#6f97b3",
    "stage2": "#9db9cc",
    "stage3": "#54808f",
    "stage4": "#c0d0da",
}
_BAR_HEIGHT = 7.0
_LABEL_SIZE = 7.0


def render(document: Document) -> bytes:
    """Render the document in the language in use; equal documents are equal bytes."""
    story: list[Any] = [
        pdf.text(f"dcmvault · {document.title} · {document.kicker}".rstrip(" ·"), pdf.QUIET),
        Spacer(1, 6),
        pdf.verdict(document.tone.value, document.headline, document.detail),
    ]
    if document.figures:
        story += [Spacer(1, 8), pdf.figures(document.figures)]
    for section in document.shown:
        title: list[Any] = [pdf.text(section.title, pdf.HEAD)]
        for block in section.blocks:
            parts = [*title, *_block(block)]
            # A table goes on over pages; its first rows stay with what stands above.
            story += parts if isinstance(block, Table) else [KeepTogether(parts)]
            title = []
    return pdf.built(story, document.title, document.footer)


def _block(block: Block) -> list[Any]:
    if isinstance(block, Note):
        return [pdf.text(block.text, pdf.QUIET), Spacer(1, 3)]
    if isinstance(block, Step):
        return [pdf.text(f"{block.label}. {block.text}"), Spacer(1, 3)]
    if isinstance(block, Facts):
        return [pdf.facts(block.rows), Spacer(1, 3)]
    if isinstance(block, Table):
        return [_table(block)]
    if isinstance(block, Bar):
        return _bar(block)
    if isinstance(block, Chart):
        return _chart(block)
    return _card(block)


def _card(card: Card) -> list[Any]:
    parts: list[Any] = [pdf.text(card.title, pdf.STRONG)]
    if card.aside:
        parts.append(pdf.text(card.aside, pdf.QUIET))
    for block in card.blocks:
        parts += _block(block)
    return [*parts, Spacer(1, 8)]


def _table(table: Table) -> Any:
    rows = [
        [
            pdf.text(cell.text, _style(cell, column in table.right))
            for column, cell in enumerate(row)
        ]
        for row in table.rows
    ]
    return pdf.table(table.head, rows, table.shares, right=table.right)


def _style(cell: Cell, is_figure: bool) -> Any:
    if is_figure:
        return pdf.RIGHT
    return pdf.CODE if cell.code else pdf.toned(cell.tone)


def _bar(bar: Bar) -> list[Any]:
    if not bar.segments:
        return []
    scale = pdf.WIDTH / BAR_WIDTH
    drawing = Drawing(pdf.WIDTH, _BAR_HEIGHT + 6)
    for segment in bar.segments:
        drawing.add(
            _rect(
                float(segment.x) * scale, 3, float(segment.width) * scale, _BAR_HEIGHT, segment.kind
            )
        )
    named = [
        f'<font size="11" color="{_COLOURS[segment.kind]}"><b>•</b></font> '
        f"{pdf.escaped(f'{segment.figure} {segment.label}'.strip())}"
        for segment in bar.segments
        if segment.label
    ]
    return [drawing, pdf.markup(" &nbsp; ".join(named)), Spacer(1, 3)]


def _chart(chart: Chart) -> list[Any]:
    if not chart.rects:
        return []
    scale = pdf.WIDTH / CHART_WIDTH
    height = chart.height * scale
    drawing = Drawing(pdf.WIDTH, height)
    for y in chart.lines:
        drawing.add(
            Line(
                0,
                height - y * scale,
                pdf.WIDTH,
                height - y * scale,
                strokeColor=pdf.LINE,
                strokeWidth=0.4,
            )
        )
    for one in chart.rects:
        bottom = height - (one.y + one.height) * scale
        drawing.add(_rect(one.x * scale, bottom, one.width * scale, one.height * scale, one.kind))
    for label in chart.labels:
        font, shown = pdf_fonts.font_for(label.text, "Helvetica")
        drawing.add(
            String(
                label.x * scale,
                height - label.y * scale,
                shown,
                fontName=font,
                fontSize=_LABEL_SIZE,
                fillColor=pdf.SOFT,
                textAnchor=label.anchor,
            )
        )
    legend = [
        f'<font size="11" color="{_COLOURS[kind]}"><b>•</b></font> {pdf.escaped(text)}'
        for kind, text in chart.legend
    ]
    return [drawing, *([pdf.markup(" &nbsp; ".join(legend))] if legend else []), Spacer(1, 6)]


def _rect(x: float, y: float, width: float, height: float, kind: str) -> Rect:
    return Rect(x, y, width, height, fillColor=HexColor(_COLOURS[kind]), strokeColor=None)
