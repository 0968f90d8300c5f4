"""Status without waiting: counted now where that is quick, else as it was counted last.

Counting looks at every instance: a moment's work for a practice, seconds for a large archive. What
took long is kept in the catalogue with its time, and is told again while nothing has changed since,
or while somebody who counts at intervals is not due to count again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dcmvault.app.as_data import source_data
from dcmvault.app.status import EvidenceView, SourceView, evidence_asked, status
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import StateError
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.ports.kept_counts import KeptCounts
from dcmvault.ports.reverification import FactSummary, VerificationDebt
from dcmvault.ports.status import CoverageStatus

#: Seconds that nobody minds to wait: what is counted in these is counted whenever somebody asks.
QUICK_S = 0.1
#: How old counts may be of which nothing changed but the age of evidence.
_OLDEST = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class KnownStatus:
    """Every source that was ever seen, when that was counted, and the seconds that it took.

    Zero seconds: it was counted before, by whomever.
    """

    views: Sequence[SourceView]
    counted_at: datetime
    took_s: float


def known_status(workplace: Workplace) -> KnownStatus:
    """Return what was counted last where that holds still, else count, and keep what took long."""
    return kept_status(workplace) or count_status(workplace)


def kept_status(workplace: Workplace) -> KnownStatus | None:
    """Return what was counted last; None where it does not hold any more."""
    book = workplace.catalogue.kept_counts
    kept = book.kept()
    if kept is None or not _holds(kept, book.mark(), workplace.clock.now()):
        return None
    views = _views(workplace, json.loads(kept.counts))
    return None if views is None else KnownStatus(views, kept.counted_at, 0.0)


def count_status(
    workplace: Workplace, again: Callable[[float], timedelta] | None = None
) -> KnownStatus:
    """Count, and keep what took long; `again` says how long, by the seconds that it took.

    For so long it is told whatever changes, because the caller will have counted again by then.
    What the coverage of a source at a destination says of the last run is not kept.
    """
    clock, book = workplace.clock, workplace.catalogue.kept_counts
    at, began, mark = clock.now(), clock.monotonic(), book.mark()
    views = status(workplace)
    took_s = clock.monotonic() - began
    if took_s > QUICK_S:
        # Who asks only how things are is told, though it cannot be written down.
        with suppress(StateError):
            again_at = None if again is None else clock.now() + again(took_s)
            counts = json.dumps([source_data(view) for view in views])
            book.keep(KeptCounts(at, mark, again_at, counts))
    return KnownStatus(views, at, took_s)


def _holds(kept: KeptCounts, mark: str, now: datetime) -> bool:
    if kept.again_at is not None and kept.counted_at <= now < kept.again_at:
        return True
    # A clock that was set back lets nothing stay for ever.
    return kept.mark == mark and timedelta(0) <= now - kept.counted_at < _OLDEST


def _views(workplace: Workplace, counts: Sequence[Mapping[str, Any]]) -> list[SourceView] | None:
    """Make views of kept counts; None where other places or other evidence are asked for now."""
    by_name = {one["name"]: one["destinations"] for one in counts}
    ids = {name: key for key, name in workplace.catalogue.status.destinations().items()}
    views = []
    for source in workplace.catalogue.status.sources():
        places = by_name.get(source.name)
        if places is None:
            return None
        coverage, evidence = [], {}
        for one in places:
            name = one["name"]
            found = _evidence(one)
            if name not in ids or (found.level, found.oldest_s) != evidence_asked(workplace, name):
                return None
            coverage.append(_coverage(source.source_id, ids[name], one))
            evidence[name] = found
        views.append(SourceView(source, tuple(coverage), evidence))
    return views


def _coverage(
    source_id: SourceId, destination_id: DestinationId, one: Mapping[str, Any]
) -> CoverageStatus:
    return CoverageStatus(
        source_id=source_id,
        destination_id=destination_id,
        destination=one["name"],
        studies_protected=one["studies_protected"],
        studies=one["studies"],
        instances_held=one["instances_held"],
        instances=one["instances"],
        by_level={Level.from_word(word): count for word, count in one["by_level"].items()},
        coerced=one["coerced"],
        oldest_evidence_at=_moment(one["oldest_evidence_at"]),
        last_run=None,
    )


def _evidence(one: Mapping[str, Any]) -> EvidenceView:
    owed = one["verification_debt"]
    return EvidenceView(
        Level.from_word(owed["level"]),
        owed["reverify_after_s"] or 0,
        VerificationDebt(owed["studies"], owed["instances"], owed["bytes"]),
        {
            Level.from_word(word): FactSummary(
                fact["instances"],
                datetime.fromisoformat(fact["oldest_at"]),
                datetime.fromisoformat(fact["newest_at"]),
            )
            for word, fact in one["facts"].items()
        },
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
