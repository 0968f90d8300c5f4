"""A DICOMweb service that lives in this process, and misbehaves as it is told.

    with WebArchive(files, WebBehaviour(cap=100, honours_offset=False)) as archive:
        ...  # read from archive.url

It answers QIDO-RS and WADO-RS on the loopback from Part 10 files and from rows without a file.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

import pydicom

#: Attributes that rows have, by keyword: tag, value representation, and level (0 study,
#: 1 series, 2 instance).
_ATTRIBUTES = {
    "StudyInstanceUID": ("0020000D", "UI", 0),
    "StudyDate": ("00080020", "DA", 0),
    "StudyTime": ("00080030", "TM", 0),
    "PatientID": ("00100020", "LO", 0),
    "PatientName": ("00100010", "PN", 0),
    "StudyDescription": ("00081030", "LO", 0),
    "SeriesInstanceUID": ("0020000E", "UI", 1),
    "Modality": ("00080060", "CS", 1),
    "SeriesNumber": ("00200011", "IS", 1),
    "SOPInstanceUID": ("00080018", "UI", 2),
    "SOPClassUID": ("00080016", "UI", 2),
    "InstanceNumber": ("00200013", "IS", 2),
    "AvailableTransferSyntaxUID": ("00083002", "UI", 2),
}
_UNIQUE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_BOUNDARY = "an archive's boundary"

#: Attributes of an instance by keyword.
Row = Mapping[str, str]
#: Writes a whole HTTP answer to the retrieval of a file, or nothing, and closes the connection.
Answering = Callable[[BufferedIOBase, bytes], None]


@dataclass(slots=True)
class WebBehaviour:
    """How a service differs from an honest one; may be changed while it runs."""

    #: Rows in one answer, at most; 0: as many as are asked for.
    cap: int = 0
    #: Whether it says so (PS3.18 section 8.3.4.4.1).
    tells_cap: bool = False
    #: Rows that it has of any question, at most, from which it cuts pages; 0: all there are.
    most_rows: int = 0
    honours_offset: bool = True
    honours_limit: bool = True
    knows_uid_lists: bool = True
    #: Study Instance UIDs that it names only to who asks for them.
    hidden: frozenset[str] = frozenset()
    #: Status and headers in answer to all that is searched, instead of rows.
    search_answer: tuple[int, Mapping[str, str], bytes] | None = None
    #: By SOP Instance UID, how a retrieval is answered instead; the first is used up each time.
    retrievals: dict[str, list[Answering]] = field(default_factory=dict)


def multipart(content: bytes, *, boundary: str = _BOUNDARY) -> bytes:
    """Make the body of an answer with one instance."""
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
    return head + content + f"\r\n--{boundary}--\r\n".encode("ascii")


def write_answer(
    out: BufferedIOBase,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    status: int = 200,
    length: int | None = None,
) -> None:
    """Write an HTTP answer by hand; `length` is what it says of the length of its body."""
    fields = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary="{_BOUNDARY}"',
        "Content-Length": str(len(body) if length is None else length),
        **(headers or {}),
    }
    lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in fields.items())]
    out.write("\r\n".join([*lines, "", ""]).encode("ascii") + body)


class WebArchive:
    """A service on a free port of the loopback. Used as a context."""

    def __init__(
        self,
        files: Iterable[Path] = (),
        behaviour: WebBehaviour | None = None,
        *,
        rows: Sequence[Row] = (),
    ) -> None:
        """Hold these files, and rows of what there is no file of."""
        self.behaviour = behaviour or WebBehaviour()
        #: Paths (with queries) of all requests, as they came.
        self.asked: list[str] = []
        self._held: dict[str, tuple[Row, bytes]] = {
            row["SOPInstanceUID"]: (row, b"") for row in rows
        }
        for path in files:
            self.put(path)
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"archive": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """The root of its DICOMweb service."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/dicom-web"

    def put(self, path: Path) -> str:
        """Hold a file, in place of one with its UID; return what a source calls it."""
        data = pydicom.dcmread(path, stop_before_pixels=True)
        row = {name: str(data.get(name, "")) for name in _ATTRIBUTES}
        row["AvailableTransferSyntaxUID"] = str(data.file_meta.TransferSyntaxUID)
        self._held[row["SOPInstanceUID"]] = (row, path.read_bytes())
        return "/".join(row[name] for name in _UNIQUE)

    def remove(self, sop_instance_uid: str) -> None:
        """Hold an instance no longer."""
        del self._held[sop_instance_uid]

    def retrieved(self) -> list[str]:
        """Return the SOP Instance UIDs that were asked for by WADO-RS, each time."""
        return [path.rpartition("/")[2] for path in self.asked if "/instances/" in path]

    def file(self, sop_instance_uid: str) -> bytes | None:
        """Return the file of an instance, None where there is none."""
        return self._held.get(sop_instance_uid, ({}, None))[1]

    def search(self, resource: Sequence[str], keys: Mapping[str, str]) -> list[dict[str, object]]:
        """Return the rows that match, before any page is made of them."""
        fixed = dict(zip(_UNIQUE, resource[1::2], strict=False))
        level = (len(resource) - 1) // 2
        groups: dict[str, list[Row]] = {}
        for row, _content in list(self._held.values()):
            if not all(self._matches(row, name, key) for name, key in {**keys, **fixed}.items()):
                continue
            is_asked_for = "StudyInstanceUID" in {**keys, **fixed}
            if is_asked_for or row["StudyInstanceUID"] not in self.behaviour.hidden:
                groups.setdefault(row[_UNIQUE[level]], []).append(row)
        return [_row(members, level) for _uid, members in sorted(groups.items())]

    def _matches(self, row: Row, name: str, key: str) -> bool:
        if name == "ModalitiesInStudy":
            name = "Modality"
        value = row.get(name)
        if value is None or not key:
            return True  # who does not know a key does not match by it
        if name in _UNIQUE:
            return value in (key.split(",") if self.behaviour.knows_uid_lists else [key])
        if name in ("StudyDate", "StudyTime") and "-" in key:
            first, _to, last = key.partition("-")
            return bool(value) and first <= value <= (last or "~")
        return fnmatchcase(value, key)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Be there no longer; harmless when it is not."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def _row(members: Sequence[Row], level: int) -> dict[str, object]:
    row: dict[str, object] = {}
    for name, (tag, vr, of_level) in _ATTRIBUTES.items():
        if of_level <= level and (text := members[0].get(name, "")):
            value: object = {"Alphabetic": text} if vr == "PN" else text
            row[tag] = {"vr": vr, "Value": [int(text) if vr == "IS" else value]}
    series = {member["SeriesInstanceUID"] for member in members}
    if level == 0:
        row["00201206"] = {"vr": "IS", "Value": [len(series)]}
    if level == 1:
        row["00201209"] = {"vr": "IS", "Value": [len(members)]}
    return row


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    #: Set for each service.
    archive: WebArchive

    def do_GET(self) -> None:
        """Answer a search or a retrieval."""
        self.archive.asked.append(self.path)
        parts = urlsplit(self.path)
        resource = parts.path.removeprefix("/dicom-web/").split("/")
        if len(resource) == 6:
            self._retrieve(resource[5])
        else:
            self._search(resource, parse_qsl(parts.query, keep_blank_values=True))

    def _search(self, resource: Sequence[str], parameters: Iterable[tuple[str, str]]) -> None:
        behaviour = self.archive.behaviour
        if behaviour.search_answer is not None:
            status, headers, body = behaviour.search_answer
            self._answer(status, body, headers)
            return
        keys = dict(parameters)
        limit, offset = int(keys.pop("limit", 1 << 30)), int(keys.pop("offset", 0))
        keys.pop("includefield", None)
        rows = self.archive.search(resource, keys)[: behaviour.most_rows or None]
        rows = rows[offset if behaviour.honours_offset else 0 :]
        most = min(limit if behaviour.honours_limit else 1 << 30, behaviour.cap or 1 << 30)
        told = {"Warning": '299 x "there are more"'} if behaviour.tells_cap else {}
        self._answer(200, json.dumps(rows[:most]).encode(), told if len(rows) > most else {})

    def _retrieve(self, uid: str) -> None:
        content = self.archive.file(uid)
        own = self.archive.behaviour.retrievals.get(uid)
        if own:
            answering = own.pop(0) if len(own) > 1 else own[0]
            self.close_connection = True
            answering(self.wfile, content or b"")
        elif content is None:
            self._answer(404, b"")
        else:
            kind = f'multipart/related; type="application/dicom"; boundary="{_BOUNDARY}"'
            self._answer(200, multipart(content), {"Content-Type": kind})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: the other side went away, as some tests want it."""
