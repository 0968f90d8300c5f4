"""Whatever a client asks over HTTP, it gets an answer or a refusal in words, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.integration.serving_world import EndlessArchive

from dcmvault.dicomweb.media_types import MediaRange, accepted
from dcmvault.dicomweb.replies import Outcome, RefusedError, Request
from dcmvault.dicomweb.service import ROOT, ArchiveService, WebAccess, read_target

_WORDS = st.sampled_from(
    (
        *("studies", "series", "instances", "metadata", "frames", "rendered", "thumbnail"),
        *("bulkdata", "1.2.3", "1", "7FE00010", "", "..", "%00", "x,y", "*"),
    )
)
_PATHS = st.lists(_WORDS | st.text(max_size=8), max_size=12).map("/".join)
_NAMES = st.sampled_from(
    (
        *("limit", "offset", "includefield", "fuzzymatching", "PatientName", "00100020"),
        *("StudyDate", "ModalitiesInStudy", "window", "viewport", "quality", "accept"),
        *("StudyInstanceUID", "SeriesInstanceUID", "00081110"),
    )
)
_QUERIES = st.lists(
    st.tuples(_NAMES | st.text(max_size=8), st.text(max_size=12)).map("=".join), max_size=6
).map("&".join)


def _status(path: str, query: str, accept: str) -> int:
    service, outcome = ArchiveService(EndlessArchive()), Outcome()
    try:
        reply = service.answer(read_target(f"{ROOT}/{path}?{query}", "http://x", accept), outcome)
    except RefusedError as error:
        return error.status
    reply.close()
    return reply.status


@given(path=_PATHS, query=_QUERIES, accept=st.text(max_size=60))
def test_every_request_is_answered_or_refused(path: str, query: str, accept: str) -> None:
    status = _status(path, query, accept)
    assert status in (200, 204) or 400 <= status < 500


@given(query=_QUERIES, resource=st.sampled_from(("studies", "series", "instances")))
def test_every_search_is_answered_or_refused(resource: str, query: str) -> None:
    assert _status(resource, query, "*/*") in (200, 204, 400, 406)


def _ranges(accept: str) -> Sequence[MediaRange]:
    try:
        return accepted(Request((), (), "", accept))
    except RefusedError:
        return ()


@given(accept=st.text(alphabet='a/*;=," qtype.0123456789-+', max_size=80))
def test_every_accept_header_is_read(accept: str) -> None:
    assert all(0 < one.quality <= 1 for one in _ranges(accept))


@given(host=st.text(max_size=30), origin=st.text(max_size=30), token=st.text(max_size=30))
def test_nobody_gets_in_by_chance(host: str, origin: str, token: str) -> None:
    access = WebAccess({"one": "a token that is not guessed"})
    with pytest.raises(RefusedError):
        access.who(host, origin, token)
