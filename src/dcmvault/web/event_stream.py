"""Events on their way to those who listen: numbered, kept for a while, in bounded buffers.

Who announces never waits: events are put into each listener's buffer, and a listener whose buffer
is full is dropped. It comes back with the number of the last event that it got, and is told what it
missed, or that it missed too much and has to look anew.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dcmvault.ports.events import Topic

#: Events that are kept for those who come back.
_KEPT = 1000
#: Events that wait for one listener, at most, beside those that it missed before it came.
_WAITING = 256
#: Listeners at once, at most; and of one account, which has one for each tab.
_LISTENERS = 64
_OF_ONE = 16


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `data` is JSON."""

    number: int
    topic: str
    data: str


class TooManyListenersError(Exception):
    """As many listen as may."""


class Listener:
    """One who listens, in an event loop; told by any thread."""

    def __init__(self, topics: Collection[str], missed: Collection[Event], who: str = "") -> None:
        self.who = who
        self._loop = asyncio.get_running_loop()
        self._topics = frozenset(topics)
        self._waiting = deque(event for event in missed if event.topic in self._topics)
        #: How many may wait: what was missed takes no room from what comes until it is taken.
        self._most = len(self._waiting) + _WAITING
        self._lock = threading.Lock()
        self._woken = asyncio.Event()
        self._ended = False
        if self._waiting:
            self._woken.set()

    @property
    def has_ended(self) -> bool:
        """Whether nothing comes any more: dropped, gone, or all is being closed."""
        return self._ended

    def offer(self, event: Event) -> bool:
        """Put an event into the buffer, if it is wanted; False for one who is too slow."""
        if event.topic not in self._topics:
            return True
        with self._lock:
            if len(self._waiting) >= self._most:
                return False
            self._waiting.append(event)
        self._wake()
        return True

    def end(self) -> None:
        """Let nothing more come."""
        self._ended = True
        self._wake()

    async def next(self, timeout_s: float) -> list[Event]:
        """Wait for events, and take them all; none after so many seconds, or at the end."""
        try:
            await asyncio.wait_for(self._woken.wait(), timeout_s)
        except TimeoutError:
            return []
        with self._lock:
            taken = list(self._waiting)
            self._waiting.clear()
            self._most = _WAITING
            if not self._ended:
                self._woken.clear()
        return [] if self._ended else taken

    def _wake(self) -> None:
        # A loop that is closed has nobody left to wake.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)


class EventStream:
    """Implements `ports.events.Announcements` for listeners over HTTP."""

    def __init__(self) -> None:
        #: Numbers begin anew with each start of the daemon: this tells starts apart.
        self._start = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._listeners: set[Listener] = set()
        self._number = 0
        self._closed = False

    @property
    def listeners(self) -> int:
        """How many listen: what is costly to find out need not be told to nobody."""
        return len(self._listeners)

    def announce(self, topic: Topic, data: Mapping[str, object]) -> None:
        """Tell all who listen; the slow ones are dropped."""
        text = json.dumps(data)
        with self._lock:
            self._number += 1
            event = Event(self._number, topic.value, text)
            self._kept.append(event)
            slow = [listener for listener in self._listeners if not listener.offer(event)]
            self._listeners.difference_update(slow)
        for listener in slow:
            listener.end()

    def listen(
        self, topics: Collection[str], last_id: str = "", who: str = ""
    ) -> tuple[Listener, bool]:
        """Begin to listen, in an event loop, after the event with this id; `who` is an account.

        Also says whether all that came since then is told: where it is not (the daemon started
        anew, or it is too long ago), look anew. Raises TooManyListenersError.
        """
        with self._lock:
            of_one = sum(one.who == who for one in self._listeners)
            if self._closed or len(self._listeners) >= _LISTENERS or of_one >= _OF_ONE:
                raise TooManyListenersError
            missed, is_all = self._since(last_id)
            listener = Listener(topics, missed, who)
            self._listeners.add(listener)
        return listener, is_all

    def leave(self, listener: Listener) -> None:
        """Tell somebody nothing more; harmless if it was dropped."""
        with self._lock:
            self._listeners.discard(listener)
        listener.end()

    def id_of(self, event: Event) -> str:
        """Return what a client names an event by."""
        return f"{self._start}-{event.number}"

    def close(self) -> None:
        """End all streams; nobody can listen any more."""
        with self._lock:
            self._closed = True
            listeners = list(self._listeners)
            self._listeners.clear()
        for listener in listeners:
            listener.end()

    def _since(self, last_id: str) -> tuple[list[Event], bool]:
        if not last_id:
            return [], True
        start, _dash, number = last_id.partition("-")
        if start != self._start or not number.isdecimal():
            return list(self._kept), False
        last = int(number)
        oldest = self._kept[0].number if self._kept else self._number + 1
        return [event for event in self._kept if event.number > last], last >= oldest - 1
