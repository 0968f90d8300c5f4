"""A migration certificate as PDF, for who files it on paper. Needs the extra `pdf`."""

from __future__ import annotations

from typing import Any

from reportlab.platypus import Spacer

from dcmvault.model.certificate import Certificate
from dcmvault.reports import pdf_parts as pdf
from dcmvault.reports.certificate_page import CertificatePage, certificate_page, words


def render(certificate: Certificate, json_digest: str = "") -> bytes:
    """Render the certificate in the language in use; equal certificates are equal bytes."""
    page = certificate_page(certificate, json_digest)
    return pdf.built(_story(page), page.title, words()["footer"])


def _story(page: CertificatePage) -> list[Any]:
    said = words()
    story: list[Any] = [
        pdf.text(f"dcmvault · {page.title}", pdf.QUIET),
        Spacer(1, 6),
        pdf.verdict(page.tone, page.headline, page.detail),
    ]
    story += [Spacer(1, 8), pdf.figures(page.figures)]
    story += pdf.section(said["facts"], pdf.facts(page.facts))
    for name, facts in page.sides:
        story += pdf.section(name, pdf.facts(facts))
    if page.exceptions:
        head = (said["study"], said["verdict"], said["how"])
        rows = [
            (pdf.text(row.study_instance_uid, pdf.CODE), pdf.text(row.verdict), pdf.text(row.how))
            for row in page.exceptions
        ]
        story += pdf.section(said["exceptions"], pdf.table(head, rows, (0.46, 0.16, 0.38)))
        story += [pdf.text(page.exceptions_left_out, pdf.QUIET)]
    if page.not_found:
        names = [pdf.text(name, pdf.CODE) for name in page.not_found]
        story += pdf.section(
            said["not_found"], *names, pdf.text(page.not_found_left_out, pdf.QUIET)
        )
    story += pdf.section(said["sample"], pdf.text(page.sample_method), Spacer(1, 4))
    if page.sample:
        head = (said["study"], said["instances"], said["result"])
        sampled = [
            (
                pdf.text(row.study_instance_uid, pdf.CODE),
                pdf.text(row.instances),
                [pdf.text(row.result), *(pdf.text(reason, pdf.CODE) for reason in row.reasons)],
            )
            for row in page.sample
        ]
        story.append(pdf.table(head, sampled, (0.46, 0.12, 0.42)))
    if page.months:
        story += _months(page)
    explanations = [pdf.text(text, pdf.QUIET) for text in page.explanations]
    return story + pdf.section(said["how_to_read"], *explanations)


def _months(page: CertificatePage) -> list[Any]:
    said = words()
    columns = ("month", "modality", "studies_a", "studies_b", "instances_a", "instances_b")
    counts = [
        tuple(
            pdf.text(cell)
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
    table = pdf.table(
        [said[column] for column in columns],
        counts,
        (0.14, 0.22, 0.16, 0.16, 0.16, 0.16),
        differing,
    )
    return pdf.section(said["months"], table)
