"""A migration certificate as one HTML page."""

from __future__ import annotations

from dcmvault.model.certificate import Certificate
from dcmvault.reports.certificate_page import certificate_page, words
from dcmvault.reports.pages import render_page


def render(certificate: Certificate, json_digest: str = "") -> str:
    """Render the page in the language in use."""
    return render_page(
        "certificate.html", page=certificate_page(certificate, json_digest), words=words()
    )
