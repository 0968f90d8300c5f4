"""Results of work in the background, as the page that asked for it shows them."""

from __future__ import annotations

from typing import TypeVar

from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.web.background import Background, Work

_Result = TypeVar("_Result")


def result_of(background: Background, work_id: str, kind: type[_Result]) -> tuple[Work, _Result]:
    """Return work that ended with a result of this kind; UsageError for any other."""
    work = background.find(work_id)
    if not isinstance(work.result, kind):
        raise UsageError(_("There is no such result."), hint=_("Go back, and ask for it again."))
    return work, work.result
