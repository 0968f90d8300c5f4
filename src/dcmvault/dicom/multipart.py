"""Reading multipart/related answers part by part, distrustfully (RFC 2046 section 5.1, RFC 2387).

What is read never depends on how the network cut it, memory is one buffer whatever a peer sends,
and an answer counts as complete only with its closing delimiter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message

from dcmvault.errors import MalformedDicomError

#: Fills a buffer as far as the answer goes; 0 at its end.
ReadInto = Callable[[memoryview], int]

_BUFFER = 256 * 1024
#: RFC 2046 section 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
#: Bytes before the first part, headers of one part, and white space behind a delimiter.
_LONGEST_PREAMBLE = 64 * 1024
_LONGEST_HEAD = 16 * 1024
_LONGEST_PADDING = 256


def boundary_of(content_type: str) -> str:
    """Return the boundary that a Content-Type names; empty for what is no multipart/related.

    Raises MalformedDicomError for a boundary that cannot be one.
    """
    message = Message()
    message["Content-Type"] = content_type
    if message.get_content_type() != "multipart/related":
        return ""
    boundary = message.get_param("boundary")
    if not isinstance(boundary, str) or _BOUNDARY.fullmatch(boundary) is None:
        raise MalformedDicomError("a multipart answer without a boundary that can be one")
    return boundary


class CutOffError(MalformedDicomError):
    """The answer ended before its closing delimiter."""


@dataclass(slots=True)
class Part:
    """One part: its headers, and its content, which is read once and before the next part."""

    #: By name in small letters.
    headers: Mapping[str, str]
    chunks: Iterator[memoryview]


@dataclass(slots=True)
class MultipartReader:
    """Parts of one answer, front to back."""

    read_into: ReadInto
    boundary: str
    _buffer: bytearray = field(default_factory=lambda: bytearray(_BUFFER))
    _start: int = 0
    _end: int = 0
    _is_over: bool = False

    def parts(self) -> Iterator[Part]:
        """Yield the parts; what the caller leaves of one is skipped.

        A chunk is valid until the next is asked for. Raises MalformedDicomError for what is no
        multipart content, CutOffError for what ends before its closing delimiter, then or while
        chunks are read; and what `read_into` raises.
        """
        # The first delimiter may stand at the very start, without the line's end before it.
        self._buffer[:2] = b"\r\n"
        self._end = 2
        skipped = sum(map(len, self._until_delimiter(_LONGEST_PREAMBLE)))
        if skipped > _LONGEST_PREAMBLE:
            raise MalformedDicomError("a multipart answer that begins with something else")
        while not self._is_over:
            headers = self._headers()
            chunks = self._content(headers.get("content-length", ""))
            yield Part(headers, chunks)
            for _rest in chunks:
                pass

    def _content(self, told: str) -> Iterator[memoryview]:
        length = 0
        for chunk in self._until_delimiter():
            length += len(chunk)
            yield chunk
        if told and told != str(length):
            message = "a multipart answer that has a part of another length than it says"
            raise MalformedDicomError(message)

    def _until_delimiter(self, longest: int = 0) -> Iterator[memoryview]:
        """Yield what comes before the next delimiter, and take the delimiter away."""
        delimiter = b"\r\n--" + self.boundary.encode("ascii")
        searched = self._start
        total = 0
        while not longest or total <= longest:
            found = self._buffer.find(delimiter, searched, self._end)
            if found < 0:
                # The delimiter may have begun in the last bytes.
                keep = min(len(delimiter) - 1, self._end - self._start)
                upto = self._end - keep
            else:
                upto = found
            if upto > self._start:
                piece = memoryview(self._buffer)[self._start : upto]
                total += len(piece)
                self._start = upto
                yield piece
            if found >= 0:
                if self._is_delimiter(len(delimiter)):
                    return
                searched = self._start + 1
            else:
                self._fill()
                searched = self._start

    def _is_delimiter(self, length: int) -> bool:
        """Say whether the line at the start is a delimiter to its end; if so, take it away."""
        while True:
            begin = self._start + length
            line = bytes(self._buffer[begin : min(self._end, begin + _LONGEST_PADDING)])
            if line.startswith(b"--"):
                self._is_over = True
                self._start = begin + 2
                return True
            rest = line.lstrip(b" \t")
            if rest.startswith(b"\r\n"):
                self._start = begin + len(line) - len(rest) + 2
                return True
            undecided = rest in (b"", b"\r") or line == b"-"
            if not undecided or len(line) == _LONGEST_PADDING:
                return False
            self._fill()

    def _headers(self) -> Mapping[str, str]:
        # A part without headers begins with the empty line.
        searched = self._start
        while True:
            if self._buffer.startswith(b"\r\n", searched, self._end):
                end, skip = searched, 2
                break
            end, skip = self._buffer.find(b"\r\n\r\n", searched, self._end), 4
            if end >= 0:
                break
            if self._end - self._start > _LONGEST_HEAD:
                message = "a multipart answer that has a part with headers without end"
                raise MalformedDicomError(message)
            self._fill()
            searched = self._start
        text = bytes(self._buffer[self._start : end]).decode("latin-1")
        self._start = end + skip
        headers = {}
        for line in text.split("\r\n"):
            name, _colon, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    def _fill(self) -> None:
        """Read more behind what is kept."""
        if self._start:
            kept = self._end - self._start
            self._buffer[:kept] = self._buffer[self._start : self._end]
            self._start, self._end = 0, kept
        read = self.read_into(memoryview(self._buffer)[self._end :])
        if not read:
            raise CutOffError("a multipart answer that ends in the middle")
        self._end += read
