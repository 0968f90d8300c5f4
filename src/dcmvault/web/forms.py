"""Fields of a form as pages of ours send them (application/x-www-form-urlencoded)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, HTTPException, Request

#: The kind of forms that are read; others carry no proof of where they come from.
FORM_TYPE = "application/x-www-form-urlencoded"
_MOST_FIELDS = 200


def fields_of(body: bytes) -> Mapping[str, str]:
    """Read the fields of a form, the last of each name; ValueError for what is none."""
    text = body.decode("utf-8")
    return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS))


async def _fields(request: Request) -> Mapping[str, str]:
    if not request.headers.get("content-type", "").startswith(FORM_TYPE):
        return {}
    try:
        return fields_of(await request.body())
    except ValueError:
        raise HTTPException(422, "this is no form") from None


#: How a route gets them.
Fields = Annotated[Mapping[str, str], Depends(_fields)]
