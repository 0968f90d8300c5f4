"""What a client accepts: the Accept header and parameter (PS3.18 sections 8.3.3.1 and 8.7.5)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from dcmvault.dicomweb.replies import RefusedError, Request

#: Media types of one request.
_MOST = 50
_NOTHING_ACCEPTED = "none of the media types that are accepted can be given here"


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One media type that is accepted; `inner` is the type of the parts of a multipart."""

    name: str
    inner: str = ""
    #: UID, `*` for any, or empty where nothing is said.
    transfer_syntax: str = ""
    quality: float = 1.0
    parameters: dict[str, str] = field(default_factory=dict, compare=False)

    def covers(self, media_type: str) -> bool:
        """Say whether a media type is in it."""
        kind = media_type.partition("/")[0]
        return self.name in (media_type, f"{kind}/*", "*/*")

    def covers_part(self, media_type: str) -> bool:
        """Say whether a part of a multipart/related may be of a type."""
        if self.name == "multipart/related":
            return self.inner in ("", media_type, "*/*")
        return self.name in ("*/*", "multipart/*") or self.name == media_type


def accepted(request: Request) -> Sequence[MediaRange]:
    """Return what a request accepts, the best first; the parameter goes before the header."""
    texts = request.values("accept") or [request.accept]
    ranges = [one for text in texts for one in map(_range, _cut(text, ",")) if one is not None]
    if len(ranges) > _MOST:
        raise RefusedError(400, "there are more media types than anybody needs")
    chosen = [one for one in ranges if one.quality > 0]
    if ranges and not chosen:
        raise RefusedError(406, _NOTHING_ACCEPTED)
    return sorted(chosen, key=lambda one: -one.quality) or [MediaRange("*/*")]


def choose(request: Request, offered: Collection[str]) -> str:
    """Return the media type to answer in, of those `offered`, the most natural first."""
    for one in accepted(request):
        for media_type in offered:
            if one.covers(media_type):
                return media_type
    raise RefusedError(406, f"{_NOTHING_ACCEPTED}: {', '.join(offered)}")


def _range(text: str) -> MediaRange | None:
    name, *rest = _cut(text, ";")
    if not name.strip():
        return None
    parameters = {}
    for one in rest:
        key, _equals, value = one.partition("=")
        parameters[key.strip().lower()] = value.strip().strip('"')
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        quality = 0.0
    return MediaRange(
        name.strip().lower(),
        parameters.get("type", "").lower(),
        parameters.get("transfer-syntax", ""),
        quality if 0 <= quality <= 1 else 0.0,
        parameters,
    )


def _cut(text: str, mark: str) -> Iterator[str]:
    """Cut at a mark that does not stand in quotation marks."""
    start, quoted = 0, False
    for at, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif letter == mark and not quoted:
            yield text[start:at]
            start = at + 1
    yield text[start:]
