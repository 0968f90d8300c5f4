"""Studies of the matrix as JSON: one object, written study by study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime

from dcmvault.model.study_matrix import CopyCounts, StudyLine


def render_json(lines: Iterable[StudyLine], *, patients: bool) -> Iterator[str]:
    """Yield `{"studies": [...]}` in pieces; patient data only where it was asked for."""
    yield '{"studies": ['
    separator = "\n"
    for line in lines:
        yield separator + json.dumps(_study(line, patients=patients), ensure_ascii=False)
        separator = ",\n"
    yield "\n]}\n"


def _study(line: StudyLine, *, patients: bool) -> dict[str, object]:
    found: dict[str, object] = {
        "study_instance_uid": line.study_instance_uid,
        "study_date": line.study_date,
        "modalities": line.modalities,
        "state": line.state.word,
        "level": line.level.word,
        "series": line.series,
        "instances": line.instances,
        "bytes": line.bytes,
        "unreadable": line.unreadable,
        "sources": line.sources,
        "legal_hold": line.held_in,
        "excluded": line.is_excluded,
        "copies": {name: _copy(copy) for name, copy in line.copies.items()},
    }
    if patients:
        found |= {
            "patient_name": line.patient_name,
            "patient_id": line.patient_id,
            "accession_number": line.accession_number,
            "study_description": line.study_description,
        }
    return found


def _copy(copy: CopyCounts) -> dict[str, object]:
    return {
        "state": copy.state.word,
        "level": copy.level.word,
        "expected": copy.expected,
        "held": copy.held,
        "unverified": copy.unverified,
        "missing": copy.missing,
        "damaged": copy.damaged,
        "since": _time(copy.oldest_evidence_at),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
