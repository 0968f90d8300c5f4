"""The API on its port: a server in a thread, with limits, that comes to an end when asked to."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from dcmvault.config import secrets
from dcmvault.config.web_section import WebSection
from dcmvault.errors import ConfigurationError, StateError
from dcmvault.i18n import gettext as _

_log = logging.getLogger(__name__)

#: Connections at once, streams of events included; more are answered 503.
_CONNECTIONS = 128
#: Seconds between two requests on a connection.
_IDLE_S = 10
#: Seconds between looks whether a request is waited for, and how many of them are too many.
_WAITING_LOOK_S = 10.0
_WAITING_LOOKS = 3
#: Bytes of a request's line and headers.
_HEAD_BYTES = 32_768
_BACKLOG = 64
#: Seconds that requests get to end when the server is to end.
_GRACE_S = 1
#: Milliseconds until a connection whose peer takes nothing is given up (Linux: tcp(7)).
_UNACKNOWLEDGED_MS = 30_000
_STARTING_S = 30.0


class _Impatient(H11Protocol):
    """A connection that is given up when nothing of a request comes for a while.

    The server itself waits for ever for the first request, and for the rest of any.
    """

    _looks = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look whether anything comes (asyncio)."""
        super().connection_made(transport)
        self.loop.call_later(_WAITING_LOOK_S, self._look)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        is_waiting = cycle is None or cycle.response_complete or cycle.more_body
        self._looks = self._looks + 1 if is_waiting else 0
        if self._looks >= _WAITING_LOOKS:
            self.transport.abort()
        else:
            self.loop.call_later(_WAITING_LOOK_S, self._look)


class ApiPort:
    """Serves from its making until `stop`. StateError where the port cannot be had."""

    def __init__(self, api: ASGIApp, section: WebSection, port: int) -> None:
        self._socket = _listening(section.host, port)
        config = uvicorn.Config(
            api,
            lifespan="off",
            ws="none",
            http=_Impatient,
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_GRACE_S,
            h11_max_incomplete_event_size=_HEAD_BYTES,
        )
        if section.has_tls:
            config.load()
            config.ssl = _tls(section)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._serve(),), name="dcmvault-web", daemon=True
        )
        scheme = "https" if section.has_tls else "http"
        host = f"[{section.host}]" if ":" in section.host else section.host
        self.port: int = self._socket.getsockname()[1]
        self.address = f"{scheme}://{host}:{self.port}"
        self._start()

    def _start(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + _STARTING_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self._socket.close()
                raise StateError(_("The API of the daemon does not start."))
            time.sleep(0.01)

    async def _serve(self) -> None:
        """Serve until the stop; then nothing is left open."""
        await self._server.serve([self._socket])
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, _Impatient) and connection.transport is not None:
                connection.transport.abort()
        # What was closed or aborted ends in the next rounds of the loop.
        for _round in range(3):
            await asyncio.sleep(0)

    def ask_to_stop(self) -> None:
        """Take no connection any more, and end those that are open, soon."""
        self._server.should_exit = True

    def stop(self, grace_s: float) -> bool:
        """Wait until it ended; False if it has not within so many seconds."""
        self.ask_to_stop()
        self._thread.join(grace_s)
        self._socket.close()
        return not self._thread.is_alive()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise StateError(
            _("The API cannot listen on %(host)s, port %(port)d: %(reason)s.")
            % {"host": host, "port": port, "reason": error.strerror},
            hint=_("Choose another port: --web-port, or “port” in [web]."),
        ) from error
    return listening


def _tls(section: WebSection) -> ssl.SSLContext:
    """Make the context of our certificate; TLS 1.2 at least (BCP 195)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    passphrase = secrets.resolve(section.tls_key_passphrase) if section.tls_key_passphrase else ""
    certificate = Path(section.tls_certificate_file).expanduser()
    key = Path(section.tls_key_file).expanduser() if section.tls_key_file else None
    try:
        # Never asked for at a terminal: a daemon has none.
        context.load_cert_chain(certificate, key, password=lambda: passphrase)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            _("The certificate of [web] cannot be used (%s).") % type(error).__name__,
            hint=_("Check tls_certificate_file, tls_key_file and tls_key_passphrase."),
        ) from error
    return context
