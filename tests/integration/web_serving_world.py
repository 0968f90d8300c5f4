"""An archive that answers over HTTP on a free port of the loopback, and plain requests to it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.integration.serving_world import Journal

from dcmvault.dicom.association_scp import Secures
from dcmvault.dicomweb.server import WebParts, WebRules, web_serving
from dcmvault.dicomweb.service import ROOT, ArchiveService, WebAccess
from dcmvault.model.access import Access
from dcmvault.ports.archive import Archive
from dcmvault.testing.clock import FakeClock


@dataclass(frozen=True)
class Got:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)


@dataclass
class WebAnswering:
    """A running service."""

    port: int
    journal: Journal

    @property
    def url(self) -> str:
        """Its root."""
        return f"http://127.0.0.1:{self.port}{ROOT}"

    def noted(self, count: int) -> list[Access]:
        """Return the last entries of the journal: an answer of `get` is written down already."""
        return self.journal.accesses[-count:]

    def get(self, path: str, method: str = "GET", **headers: str) -> Got:
        """Ask for a path below the root; underscores in names of headers stand for hyphens.

        An answer is written down when it was sent, and so after we have it: the end of the
        connection is waited for, which comes later still.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.connect()
            with connection.sock.dup() as same:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                connection.request(method, ROOT + path, headers=named | {"Connection": "close"})
                answer = connection.getresponse()
                got = Got(answer.status, dict(answer.getheaders()), answer.read())
                with suppress(ConnectionResetError):
                    assert same.recv(1) == b"", "more came than the answer"
                return got
        finally:
            connection.close()


@contextmanager
def web_answering(
    archive: Archive,
    access: WebAccess | None = None,
    tls: Secures | None = None,
    **rules: Any,
) -> Iterator[WebAnswering]:
    """Answer from an archive."""
    journal = Journal()
    parts = WebParts(
        ArchiveService(archive), access or WebAccess({}), journal, FakeClock().now, tls
    )
    with web_serving(WebRules(**rules), parts) as port:
        yield WebAnswering(port, journal)
