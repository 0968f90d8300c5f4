"""The log file of a state folder: what happened, without patient data."""

from __future__ import annotations

import logging
import os
import traceback
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

_LOG_BYTES = 5_000_000
_LOG_FILES = 5
_ErrorInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


class _PrivateRotatingFile(RotatingFileHandler):
    """A rotating file that nobody else may read, from its first byte."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")


class _Anonymous(logging.Formatter):
    """Writes where an error came from and its type, but not its message.

    Messages of foreign exceptions quote values and paths, which may be patient data.
    """

    def formatException(self, ei: _ErrorInfo) -> str:  # noqa: N802 - the name is logging's
        kind, _error, trace = ei
        lines = [line.rstrip("\n") for line in traceback.format_tb(trace)]
        return "\n".join([*lines, kind.__name__ if kind else ""])


def log_path(home: Path) -> Path:
    """Return where the log of a state folder lies."""
    return home / "logs" / "dcmvault.log"


def start_log(home: Path, *, verbose: bool = False) -> None:
    """Log to a file of mode 0600 in the state folder; with `verbose`, warnings to stderr, too.

    Only our own loggers write there: libraries log values that may be patient data.
    OSError when the file cannot be opened. A second call replaces the log of the first.
    """
    path = log_path(home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    file = _PrivateRotatingFile(path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, delay=True)
    file.setFormatter(_Anonymous("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers: list[logging.Handler] = [file]
    if verbose:
        screen = logging.StreamHandler()
        screen.setLevel(logging.WARNING)
        screen.setFormatter(_Anonymous("%(message)s"))
        handlers.append(screen)
    stop_log()
    logger = logging.getLogger("dcmvault")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)


def current_log() -> Path | None:
    """Return the file that is logged to, if `start_log` was called."""
    for handler in logging.getLogger("dcmvault").handlers:
        if isinstance(handler, _PrivateRotatingFile):
            return Path(handler.baseFilename)
    return None


def stop_log() -> None:
    """Close what `start_log` opened."""
    logger = logging.getLogger("dcmvault")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True
