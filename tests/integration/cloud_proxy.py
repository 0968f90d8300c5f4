"""An HTTP proxy on loopback between a store and its server, which watches and interferes."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

_CHUNK_HEADERS = {"connection", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Proxy:
    """What a test sees of the proxy, and what it asks of it."""

    #: The endpoint to hand to the store.
    url: str = ""
    #: Method and headers (names in lower case) of each request.
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    #: Method and target (path and query) of each request.
    targets: list[str] = field(default_factory=list)
    #: Requests whose targets contain one of these texts are answered with 503.
    down_for: tuple[str, ...] = ()
    #: Headers (lower case) that the server never sees.
    stripped: frozenset[str] = frozenset()
    #: Requests that are answered with this status instead of being handed on, by method.
    refuse: dict[str, list[int]] = field(default_factory=dict)
    #: Methods whose next answer is lost after the server did what it was asked.
    lose: list[str] = field(default_factory=list)


@contextmanager
def proxied(server_url: str) -> Iterator[Proxy]:
    """Run a proxy in front of `server_url` (scheme, host and port)."""
    host, _, port = server_url.removeprefix("http://").partition(":")
    proxy = Proxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]
        disable_nagle_algorithm = True

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            proxy.requests.append((self.command, headers))
            proxy.targets.append(f"{self.command} {self.path}")
            if any(text in self.path for text in proxy.down_for):
                self.answer(503, [], b"<Error><Code>SlowDown</Code></Error>")
                return
            if statuses := proxy.refuse.get(self.command):
                self.answer(statuses.pop(0), [], b"<Error><Code>SlowDown</Code></Error>")
                return
            kept = {name: text for name, text in headers.items() if name not in proxy.stripped}
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            connection.request(self.command, self.path, body or None, kept)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if self.command in proxy.lose:
                proxy.lose.remove(self.command)
                self.close_connection = True
                return
            self.answer(answer.status, answer.getheaders(), content)

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            length = str(len(body))
            for name, value in headers:
                if name.lower() == "content-length" and self.command == "HEAD":
                    length = value
                elif name.lower() not in _CHUNK_HEADERS:
                    self.send_header(name, value)
            self.send_header("content-length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.handle_one)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
