"""Restore certificates as JSON for programs, and as one HTML page for people."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from dcmvault.i18n import format_bytes, format_duration, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.report import Privacy
from dcmvault.model.restore_certificate import RestoreCertificate
from dcmvault.model.selection import Selection
from dcmvault.reports.escaping import locator_token
from dcmvault.reports.pages import render_page
from dcmvault.reports.times import utc
from dcmvault.reports.wording import level_meaning

#: A page stays readable; the JSON certificate has all.
_MOST_STUDIES = 2000
_MOST_FAILURES = 500


def as_json(certificate: RestoreCertificate, privacy: Privacy) -> str:
    """Write a certificate as JSON: `digest` is that of everything beside it.

    It is the SHA-256 of the same object without it, keys sorted, without spaces, as UTF-8.
    """
    document = _document(_redacted(certificate, privacy))
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return json.dumps({**document, "digest": digest}, indent=2) + "\n"


def as_html(certificate: RestoreCertificate, privacy: Privacy) -> str:
    """Write a certificate as a page that needs nothing else, in the language in use."""
    shown = _redacted(certificate, privacy)
    left_out = len(shown.studies) - _MOST_STUDIES
    return render_page(
        "restore_certificate.html",
        words=_words(),
        certificate=shown,
        verdict=_verdict(shown),
        facts=_facts(shown),
        remarks=shown.remarks,
        studies=[
            (
                one.study_instance_uid or "-",
                format_number(one.files),
                format_bytes(one.bytes),
                one.digest,
            )
            for one in shown.studies[:_MOST_STUDIES]
        ],
        more=_("and %s more") % format_number(left_out) if left_out > 0 else "",
        failures=[
            (
                one.sop_instance_uid or one.study_instance_uid or one.locator,
                sentence(one.message),
                sentence(one.hint),
            )
            for one in shown.failures[:_MOST_FAILURES]
        ],
        meaning=level_meaning(shown.level),
    )


def _redacted(certificate: RestoreCertificate, privacy: Privacy) -> RestoreCertificate:
    if privacy is Privacy.FULL:
        return certificate
    return replace(
        certificate,
        failures=tuple(
            replace(one, locator=locator_token(one.locator)) for one in certificate.failures
        ),
        selection=certificate.selection
        if privacy is Privacy.IDS
        else replace(
            certificate.selection,
            patients=_stand_ins(certificate.selection.patients),
            accessions=_stand_ins(certificate.selection.accessions),
        ),
    )


def _stand_ins(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"({number})" for number in range(1, len(values) + 1))


def _document(certificate: RestoreCertificate) -> dict[str, object]:
    chosen = certificate.selection
    return {
        "kind": "restore_certificate",
        "source": certificate.source,
        "target": certificate.target,
        "snapshots": [
            {"name": name, "created_at": created} for name, created in certificate.snapshots
        ],
        "is_present": certificate.is_present,
        "asked": {
            "everything": chosen.is_whole,
            "studies": list(chosen.studies),
            "series": list(chosen.series),
            "patients": list(chosen.patients),
            "accession_numbers": list(chosen.accessions),
            "study_date_from": chosen.first_date,
            "study_date_to": chosen.last_date,
            "layout": certificate.layout,
        },
        "run": certificate.run,
        "level": certificate.level.word,
        "began_at": certificate.began_at.isoformat(timespec="milliseconds"),
        "ended_at": certificate.ended_at.isoformat(timespec="milliseconds"),
        "duration_s": round(certificate.seconds, 3),
        "is_complete": certificate.is_complete,
        "files": {
            "selected": certificate.selected,
            "delivered": certificate.delivered,
            "already_there": certificate.already_there,
            "proven": certificate.proven,
            "failed": certificate.failed,
        },
        "bytes": certificate.bytes,
        "studies": [
            {
                "study_instance_uid": one.study_instance_uid,
                "files": one.files,
                "bytes": one.bytes,
                "digest": one.digest,
            }
            for one in certificate.studies
        ],
        "remarks": list(certificate.remarks),
        "failures": [
            {
                "study_instance_uid": one.study_instance_uid,
                "sop_instance_uid": one.sop_instance_uid,
                "locator": one.locator,
                "code": one.code,
                "status": one.status,
                "message": one.message,
                "hint": one.hint,
            }
            for one in certificate.failures
        ],
        "versions": dict(certificate.versions),
    }


def _words() -> dict[str, str]:
    return {
        "title": _("Restore certificate"),
        "studies": _("Studies at the target"),
        "study": _("Study"),
        "files": _("Files"),
        "size": _("Size"),
        "digest": _("Digest"),
        "failures": _("What was not restored"),
        "file": _("File"),
        "message": _("What happened"),
        "next_step": _("Next step"),
        "digest_note": _(
            "A study's digest is the SHA-256 of a sorted list with a line for each file: its "
            "SHA-256 in hexadecimal, two spaces, its SOP Instance UID, a line feed."
        ),
    }


def _verdict(certificate: RestoreCertificate) -> tuple[str, str, str]:
    """Return tone, headline and detail."""
    count = format_number(certificate.proven)
    if certificate.level <= Level.SENT and not certificate.failed:
        sent = format_number(certificate.delivered + certificate.already_there)
        return "claim", _("%s files were sent; nothing was verified.") % sent, ""
    if not certificate.is_complete:
        words = {
            "n": count,
            "all": format_number(certificate.selected),
            "level": certificate.level.word,
        }
        return (
            "bad",
            _("%(n)s of %(all)s files are restored (evidence: %(level)s); the rest is not.")
            % words,
            _("What is missing is named below."),
        )
    headline = ngettext(
        "%(n)s file is restored (evidence: %(level)s).",
        "All %(n)s files are restored (evidence: %(level)s).",
        certificate.proven,
    )
    words = {"n": count, "level": certificate.level.word}
    return "good", headline % words, level_meaning(certificate.level)


def _facts(certificate: RestoreCertificate) -> list[tuple[str, str]]:
    facts = [
        (_("From"), certificate.source),
        (_("To"), certificate.target),
        (_("Asked for"), _asked(certificate.selection)),
    ]
    if certificate.snapshots:
        names = ", ".join(f"{name} ({time})" for name, time in certificate.snapshots)
        if certificate.is_present:
            names = _("%s and what was stored since") % names
        facts.append((_("Snapshot"), names))
    facts += [
        (_("Level"), certificate.level.word),
        (_("Written or sent"), format_number(certificate.delivered)),
        (_("There already"), format_number(certificate.already_there)),
        (_("Size"), format_bytes(certificate.bytes)),
        (_("Began"), utc(certificate.began_at)),
        (_("Time"), format_duration(certificate.seconds)),
        (_("Versions"), ", ".join(f"{name} {v}" for name, v in certificate.versions.items())),
    ]
    if certificate.run:
        facts.append((_("Run"), certificate.run))
    return facts


def _asked(chosen: Selection) -> str:
    if chosen.is_whole:
        return _("everything")
    parts = [
        (_("studies"), chosen.studies),
        (_("series"), chosen.series),
        (_("patients"), chosen.patients),
        (_("accession numbers"), chosen.accessions),
    ]
    told = [f"{name}: {', '.join(values)}" for name, values in parts if values]
    if chosen.first_date or chosen.last_date:
        told.append(_("study date") + f": {chosen.first_date}..{chosen.last_date}")
    return "; ".join(told)
