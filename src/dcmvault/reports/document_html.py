"""A document as one HTML page."""

from __future__ import annotations

from dcmvault.reports.document import Document
from dcmvault.reports.pages import render_page


def render(document: Document) -> str:
    """Render one self-contained page in the language in use."""
    return render_page("document.html", document=document)
