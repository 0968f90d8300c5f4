"""What pages load: style and scripts, each under an address that changes with its content.

An address with the right digest may be kept for ever; so a page costs one request once everything
was loaded, and a new version is never mixed with an old one.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Depends, Header, HTTPException, Response

from dcmvault.web.roles import anybody

FOLDER = Path(__file__).parent / "assets"
#: Where `make assets` puts what is not ours.
VENDOR = "vendor/"
#: What pages use of it; without them they work as plain links and forms.
_WANTED = (
    "vendor/htmx.min.js",
    "vendor/idiomorph-ext.min.js",
    "vendor/sse.min.js",
    "vendor/uPlot.iife.min.js",
    "vendor/uPlot.min.css",
)
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_DIGEST_LENGTH = 12
_FOR_EVER = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    body: bytes
    compressed: bytes
    digest: str
    media_type: str


@lru_cache(maxsize=1)
def assets() -> Mapping[str, Asset]:
    """Return everything that pages may load, by its name below the folder of assets."""
    found = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            found[path.relative_to(FOLDER).as_posix()] = Asset(
                body,
                gzip.compress(body, mtime=0),
                hashlib.sha256(body).hexdigest()[:_DIGEST_LENGTH],
                _TYPES[path.suffix],
            )
    return found


def missing_assets() -> list[str]:
    """List what pages would use and is not there, in a checkout that lacks `make assets`."""
    return [name for name in _WANTED if name not in assets()]


def address_of(name: str) -> str:
    """Return the address of an asset, or nothing where it is not there."""
    asset = assets().get(name)
    return "" if asset is None else f"/assets/{name}?v={asset.digest}"


@router.get("/assets/{name:path}", dependencies=[Depends(anybody)])
def asset(name: str, v: str = "", accept_encoding: str = Header(default="")) -> Response:
    """Send an asset. Needs no token: there is nothing in it that is not public."""
    found = assets().get(name)
    if found is None:
        raise HTTPException(404)
    headers = {
        "Cache-Control": _FOR_EVER if v == found.digest else "no-cache",
        "Vary": "Accept-Encoding",
    }
    if "gzip" in accept_encoding:
        headers["Content-Encoding"] = "gzip"
        return Response(found.compressed, media_type=found.media_type, headers=headers)
    return Response(found.body, media_type=found.media_type, headers=headers)
