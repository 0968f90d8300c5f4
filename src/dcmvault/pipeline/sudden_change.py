"""When so much of a source changed or went at once that its backups are held."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from dcmvault.errors import SourceHeldError
from dcmvault.model.identifiers import SourceId
from dcmvault.ports.signs import SignBook, SourceSigns

#: What is no DICOM any more counts so many times: nobody but an accident or an attack does that.
_SPOILT_COUNTS = 10


@dataclass(frozen=True, slots=True)
class HoldPolicy:
    """From which share of what a source had, and from how many instances on."""

    #: At least so many instances, and more than this share of all, hold something new.
    changed_share: float = 0.2
    #: Or so many are gone, by a share of its own: archives are also cleared out on purpose.
    gone_share: float = 0.5
    instances: int = 100
    #: What changed bit by bit within this time counts together, each change by itself.
    window: timedelta = timedelta(days=14)

    def is_sudden(self, signs: SourceSigns) -> bool:
        """Say whether this is more than people do in the time between two backups."""
        weighed = signs.changed + (_SPOILT_COUNTS - 1) * signs.spoilt
        return self._is_much(weighed, signs.known, self.changed_share) or self._is_much(
            signs.gone, signs.known, self.gone_share
        )

    def _is_much(self, instances: int, known: int, share: float) -> bool:
        return instances > self.instances and instances > share * known > 0


def require_believable(
    book: SignBook,
    source_id: SourceId,
    policy: HoldPolicy,
    now: datetime,
    *,
    accepted: bool,
    whole: bool,
) -> None:
    """Believe what a source shows, unless much of it changed or went at once.

    Then SourceHeldError is raised, for this backup and all others of the source, until one comes
    whose changes are `accepted`, or until what happened is undone. Only a backup of the `whole`
    source releases it: one of a part goes on where its changes are accepted, and the next of
    the rest is held as before.
    """
    if accepted and whole:
        book.accept(source_id)
        return
    since = now - policy.window
    is_sudden = policy.is_sudden(book.signs(source_id))
    if not is_sudden and policy.is_sudden(book.lately(source_id, since)):
        book.doubt(source_id, since)
        is_sudden = True
    if is_sudden and not accepted:
        book.hold(source_id, now)
        raise _held(book.signs(source_id), policy)
    if whole or not (is_sudden or any(one.source_id == source_id for one in book.held())):
        book.believe(source_id, now, since)


def _held(signs: SourceSigns, policy: HoldPolicy) -> SourceHeldError:
    days = round(policy.window / timedelta(days=1))
    return SourceHeldError(
        f"of {signs.known:,} instances of this source {signs.changed:,} changed since its last"
        f" backup, or bit by bit within {days} days ({signs.spoilt:,} are no DICOM any more), and"
        f" {signs.gone:,} are gone: nothing was delivered, because ransomware does this, too",
        hint="Look at the source first; what was backed up before is kept. If it is as it should"
        " be, the same command with --accept-changes goes on.",
    )
