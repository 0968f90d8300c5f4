"""What happens around a run: the user's own commands, and that others are told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from dcmvault.app.announcing import Announcer
from dcmvault.app.hooks import call_hook, is_for
from dcmvault.app.notice_facts import facts_of_run, plan_of
from dcmvault.config.hooks_section import HookSection, HooksSection
from dcmvault.config.settings import Settings
from dcmvault.errors import HookFailedError, StateError
from dcmvault.model.identifiers import RunId
from dcmvault.model.plan import RunRequest
from dcmvault.model.report import RunReport
from dcmvault.ports.catalogue import RunCatalogue, RunRecord
from dcmvault.ports.clock import Clock

_log = logging.getLogger(__name__)

_VERSION = 1
_HINT = "The log has what the command said; mend it, or set its “on_failure” to “warn”."


@dataclass(frozen=True, slots=True)
class AroundRuns:
    """Called when a run begins, before it ends, and when it ended; each may be repeated."""

    settings: Settings
    runs: RunCatalogue
    announcer: Announcer
    clock: Clock
    #: Called when there is news in the outbox.
    heard: Callable[[], None]
    #: Set when the worker stops: commands are ended then, and carried out at the next start.
    stopping: threading.Event

    def begin(self, run_id: RunId, request: RunRequest) -> None:
        """Tell that a run begins, and carry `pre_run` out.

        HookFailedError where that fails and the run is to fail with it.
        """
        self.announcer.run_started(run_id, request, self.clock.now())
        self.heard()
        hook, plan = self._hooks.pre_run, plan_of(self.settings, request)
        if hook is not None and is_for(hook, plan):
            self._call("pre_run", hook, run_id, self._said("pre_run", run_id, request))

    def close(self, record: RunRecord) -> None:
        """Carry `per_study` and `post_run` out, unless the run ended or plans once more.

        HookFailedError where one fails and the run is to fail with it; the others are carried out
        all the same.
        """
        hooks, run_id = self._hooks, record.run_id
        if hooks.per_study is None and hooks.post_run is None:
            return
        if record.continued_at is not None or record.finished_at is not None:
            return
        report = self.runs.report(run_id)
        plan = plan_of(self.settings, report.request)
        failures = []
        for when, hook, said in self._closing(run_id, report, plan):
            try:
                self._call(when, hook, run_id, said)
            except HookFailedError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def ended(self, run_id: RunId) -> None:
        """Tell that a run ended; what cannot be written down now is told later."""
        try:
            if self.announcer.has_channels:
                self.announcer.run_ended(run_id)
                self.heard()
        except StateError as error:
            _log.warning("run %s: its end is told later: %s", run_id, error.code)

    @property
    def _hooks(self) -> HooksSection:
        return self.settings.hooks

    def _closing(
        self, run_id: RunId, report: RunReport, plan: str
    ) -> Iterator[tuple[str, HookSection, Mapping[str, object]]]:
        hooks = self._hooks
        if hooks.per_study is not None and is_for(hooks.per_study, plan):
            for study in report.study_reports:
                said = {
                    **self._said("per_study", run_id, report.request),
                    "study_instance_uid": study.study_instance_uid,
                    "destination": study.destination,
                    "modalities": study.modalities,
                    "instances": study.instances,
                    "held": study.held,
                    "level": study.level.word,
                }
                yield "per_study", hooks.per_study, said
        if hooks.post_run is not None and is_for(hooks.post_run, plan):
            facts = facts_of_run(self.settings, report)
            names = ("instances", "studies", "source_bytes", "transferred_bytes", "causes")
            said = {
                **self._said("post_run", run_id, report.request),
                **{name: facts[name] for name in names},
            }
            yield "post_run", hooks.post_run, said

    def _said(self, when: str, run_id: RunId, request: RunRequest) -> dict[str, object]:
        """Return what every command is told: also addresses, which stay on this machine."""
        return {
            "version": _VERSION,
            "hook": when,
            "run": run_id,
            "plan": plan_of(self.settings, request) or None,
            "kind": request.kind.value,
            "source": request.source,
            "destinations": [one.address for one in request.destinations],
        }

    def _call(
        self, when: str, hook: HookSection, run_id: RunId, said: Mapping[str, object]
    ) -> None:
        result = call_hook(when, hook, said, self.stopping)
        if result.is_good:
            return
        _log.warning("run %s: %s", run_id, result.problem)
        if hook.on_failure == "fail":
            raise HookFailedError(result.problem, hint=_HINT)
        if hook.on_failure == "warn":
            self.runs.record_plan(
                run_id, counts=None, already_held={}, levels={}, warnings=[f"{result.problem}."]
            )
