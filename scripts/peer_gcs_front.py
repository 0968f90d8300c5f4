"""The XML interface of Google Cloud Storage in front of fake-gcs-server, which lacks its writes.

    python scripts/peer_gcs_front.py PORT PROGRAM

Starts the program on a port of its own and translates what obstore writes by XML into the JSON
interface, preconditions included; the emulator alone decides whether they hold. Reads, lists and
removals are handed through. Ends with its group. Standard library only.
"""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

HOST = "127.0.0.1"
_HANDED_THROUGH = ("content-type", "range", "if-match", "if-none-match")
_HANDED_BACK = ("content-type", "content-range", "etag", "last-modified", "x-goog-generation")


class Front(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream_port = 0
    #: Parts of uploads that are under way.
    uploads: dict[str, dict[int, bytes]] = {}  # noqa: RUF012 (shared by all connections)

    def do_GET(self) -> None:
        """Hand a read or a list through."""
        self._hand_through(b"")

    def do_HEAD(self) -> None:
        """Hand a question for an object through."""
        self._hand_through(b"")

    def do_DELETE(self) -> None:
        """Hand a removal through; giving up an upload ends here."""
        upload = self._query().get("uploadId")
        if upload:
            self.uploads.pop(upload, None)
            self._answer(204, b"", {})
        else:
            self._hand_through(b"")

    def do_PUT(self) -> None:
        """Write an object, copy one, or keep a part of one."""
        body = self._body()
        query = self._query()
        if "uploadId" in query:
            self.uploads[query["uploadId"]][int(query["partNumber"])] = body
            self._answer(200, b"", {"etag": f'"{secrets.token_hex(8)}"'})
        elif source := self.headers.get("x-goog-copy-source"):
            # The emulator's own copying takes no notice of conditions.
            bucket, _, name = unquote(source).lstrip("/").partition("/")
            path = f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"
            status, content, _ = self._ask("GET", path, b"", {})
            if status == 200:
                self._write(content)
            else:
                self._answer(status, b"", {})
        else:
            self._write(body)

    def do_POST(self) -> None:
        """Begin or end an upload in parts; everything else is JSON and handed through."""
        body = self._body()
        query = self._query()
        bucket, key = self._object()
        if "uploads" in query:
            upload = secrets.token_hex(8)
            self.uploads[upload] = {}
            text = (
                f"<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key>"
                f"<UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            )
            self._answer(200, text.encode(), {"content-type": "application/xml"})
        elif "uploadId" in query:
            parts = self.uploads.pop(query["uploadId"])
            self._write(b"".join(parts[number] for number in sorted(parts)), is_upload=True)
        else:
            self._hand_through(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's name)
        """Say nothing."""

    def _query(self) -> dict[str, str]:
        found = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        return {name: values[0] for name, values in found.items()}

    def _object(self) -> tuple[str, str]:
        bucket, _, key = urlsplit(self.path).path.lstrip("/").partition("/")
        return bucket, unquote(key)

    def _condition(self) -> str:
        asked = self.headers.get("x-goog-if-generation-match")
        return "" if asked is None else f"ifGenerationMatch={asked}"

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _write(self, body: bytes, *, is_upload: bool = False) -> None:
        """Write with metadata, the only way in which the emulator heeds conditions."""
        bucket, key = self._object()
        edge = secrets.token_hex(16)
        told = json.dumps({"name": key})
        status, answer, _ = self._ask(
            "POST",
            f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart&{self._condition()}",
            b"".join(
                [
                    f"--{edge}\r\ncontent-type: application/json\r\n\r\n{told}\r\n".encode(),
                    f"--{edge}\r\ncontent-type: application/octet-stream\r\n\r\n".encode(),
                    body,
                    f"\r\n--{edge}--\r\n".encode(),
                ]
            ),
            {"content-type": f"multipart/related; boundary={edge}"},
        )
        if status != 200:
            self._answer(status, b"", {})
            return
        stored = json.loads(answer)
        etag = stored["etag"]
        text = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        self._answer(
            200,
            text.encode() if is_upload else b"",
            {"etag": f'"{etag}"', "x-goog-generation": str(stored["generation"])},
        )

    def _hand_through(self, body: bytes) -> None:
        headers = {name: self.headers[name] for name in _HANDED_THROUGH if name in self.headers}
        status, answer, theirs = self._ask(self.command, self.path, body, headers)
        back = {name: theirs[name] for name in _HANDED_BACK if theirs.get(name)}
        if self.command == "HEAD":
            back["content-length"] = theirs.get("content-length", "0")
        self._answer(status, answer, back)

    def _ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes, Any]:
        connection = http.client.HTTPConnection(HOST, self.upstream_port, timeout=30)
        try:
            host = {"host": f"{HOST}:{self.upstream_port}"}
            connection.request(method, path, body or None, {**headers, **host})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "content-length" not in headers:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main(port: int, program: str) -> None:
    """Serve until the emulator ends."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        Front.upstream_port = probe.getsockname()[1]
    emulator = subprocess.Popen(
        [
            *(program, "-scheme", "http", "-host", HOST, "-port", str(Front.upstream_port)),
            *("-backend", "memory", "-public-host", f"{HOST}:{Front.upstream_port}"),
        ],
        stdin=subprocess.DEVNULL,
    )
    while True:
        try:
            socket.create_connection((HOST, Front.upstream_port), timeout=1).close()
            break
        except OSError:
            if emulator.poll() is not None:
                sys.exit(1)
    front = ThreadingHTTPServer((HOST, port), Front)
    threading.Thread(target=front.serve_forever, daemon=True).start()
    sys.exit(emulator.wait())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
