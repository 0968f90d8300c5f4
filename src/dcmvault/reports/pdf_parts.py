"""What our PDFs are made of: paper, fonts, tables that go on over pages. Needs the extra `pdf`."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from html import escape
from typing import Any

from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
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

from dcmvault.i18n import gettext as _
from dcmvault.reports import pdf_fonts
from dcmvault.reports.wording import Tone

INK, SOFT, LINE = (colors.HexColor(code) for code in ("#1c2326", "#5d686d", "#d5dad8"))
TONES = {
    "good": (colors.HexColor("#eaf5f1"), colors.HexColor("#11806a")),
    "claim": (colors.HexColor("#fbf3e2"), colors.HexColor("#8a5a12")),
    "bad": (colors.HexColor("#fbecea"), colors.HexColor("#b83227")),
    "open": (colors.HexColor("#f0f2f2"), colors.HexColor("#5d686d")),
}
MARGIN = 18 * mm
WIDTH = A4[0] - 2 * MARGIN

BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=9, leading=12, textColor=INK)
SMALL = ParagraphStyle("small", parent=BODY, fontSize=8, leading=10)
STRONG = ParagraphStyle("strong", parent=BODY, fontName="Helvetica-Bold")
RIGHT = ParagraphStyle("right", parent=SMALL, alignment=TA_RIGHT)
QUIET = ParagraphStyle("quiet", parent=SMALL, textColor=SOFT)
QUIET_RIGHT = ParagraphStyle("quiet-right", parent=QUIET, alignment=TA_RIGHT)
#: UIDs and digests have no spaces to break at.
CODE = ParagraphStyle("code", parent=SMALL, fontName="Courier", fontSize=7, splitLongWords=1)
HEAD = ParagraphStyle(
    "head", parent=BODY, fontName="Helvetica-Bold", fontSize=11, spaceBefore=14, spaceAfter=5
)
TITLE = ParagraphStyle("title", parent=BODY, fontName="Helvetica-Bold", fontSize=17, leading=21)
_PADDING = (
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("TOPPADDING", (0, 0), (-1, -1), 1.5),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
)


def built(story: Sequence[Any], title: str, footer: str) -> bytes:
    """Lay a story out on A4; equal stories are equal bytes."""
    stream = io.BytesIO()
    document = BaseDocTemplate(
        stream,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=MARGIN,
        bottomMargin=MARGIN,
        title=title,
        author="dcmvault",
        invariant=1,
    )
    frame = Frame(
        *(MARGIN, MARGIN, WIDTH, A4[1] - 2 * MARGIN),
        leftPadding=0,
        rightPadding=0,
        topPadding=0,
        bottomPadding=0,
    )

    def on_page(canvas: Any, _document: Any) -> None:
        font, shown = pdf_fonts.font_for(footer, "Helvetica")
        canvas.setFont(font, 7)
        canvas.setFillColor(SOFT)
        canvas.drawString(MARGIN, 10 * mm, shown)
        canvas.setFont("Helvetica", 7)
        canvas.drawRightString(A4[0] - MARGIN, 10 * mm, str(canvas.getPageNumber()))

    document.addPageTemplates([PageTemplate(frames=[frame], onPage=on_page)])
    parts = list(story)
    if any(one.has_numbers for one in _texts(parts)):
        parts.append(
            text(
                _("Characters that this page has no font for are written as \\u and their number."),
                QUIET,
            )
        )
    document.build(parts)
    return stream.getvalue()


def verdict(tone: str, headline: str, detail: str) -> LongTable:
    """Lay out the answer, large and in its colour."""
    tint, ink = TONES[tone]
    title = ParagraphStyle("verdict", parent=TITLE, textColor=ink)
    box = LongTable(
        [[[text(headline, title), Spacer(1, 3), text(detail, BODY)]]], colWidths=[WIDTH]
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


def figures(rows: Sequence[tuple[str, str]]) -> LongTable:
    """Lay out the big numbers: value and label."""
    large = ParagraphStyle("figure", parent=TITLE, fontSize=13, leading=16)
    cells = [[text(value, large), text(label, QUIET)] for value, label in rows]
    table = LongTable([cells], colWidths=[WIDTH / len(cells)] * len(cells))
    table.setStyle(TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), *_PADDING]))
    return table


def facts(rows: Iterable[tuple[str, str]]) -> LongTable:
    """Lay out names and values."""
    cells = [[text(label, QUIET), text(value)] for label, value in rows]
    table = LongTable(cells, colWidths=[0.27 * WIDTH, 0.73 * WIDTH], splitInRow=1)
    table.setStyle(TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), *_PADDING]))
    return table


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    shares: Sequence[float],
    marked: Sequence[int] = (),
    right: Collection[int] = (),
) -> LongTable:
    """Lay out a table that goes on over pages, with its head on each."""
    laid = LongTable(
        [
            [text(name, QUIET_RIGHT if n in right else QUIET) for n, name in enumerate(head)],
            *rows,
        ],
        colWidths=[share * WIDTH for share in shares],
        repeatRows=1,
        # A name that is written with escapes may be higher than a page.
        splitInRow=1,
    )
    style: list[Any] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE),
        *_PADDING,
    ]
    style += [("BACKGROUND", (0, number), (-1, number), TONES["bad"][0]) for number in marked]
    laid.setStyle(TableStyle(style))
    return laid


def section(title: str, *parts: Any) -> list[Any]:
    """Put parts under a title."""
    return [text(title, HEAD), *parts]


def toned(tone: Tone | None) -> ParagraphStyle:
    """Return small print in the colour of a tone."""
    if tone is None:
        return SMALL
    return ParagraphStyle(f"small-{tone.value}", parent=SMALL, textColor=TONES[tone.value][1])


class _Text(Paragraph):  # type: ignore[misc]
    """A paragraph that knows whether some of its characters are written as numbers."""

    has_numbers = False


def _texts(parts: Any) -> Iterator[_Text]:
    """Find all paragraphs of foreign text, also in tables and in what is kept together."""
    for part in parts:
        if isinstance(part, _Text):
            yield part
        elif isinstance(part, list | tuple):
            yield from _texts(part)
        else:
            for inner in ("_cellvalues", "_content"):
                yield from _texts(getattr(part, inner, ()))


def text(words: str, style: ParagraphStyle = SMALL) -> Paragraph:
    """Make a paragraph; foreign text is markup for nobody."""
    paragraph = _Text(escaped(words), style)
    paragraph.has_numbers = pdf_fonts.has_numbers(words)
    return paragraph


def markup(words: str) -> Paragraph:
    """Make a paragraph of markup of ours, in which foreign text is escaped already."""
    return Paragraph(words, SMALL)


def escaped(words: str) -> str:
    """Return foreign text as it may stand in markup, each piece in a font that has it."""
    return "".join(
        f'<font name="{font}">{escape(piece, quote=False)}</font>'
        if font
        else escape(piece, quote=False)
        for font, piece in pdf_fonts.runs(words)
    )
