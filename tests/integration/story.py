"""What the story's tests share: commands that answer with JSON, and what a source's reads were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

#: No test waits for a second attempt.
QUICK_RETRIES = "[retry]\nwait_s = 0\n"

#: Imported by the interpreter at start: writes down every file below AUDIT_ROOT that is opened.
_SITECUSTOMIZE = """
import os, sys
_root, _log = os.environ["AUDIT_ROOT"], os.environ["AUDIT_LOG"]
_out = os.open(_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def _hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path.startswith(_root):
            os.write(_out, path.encode() + b"\\n")
sys.addaudithook(_hook)
"""


class Completed(Protocol):
    """A process that ended."""

    @property
    def returncode(self) -> int: ...
    @property
    def stdout(self) -> str: ...
    @property
    def stderr(self) -> str: ...


def summary_of(completed: Completed, exit_status: int = 0) -> dict[str, Any]:
    """Return the one JSON object on standard output, after checking the exit status."""
    assert completed.returncode == exit_status, (completed.stdout, completed.stderr)
    summary = json.loads(completed.stdout)
    assert isinstance(summary, dict)
    assert summary["exit_status"] == exit_status
    return summary


def instances(summary: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts that are not zero."""
    return {name: count for name, count in summary["instances"].items() if count}


def failed_uids(summary: Mapping[str, Any]) -> list[str]:
    """Return the SOP Instance UIDs that the summary names as failed."""
    return sorted(failure["sop_instance_uid"] for failure in summary["failures"])


def watch_opens(folder: Path, root: Path) -> tuple[dict[str, str], Path]:
    """Make an environment in which every open below `root` is logged; return it and the log."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    log = folder / "opened.log"
    log.touch()
    environment = {"PYTHONPATH": str(folder), "AUDIT_ROOT": str(root), "AUDIT_LOG": str(log)}
    return environment, log
