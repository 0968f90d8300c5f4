"""Where the one verb beside a problem leads."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import quote

from dcmvault.model.overview import Need, NeedKind, Verb

#: The page for each verb, where no place of its own is known.
_PAGES = {
    Verb.RUN_NOW: "/schedules",
    Verb.TRY: "/live",
    Verb.MAKE_ROOM: "/vault",
    Verb.VERIFY: "/studies",
    Verb.LOOK_AT_SOURCE: "/studies",
    Verb.LOOK_AT_RUN: "/runs",
    Verb.RENEW: "/settings",
    Verb.LOOK_AT_WORK: "/live",
    Verb.DRILL: "/restore",
    Verb.TEST_CHANNEL: "/settings",
}
_OF_A_PLAN = frozenset({NeedKind.NEVER_RAN, NeedKind.ALERT})


def lead_of(need: Need, known: Collection[str], *, may_steer: bool) -> str:
    """Return the address that a need's button leads to; empty where there is no such page."""
    if need.verb is Verb.LOOK_AT_RUN and need.run_id:
        return f"/runs/{quote(need.run_id, safe='')}"
    if need.verb is Verb.TRY and may_steer:
        return f"/destinations/{quote(need.subject, safe='')}/try"
    if need.verb is Verb.RUN_NOW and need.kind in _OF_A_PLAN and may_steer:
        return f"/plans/{quote(need.subject, safe='')}/start"
    page = _PAGES[need.verb]
    return page if page in known else ""
