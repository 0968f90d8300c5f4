"""Where a request comes from and where an answer leads to: our own pages, and nowhere else."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

#: What browsers take for the begin of another host, or drop while they read an address.
_ODD = re.compile(r"[\\\x00-\x20\x7f]")


def comes_from_us(headers: Headers) -> bool:
    """Say whether a browser sent a request that changes something from a page of ours.

    By Sec-Fetch-Site (Fetch Metadata) where it is sent, else by Origin, which names our host.
    The Host was checked before; a program without either has no business here.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin", "")
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    is_web = parts.scheme in {"http", "https"}
    return is_web and parts.netloc.lower() == headers.get("host", "").strip().lower()


def address_asked(request: Request) -> str:
    """Return the scheme, host and port by which a browser reached us, whatever is configured.

    Where a proxy takes the encryption away, only the browser knows that there is any: it names the
    origin where it sends a form. Host and Origin were checked before.
    """
    origin = urlsplit(request.headers.get("origin", ""))
    host = request.headers.get("host", "").strip()
    if origin.scheme == "https" and origin.netloc.lower() == host.lower():
        return f"https://{host}"
    return f"{request.url.scheme}://{host}"


def own_path(address: str) -> str:
    """Return a place of this dashboard to lead to; "/" for anything that is or may be elsewhere."""
    if not address.startswith("/") or address.startswith("//") or _ODD.search(address):
        return "/"
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    if parts.scheme or parts.netloc:
        return "/"
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
