"""Hooks: commands of the user's own, with JSON on standard input, a time limit, and no secrets."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from dcmvault.config.hooks_section import HookSection
from dcmvault.ports.queue import StageInterruption

_log = logging.getLogger(__name__)

#: What a command finds in its environment of ours: nothing that may be a secret.
_ENVIRONMENT = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP"}
)
#: Bytes of output that the log takes, of the beginning.
_LONGEST_OUTPUT = 8_192
#: Seconds between looks at a command that takes longer: whether it is to end, and what it says.
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class HookResult:
    """How a command ended: in order, or why not, in a sentence."""

    problem: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it ended with status 0, in time."""
        return not self.problem


def call_hook(
    when: str,
    hook: HookSection,
    said: Mapping[str, object],
    stopping: threading.Event | None = None,
) -> HookResult:
    """Carry a command out, and wait for it.

    It gets `said` as one JSON object on standard input, may ignore it, and is ended after its
    time with all that it started, or when we are `stopping`: StageInterruption then. The
    beginning of its output goes to the log.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        # In ASCII: the name of a folder may have bytes that are no UTF-8.
        given.write(json.dumps(said).encode("ascii") + b"\n")
        given.seek(0)
        try:
            # An argument list, no shell. Files, not pipes: nobody can block, however much is said.
            process = subprocess.Popen(
                hook.command,
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(when),
                start_new_session=True,
                close_fds=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no command"
            return HookResult(f"the hook {when} could not be started: {reason}")
        try:
            status = _status(process, hook.timeout_s, output, stopping)
        except subprocess.TimeoutExpired:
            return HookResult(f"the hook {when} took longer than {hook.timeout_s:g} s")
        finally:
            _end_all(process)
            _log_output(when, output)
    if status < 0:
        return HookResult(f"the hook {when} was ended by signal {-status}")
    return HookResult(f"the hook {when} ended with status {status}" if status else "")


def _status(
    process: subprocess.Popen[bytes],
    timeout_s: float,
    output: IO[bytes],
    stopping: threading.Event | None,
) -> int:
    """Wait for the end; meanwhile drop what is said beyond what the log takes."""
    until = time.monotonic() + timeout_s
    while True:
        if stopping is not None and stopping.is_set():
            raise StageInterruption
        left = until - time.monotonic()
        try:
            return process.wait(max(0.0, min(left, _LOOK_S)))
        except subprocess.TimeoutExpired:
            if left <= _LOOK_S:
                raise
        # It would fill the disk: a program may run for a day, and write all the time.
        if os.fstat(output.fileno()).st_size > _LONGEST_OUTPUT:
            os.ftruncate(output.fileno(), _LONGEST_OUTPUT + 1)


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """End the command and what it started, if anything of it is left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment(when: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith("LC_")
    }
    return {**kept, "DCMVAULT_HOOK": when}


def _log_output(when: str, output: IO[bytes]) -> None:
    output.seek(0)
    said = output.read(_LONGEST_OUTPUT + 1)
    if not said:
        return
    more = " ..." if len(said) > _LONGEST_OUTPUT else ""
    text = said[:_LONGEST_OUTPUT].decode("utf-8", "backslashreplace").rstrip()
    for line in text.splitlines():
        _log.info("hook %s: %s", when, line.encode("unicode_escape").decode("ascii"))
    if more:
        _log.info("hook %s: its further output is left out", when)


def is_for(hook: HookSection | None, plan: str) -> bool:
    """Say whether a hook is carried out for a plan."""
    return hook is not None and (not hook.plans or plan in hook.plans)
