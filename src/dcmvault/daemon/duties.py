"""All duties of the daemon: whoever has one to add makes it here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from dcmvault.app import looking_after
from dcmvault.app.audit_forwarding import AuditForwarding
from dcmvault.app.live import LiveWatch
from dcmvault.app.news import NewsDuty
from dcmvault.app.schedule_duties import schedules_duty, windows_duty
from dcmvault.app.study_matrix import counting_duty
from dcmvault.app.tidying import tidy
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.daemon.coverage import Coverage
from dcmvault.daemon.following import Following
from dcmvault.daemon.loops import Duty
from dcmvault.daemon.reloading import Reloading
from dcmvault.daemon.working import Working
from dcmvault.web.event_stream import EventStream

#: What `Loops.hasten` names.
RELOADING = "configuration"
NEWS = "news"


def duties_of(
    workplace: Workplace,
    stream: EventStream,
    coverage: Coverage,
    reloading: Reloading,
    watch: LiveWatch,
    protecting: Callable[[datetime], datetime] | None,
) -> list[Duty]:
    """Make the duties over an opened state folder; `stream` takes what they announce."""
    duties = [
        Duty("work", Working(workplace, stream)),
        Duty("events", Following(workplace, stream, watch)),
        Duty("coverage", coverage),
        Duty(RELOADING, reloading),
        Duty("schedules", schedules_duty(workplace)),
        Duty("windows", windows_duty(workplace)),
        Duty(NEWS, NewsDuty(workplace)),
        Duty("studies", counting_duty(workplace)),
        Duty("audit", AuditForwarding(workplace)),
        Duty("tidying", tidy),
        *(Duty(name, duty) for name, duty in looking_after.duties(workplace).items()),
    ]
    if protecting is not None:
        duties.append(Duty("listener", protecting))
    return duties
