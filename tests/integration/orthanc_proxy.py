"""A service that answers what an Orthanc answers, so that a test can change some of it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

from tests.integration.web_peer import Reply, Seen


def forward(url: Callable[[], str]) -> Callable[[Seen], Reply]:
    """Answer what an Orthanc answers."""

    def answer(seen: Seen) -> Reply:
        query = "&".join(
            f"{name}={value}" if value else name for name, (value,) in seen.query.items()
        )
        request = urllib.request.Request(f"{url()}{seen.path}?{query}".rstrip("?"))
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                headers: Mapping[str, str] = {"ETag": response.headers.get("ETag", "")}
                return Reply(response.status, response.read(), headers)
        except urllib.error.HTTPError as error:
            return Reply(error.code)

    return answer
