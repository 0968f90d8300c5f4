"""What the file system announces of folders: hints that something changed there, and no more.

Networks and some volumes announce nothing, and a system announces only so much: whoever relies on
these hints looks for himself at an interval.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from watchfiles import watch

_log = logging.getLogger(__name__)

#: Milliseconds: how long events are gathered, between looks at them, and at the stop.
_GATHERED_MS, _STEP_MS, _LOOK_MS = 500, 100, 500


class FolderEvents:
    """Listens to one folder tree in a thread of its own, from `start` until `stop`."""

    def __init__(
        self, folder: Path, announced: Callable[[float], None], without: Sequence[Path] = ()
    ) -> None:
        """Call `announced` with the monotonic time of events; those below `without` are none."""
        self._folder = folder
        self._announced = announced
        self._without = tuple(f"{path.resolve()}/" for path in without)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen, anew if it did before; what cannot be listened to stays silent."""
        self.stop()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._listen, args=(self._stop,), name="folder-events", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Listen no longer."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _listen(self, stop: threading.Event) -> None:
        try:
            for changes in watch(
                self._folder,
                watch_filter=None,
                debounce=_GATHERED_MS,
                step=_STEP_MS,
                rust_timeout=_LOOK_MS,
                stop_event=stop,
                raise_interrupt=False,
                force_polling=False,
                ignore_permission_denied=True,
            ):
                if not all(path.startswith(self._without) for _change, path in changes):
                    self._announced(time.monotonic())
        except OSError as error:
            # Gone, or more folders than the system watches.
            _log.warning("a source's changes are not announced: %s", type(error).__name__)
