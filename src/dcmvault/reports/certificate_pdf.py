"""A migration certificate as PDF, for who files it on paper. Needs the extra `pdf`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import (
    BaseDocTemplate,
    Frame,
    LongTable,
    PageTemplate,
    Paragraph,
    Spacer,
    TableStyle,
)

from dcmvault.model.certificate import Certificate
from dcmvault.reports.certificate_page import CertificatePage, certificate_page, words
from dcmvault.reports.escaping import visible

_INK, _SOFT, _LINE = (colors.HexColor(code) for code in ("#1c2326", "#5d686d", "#d5dad8"))
_TONES = {
    "good": (colors.HexColor("#eaf5f1"), colors.HexColor("#11806a")),
    "claim": (colors.HexColor("#fbf3e2"), colors.HexColor("#8a5a12")),
    "bad": (colors.HexColor("#fbecea"), colors.HexColor("#b83227")),
}
_MARGIN = 18 * mm
_WIDTH = A4[0] - 2 * _MARGIN

_BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=9, leading=12, textColor=_INK)
_SMALL = ParagraphStyle("small", parent=_BODY, fontSize=8, leading=10)
_QUIET = ParagraphStyle("quiet", parent=_SMALL, textColor=_SOFT)
#: UIDs and digests have no spaces to break at.
_CODE = ParagraphStyle("code", parent=_SMALL, fontName="Courier", fontSize=7, splitLongWords=1)
_HEAD = ParagraphStyle(
    "head", parent=_BODY, fontName="Helvetica-Bold", fontSize=11, spaceBefore=14, spaceAfter=5
)
_TITLE = ParagraphStyle("title", parent=_BODY, fontName="Helvetica-Bold", fontSize=17, leading=21)


def render(certificate: Certificate, json_digest: str = "") -> bytes:
    """Render the certificate in the language in use; equal certificates are equal bytes."""
    page = certificate_page(certificate, json_digest)
    stream = io.BytesIO()
    document = BaseDocTemplate(
        stream,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=_plain(page.title),
        author="dcmvault",
        invariant=1,
    )
    frame = Frame(
        *(_MARGIN, _MARGIN, _WIDTH, A4[1] - 2 * _MARGIN),
        leftPadding=0,
        rightPadding=0,
        topPadding=0,
        bottomPadding=0,
    )
    footer = words()["footer"]

    def on_page(canvas: Any, _document: Any) -> None:
        canvas.setFont("Helvetica", 7)
        canvas.setFillColor(_SOFT)
        canvas.drawString(_MARGIN, 10 * mm, _plain(footer))
        canvas.drawRightString(A4[0] - _MARGIN, 10 * mm, str(canvas.getPageNumber()))

    document.addPageTemplates([PageTemplate(frames=[frame], onPage=on_page)])
    document.build(_story(page))
    return stream.getvalue()


def _story(page: CertificatePage) -> list[Any]:
    said = words()
    story: list[Any] = [_text(f"dcmvault · {page.title}", _QUIET), Spacer(1, 6), _verdict(page)]
    story += [Spacer(1, 8), _figures(page)]
    story += _section(said["facts"], _facts(page.facts))
    for name, facts in page.sides:
        story += _section(name, _facts(facts))
    if page.exceptions:
        head = (said["study"], said["verdict"], said["how"])
        rows = [
            (_text(row.study_instance_uid, _CODE), _text(row.verdict), _text(row.how))
            for row in page.exceptions
        ]
        story += _section(said["exceptions"], _table(head, rows, (0.46, 0.16, 0.38)))
        story += [_text(page.exceptions_left_out, _QUIET)]
    if page.not_found:
        names = [_text(name, _CODE) for name in page.not_found]
        story += _section(said["not_found"], *names, _text(page.not_found_left_out, _QUIET))
    story += _section(said["sample"], _text(page.sample_method), Spacer(1, 4))
    if page.sample:
        head = (said["study"], said["instances"], said["result"])
        sampled = [
            (
                _text(row.study_instance_uid, _CODE),
                _text(row.instances),
                [_text(row.result), *(_text(reason, _CODE) for reason in row.reasons)],
            )
            for row in page.sample
        ]
        story.append(_table(head, sampled, (0.46, 0.12, 0.42)))
    if page.months:
        columns = ("month", "modality", "studies_a", "studies_b", "instances_a", "instances_b")
        counts = [
            tuple(
                _text(cell)
                for cell in (
                    row.month,
                    row.modalities,
                    row.studies_a,
                    row.studies_b,
                    row.instances_a,
                    row.instances_b,
                )
            )
            for row in page.months
        ]
        differing = [number for number, row in enumerate(page.months, 1) if not row.agrees]
        table = _table(
            [said[column] for column in columns],
            counts,
            (0.14, 0.22, 0.16, 0.16, 0.16, 0.16),
            differing,
        )
        story += _section(said["months"], table)
    explanations = [_text(text, _QUIET) for text in page.explanations]
    return story + _section(said["how_to_read"], *explanations)


def _verdict(page: CertificatePage) -> LongTable:
    tint, ink = _TONES[page.tone]
    title = ParagraphStyle("verdict", parent=_TITLE, textColor=ink)
    box = LongTable(
        [[[_text(page.headline, title), Spacer(1, 3), _text(page.detail, _BODY)]]],
        colWidths=[_WIDTH],
    )
    box.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), tint),
                *((f"{side}PADDING", (0, 0), (-1, -1), 12) for side in ("LEFT", "RIGHT")),
                *((f"{side}PADDING", (0, 0), (-1, -1), 10) for side in ("TOP", "BOTTOM")),
            ]
        )
    )
    return box


def _figures(page: CertificatePage) -> LongTable:
    large = ParagraphStyle("figure", parent=_TITLE, fontSize=13, leading=16)
    cells = [[_text(value, large), _text(label, _QUIET)] for value, label in page.figures]
    table = LongTable([cells], colWidths=[_WIDTH / len(cells)] * len(cells))
    table.setStyle(TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), *_PADDING]))
    return table


def _facts(facts: Iterable[tuple[str, str]]) -> LongTable:
    rows = [[_text(label, _QUIET), _text(value)] for label, value in facts]
    table = LongTable(rows, colWidths=[0.27 * _WIDTH, 0.73 * _WIDTH])
    table.setStyle(TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), *_PADDING]))
    return table


_PADDING = (
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("TOPPADDING", (0, 0), (-1, -1), 1.5),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
)


def _table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    shares: Sequence[float],
    marked: Sequence[int] = (),
) -> LongTable:
    """Lay out a table that goes on over pages, with its head on each."""
    table = LongTable(
        [[_text(name, _QUIET) for name in head], *rows],
        colWidths=[share * _WIDTH for share in shares],
        repeatRows=1,
    )
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, _LINE),
        *_PADDING,
    ]
    style += [("BACKGROUND", (0, number), (-1, number), _TONES["bad"][0]) for number in marked]
    table.setStyle(TableStyle(style))
    return table


def _section(title: str, *parts: Any) -> list[Any]:
    return [_text(title, _HEAD), *parts]


def _text(text: str, style: ParagraphStyle = _SMALL) -> Paragraph:
    """Make a paragraph; foreign text is markup for nobody."""
    return Paragraph(escape(_plain(text), quote=False), style)


def _plain(text: str) -> str:
    """Escape what the fonts that every reader has cannot show: they have Windows-1252."""
    return visible(text).encode("cp1252", "backslashreplace").decode("cp1252")
