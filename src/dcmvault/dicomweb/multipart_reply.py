"""A body of several parts: multipart/related, written while its parts are made (RFC 2387)."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field

from dcmvault.dicomweb.replies import Reply

_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One part; `pieces` are taken before the next part is made."""

    media_type: str
    pieces: Iterable[bytes | memoryview]
    location: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=())


def multipart(media_type: str, parts: Iterator[Part]) -> Reply:
    """Answer parts, all of one type."""
    boundary = secrets.token_hex(20)
    content_type = f'multipart/related; type="{media_type}"; boundary={boundary}'
    return Reply(200, content_type, _written(parts, boundary.encode("ascii")))


def _written(parts: Iterator[Part], boundary: bytes) -> Generator[bytes | memoryview, None, None]:
    try:
        for part in parts:
            lines = [f"Content-Type: {part.media_type}"]
            if part.location:
                lines.append(f"Content-Location: {part.location}")
            lines += [f"{name}: {value}" for name, value in part.headers]
            yield b"--" + boundary + b"\r\n" + "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
            for piece in part.pieces:
                view = memoryview(piece)
                for at in range(0, len(view), _CHUNK):
                    yield view[at : at + _CHUNK]
            yield b"\r\n"
        yield b"--" + boundary + b"--\r\n"
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
