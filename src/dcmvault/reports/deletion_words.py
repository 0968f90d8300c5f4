"""Why an original should not be deleted yet, in sentences for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

from dcmvault.i18n import format_number, gettext, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.deletion import DeletionPolicy, NotYet, Reason

_DAY = timedelta(days=1)
#: Look-ups of the language in use, of a sentence and of one with a number.
_One = Callable[[str], str]
_Counted = Callable[[str, str, int], str]


def reason_sentence(reason: Reason) -> str:
    """Say it in the language in use."""
    return _sentence(reason, gettext, ngettext, format_number)


def reason_in_english(reason: Reason) -> str:
    """Say it for programs."""
    return _sentence(reason, str, _english, str)


def reason_title(kind: NotYet) -> str:
    """Name a kind of reason, for a count of studies."""
    titles: Mapping[NotYet, str] = {
        NotYet.ABSENT: _("with nothing that can be read"),
        NotYet.UNREADABLE: _("with files that could not be read"),
        NotYet.UNPLACED: _("that files of unknown studies may belong to"),
        NotYet.LISTING_INCOMPLETE: _("of a source that may not have listed everything"),
        NotYet.CONFLICT: _("with different contents under one UID"),
        NotYet.CHANGED: _("changed since they were backed up"),
        NotYet.CHANGES_UNSEEN: _("of a source that does not show changes in place"),
        NotYet.LEGAL_HOLD: _("under legal hold"),
        NotYet.VAULT_UNASKED: _("of which a vault could not be asked for legal holds"),
        NotYet.TOO_FEW_COPIES: _("with too few copies that count"),
        NotYet.NOT_HELD: _("with a copy that is not whole at its level"),
        NotYet.AT_SOURCE: _("with a copy that is, or may be, at the source itself"),
        NotYet.SET_BACK: _("with a copy in a vault that lost snapshots"),
        NotYet.LISTED_NO_MORE: _("with a copy that a vault lists no more"),
        NotYet.EVIDENCE_TOO_OLD: _("with evidence that is too old"),
        NotYet.BACKED_UP_TOO_LATELY: _("backed up too lately"),
        NotYet.NOT_IMMUTABLE: _("with too few locked copies"),
    }
    return titles[kind]


def policy_sentence(policy: DeletionPolicy) -> str:
    """Say what is asked, in the language in use."""
    parts = [
        ngettext(
            "Asked for: %(n)s copy of every instance, “%(level)s”.",
            "Asked for: %(n)s copies of every instance, “%(level)s”.",
            policy.copies,
        )
        % {"n": format_number(policy.copies), "level": policy.level.word}
    ]
    parts += [
        _("At %(destination)s: “%(level)s”.") % {"destination": place, "level": level.word}
        for place, level in sorted(policy.levels.items())
    ]
    days = policy.evidence_max_age // _DAY
    parts.append(
        ngettext("Evidence of at most %s day.", "Evidence of at most %s days.", days)
        % format_number(days)
    )
    if days := policy.min_age // _DAY:
        parts.append(
            ngettext("Copies of at least %s day.", "Copies of at least %s days.", days)
            % format_number(days)
        )
    if policy.immutable:
        parts.append(
            ngettext(
                "%s copy locked against removal.",
                "%s copies locked against removal.",
                policy.immutable,
            )
            % format_number(policy.immutable)
        )
    return " ".join(parts)


def _english(one: str, many: str, number: int) -> str:
    return one if number == 1 else many


def _sentence(
    reason: Reason, gettext: _One, ngettext: _Counted, number: Callable[[int], str]
) -> str:
    words = {
        "destination": reason.destination,
        "n": number(reason.count),
        "wanted": number(reason.wanted),
        "level": reason.level.word,
    }
    if reason.kind in _ABOUT_COPIES:
        return _of_copy(reason, gettext, ngettext) % words
    return _of_study(reason, gettext, ngettext) % words


_ABOUT_COPIES = frozenset({NotYet.NOT_HELD, NotYet.EVIDENCE_TOO_OLD, NotYet.BACKED_UP_TOO_LATELY})


def _of_copy(reason: Reason, gettext: _One, ngettext: _Counted) -> str:
    match reason.kind:
        case NotYet.NOT_HELD if not reason.count:
            return gettext("%(destination)s holds nothing of it at the level “%(level)s”.")
        case NotYet.NOT_HELD:
            return ngettext(
                "%(destination)s holds %(n)s of %(wanted)s instance at the level “%(level)s”.",
                "%(destination)s holds %(n)s of %(wanted)s instances at the level “%(level)s”.",
                reason.wanted,
            )
        case NotYet.EVIDENCE_TOO_OLD if reason.count < 0:
            return gettext("The copy at %(destination)s was never verified.")
        case NotYet.EVIDENCE_TOO_OLD:
            return ngettext(
                "The evidence of %(destination)s is %(n)s day old; %(wanted)s are allowed.",
                "The evidence of %(destination)s is %(n)s days old; %(wanted)s are allowed.",
                reason.count,
            )
        case _:
            return ngettext(
                "The copy at %(destination)s is %(n)s day old; it must be %(wanted)s.",
                "The copy at %(destination)s is %(n)s days old; it must be %(wanted)s.",
                reason.count,
            )


def _of_study(reason: Reason, gettext: _One, ngettext: _Counted) -> str:
    sentences: Mapping[NotYet, str] = {
        NotYet.ABSENT: gettext("The source has nothing of it that can be read."),
        NotYet.UNREADABLE: ngettext(
            "%(n)s file of it could not be read, and is not backed up as it is now.",
            "%(n)s files of it could not be read, and are not backed up as they are now.",
            reason.count,
        ),
        NotYet.UNPLACED: ngettext(
            "%(n)s file of the source is not backed up, for it could not be read as DICOM; it may "
            "be of this study.",
            "%(n)s files of the source are not backed up, for they could not be read as DICOM; "
            "they may be of this study.",
            reason.count,
        ),
        NotYet.LISTING_INCOMPLETE: gettext("The source may not have listed all that it holds."),
        NotYet.CONFLICT: ngettext(
            "The source has different contents under %(n)s UID.",
            "The source has different contents under %(n)s UIDs.",
            reason.count,
        ),
        NotYet.CHANGED: ngettext(
            "%(n)s instance changed at the source since it was backed up.",
            "%(n)s instances changed at the source since they were backed up.",
            reason.count,
        ),
        NotYet.CHANGES_UNSEEN: gettext(
            "Listing this source does not show whether instances were replaced in place."
        ),
        NotYet.LEGAL_HOLD: gettext("It is under legal hold at %(destination)s."),
        NotYet.VAULT_UNASKED: gettext(
            "%(destination)s could not be asked whether it is under legal hold."
        ),
        NotYet.SET_BACK: gettext(
            "%(destination)s lost snapshots: what is known of its copies may be true no more."
        ),
        NotYet.AT_SOURCE: gettext(
            "%(destination)s is, or may be, the source itself: that is no copy."
        ),
        NotYet.LISTED_NO_MORE: gettext(
            "%(destination)s no longer lists all of it: it was forgotten or lost there."
        ),
        NotYet.TOO_FEW_COPIES: ngettext(
            "%(n)s of %(wanted)s copy counts.", "%(n)s of %(wanted)s copies count.", reason.wanted
        ),
        NotYet.NOT_IMMUTABLE: ngettext(
            "%(n)s of %(wanted)s copy is locked against removal.",
            "%(n)s of %(wanted)s copies are locked against removal.",
            reason.wanted,
        ),
    }
    return sentences[reason.kind]
