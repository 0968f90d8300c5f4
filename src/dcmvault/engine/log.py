"""The engine's log, as part of ours."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)
_ENGINE_LOGGER = "dbos"


class _EngineLog(logging.Handler):
    """Hands the engine's warnings over to our logger, whose handlers the application chose."""

    def emit(self, record: logging.LogRecord) -> None:
        if _log.isEnabledFor(record.levelno):
            _log.handle(record)


def route_engine_log() -> None:
    """Have the engine's warnings and errors appear under our logger, once, and nothing else of it.

    Without a handler at its logger the engine would write to the console; and a record would
    reach the root logger twice if its logger still propagated.
    """
    engine_logger = logging.getLogger(_ENGINE_LOGGER)
    engine_logger.setLevel(logging.WARNING)
    engine_logger.propagate = False
    if not any(isinstance(handler, _EngineLog) for handler in engine_logger.handlers):
        engine_logger.addHandler(_EngineLog())
