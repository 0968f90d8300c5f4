"""Who takes messages: a mail server (aiosmtpd) and a web service, on loopback."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from tests.integration.tls_world import Identity

USER, PASSWORD = "backup", "Winter-is-over-41"


class Mailbox:
    """A mail server that keeps what it takes, as it came."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.recipients: list[str] = []
        #: Who is refused, and with what answer.
        self.refused: dict[str, str] = {}
        #: Of `USER`.
        self.password = PASSWORD
        #: What DATA is answered with.
        self.answer = "250 OK"
        self.host, self.port = "127.0.0.1", 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient."""
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Take a mail."""
        if self.answer.startswith("2"):
            content = envelope.original_content
            assert content is not None
            self.taken.append(content)
            self.recipients += envelope.rcpt_tos
        return self.answer

    def mails(self) -> list[EmailMessage]:
        """Read what came."""
        return [message_from_bytes(one, policy=default) for one in self.taken]

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        """Let in who knows the password of now."""
        assert isinstance(data, LoginPassword)
        good = (data.login, data.password) == (USER.encode(), self.password.encode())
        return AuthResult(success=good, handled=good)


class _Conversation(SMTP):
    """One connection; it remembers what lies below TLS, which aiosmtpd leaves open."""

    below: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.below is None:
            assert isinstance(transport, asyncio.Transport)
            self.below = transport
        super().connection_made(transport)


@contextmanager
def mail_server(
    identity: Identity | None = None, *, security: str = "starttls", login: bool = True
) -> Iterator[Mailbox]:
    """Run a mail server; without an identity it speaks no TLS."""
    mailbox = Mailbox()
    options: dict[str, Any] = {}
    context = None
    if login:
        options |= {
            "authenticator": mailbox.authenticate,
            # Of TLS from the first byte the server itself knows nothing.
            "auth_required": security == "starttls",
            "auth_require_tls": security == "starttls",
        }
    if identity is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        if security == "starttls":
            options |= {"tls_context": context, "require_starttls": True}
    loop = asyncio.new_event_loop()
    conversations: list[_Conversation] = []

    def converse() -> _Conversation:
        conversations.append(_Conversation(mailbox, loop=loop, hostname="mail.test", **options))
        return conversations[-1]

    server = loop.run_until_complete(
        loop.create_server(
            converse,
            "127.0.0.1",
            0,
            ssl=context if security == "tls" else None,
        )
    )
    mailbox.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield mailbox
    finally:
        asyncio.run_coroutine_threadsafe(_ended(server, conversations), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _ended(server: asyncio.Server, conversations: list[_Conversation]) -> None:
    """End a server, and the conversations that are left."""
    server.close()
    # Who was just let in is a conversation in the next rounds of the loop.
    await asyncio.sleep(0.05)
    for conversation in conversations:
        if conversation.below is not None:
            conversation.below.abort()
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.gather(*others, return_exceptions=True)
    # What was aborted is closed in the next rounds of the loop.
    for _round in range(3):
        await asyncio.sleep(0)


@dataclass
class Received:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class WebService:
    """A web service that keeps what it is sent, and answers as it is told to."""

    url: str = ""
    status: int = 200
    answer: bytes = b"OK"
    location: str = ""
    taken: list[Received] = field(default_factory=list)
    #: Set: whoever asks waits until it is cleared.
    hangs: threading.Event = field(default_factory=threading.Event)
    going: threading.Event = field(default_factory=threading.Event)


@contextmanager
def web_service(identity: Identity | None = None) -> Iterator[WebService]:
    """Run a web service."""
    service = WebService()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if service.hangs.is_set():
                service.going.wait(60)
            service.taken.append(Received(self.path, dict(self.headers), body))
            self.send_response(service.status)
            if service.location:
                self.send_header("Location", service.location)
            self.send_header("Content-Length", str(len(service.answer)))
            self.end_headers()
            self.wfile.write(service.answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scheme = "http"
    if identity is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    service.url = f"{scheme}://127.0.0.1:{server.server_port}/hooks/T0KEN-in-the-path"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        service.going.set()
        server.shutdown()
        thread.join()
        server.server_close()


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_secret(folder: Path, name: str, secret: str) -> str:
    """Write a secret into a private file; return its reference."""
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(secret)
    return f"file:{path}"
