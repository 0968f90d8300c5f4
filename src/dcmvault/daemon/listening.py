"""The duty of listening: what is pushed to us is backed up by the plan that takes it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from dcmvault.app.backup import requests_of_plan, start
from dcmvault.app.listen import Arrivals, Listening
from dcmvault.app.wiring.listener import receiving
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.differences import LISTENER
from dcmvault.config.settings import Settings
from dcmvault.errors import ConfigurationError
from dcmvault.i18n import gettext as _
from dcmvault.model.identifiers import RunId
from dcmvault.model.plan import RunRequest
from dcmvault.model.report import RunState

_log = logging.getLogger(__name__)

_LOOK = timedelta(seconds=0.5)
_ENDED = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CANCELLED})


class Protecting:
    """Asks for a run whenever something settled, and clears the spool when the run ended well."""

    def __init__(self, workplace: Workplace, listening: Listening, request: RunRequest) -> None:
        self._workplace = workplace
        self._listening = listening
        self._request = request
        self._run: RunId | None = None

    def __call__(self, now: datetime) -> datetime:
        """Look whether a run is due, or how the one that was asked for stands."""
        runs = self._workplace.catalogue.runs
        if self._run is not None:
            if runs.run(self._run).state in _ENDED:
                report = runs.report(self._run, studies=False)
                self._run = None
                self._listening.ended(is_good=report.exit_status == 0)
        elif self._listening.is_due():
            self._run = start(self._workplace, self._request).run_id
        return now + _LOOK


def request_of_listener(settings: Settings) -> RunRequest | None:
    """Return what is to be done with what is pushed to us; None where no plan takes it.

    ConfigurationError where several plans do: what one of them holds may leave the spool.
    """
    takers = [name for name, plan in settings.plans.items() if LISTENER in plan.sources]
    if len(takers) > 1:
        raise ConfigurationError(
            _("Several plans take what is pushed to us: %s.") % ", ".join(takers),
            hint=_("Name all destinations in one plan, and “listener:” in that one only."),
        )
    if not takers:
        return None
    requests = requests_of_plan(settings, takers[0])
    return next(one for one in requests if one.source.startswith(LISTENER))


@contextmanager
def protecting(workplace: Workplace) -> Iterator[tuple[Callable[[datetime], datetime], int] | None]:
    """Listen as configured, within; yield the duty and the port, or None where no plan takes it.

    Raises what `receiving` and `request_of_listener` raise.
    """
    settings = workplace.settings
    request = request_of_listener(settings)
    if request is None:
        yield None
        return
    arrivals = Arrivals()
    holdings = workplace.catalogue.holdings
    with receiving(settings.listener, holdings, arrivals.arrived) as receiver:
        listening = Listening(workplace, request, receiver, arrivals, _note_cleared)
        yield Protecting(workplace, listening, request), receiver.port


def _note_cleared(instances: int) -> None:
    _log.info("%d instances left the spool: every destination holds them", instances)
