"""An answer that goes on: server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dcmvault.web.event_stream import Event, EventStream, Listener

#: Seconds without an event until a comment shows that the line is alive.
_HEARTBEAT_S = 15.0
#: Seconds between looks whether who listens still may.
_LOOK_S = 10.0
#: Seconds that a client may take to take what is sent.
_WRITING_S = 10.0
#: Milliseconds that clients wait before they come back.
_RETRY_MS = 2000

_HEARTBEAT = b": alive\n\n"
#: Not kept and without a number: it says that numbers were missed.
_MISSED = b"event: missed\ndata: {}\n\n"


class EventResponse(Response):
    """Streams events to one client, until it goes, is too slow, or may listen no more."""

    media_type = "text/event-stream"

    def __init__(
        self,
        stream: EventStream,
        topics: Collection[str],
        last_id: str,
        who: str = "",
        still_in: Callable[[], bool] | None = None,
        hiding: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._stream = stream
        self._still_in = still_in
        self._hiding = hiding
        # Raises where too many listen, while an error can still be answered.
        self._listener, self._is_all = stream.listen(topics, last_id, who)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer (ASGI)."""
        gone = asyncio.create_task(_leave_when_gone(receive, self._listener))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            beginning = f"retry: {_RETRY_MS}\n\n".encode()
            await _write(send, beginning + (b"" if self._is_all else _MISSED))
            looked_at = 0.0
            while not self._listener.has_ended:
                # A session may end while its stream goes on.
                if self._still_in and (now := monotonic()) - looked_at >= _LOOK_S:
                    looked_at = now
                    if not await run_in_threadpool(self._still_in):
                        break
                events = await self._listener.next(_HEARTBEAT_S)
                if not self._listener.has_ended:
                    await _write(send, b"".join(map(self._coded, events)) or _HEARTBEAT)
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            # Too slow: the server closes a connection whose answer was left unfinished.
            return
        finally:
            self._stream.leave(self._listener)
            gone.cancel()

    def _coded(self, event: Event) -> bytes:
        name, data = self._stream.id_of(event), event.data
        if self._hiding is not None:
            data = json.dumps(self._hiding(json.loads(data)))
        return f"id: {name}\nevent: {event.topic}\ndata: {data}\n\n".encode()


async def _write(send: Send, body: bytes) -> None:
    message = {"type": "http.response.body", "body": body, "more_body": True}
    await asyncio.wait_for(send(message), _WRITING_S)


async def _leave_when_gone(receive: Receive, listener: Listener) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.end()
