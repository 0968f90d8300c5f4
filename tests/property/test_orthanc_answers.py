"""Whatever an Orthanc answers, only its own errors come out, and nothing of it becomes a path.

At night half a million Orthancs are listed, and their logs of changes are read; each answer to each
request is drawn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.peer_sections import OrthancSourceSection
from dcmvault.dicom.orthanc_rest import (
    OrthancRest,
    Patience,
    ResourceGoneError,
    ResourceUnreadableError,
)
from dcmvault.dicom.web_access import look_up_access
from dcmvault.errors import SourceUnavailableError
from dcmvault.model.instance import StudyRef
from dcmvault.model.sidecar import is_sidecar_name
from dcmvault.sources.orthanc import OrthancSource
from dcmvault.sources.orthanc.changes import read_mark
from dcmvault.sources.orthanc.sidecar import read_sidecar

SECTION = OrthancSourceSection(url="http://127.0.0.1:9")
ACCESS = look_up_access(SECTION, SystemClock().monotonic)
STUDY, SERIES = "a" * 8 + "-bbbbbbbb" * 4, "c" * 8 + "-bbbbbbbb" * 4
ONE, OTHER = "d" * 8 + "-bbbbbbbb" * 4, "e" * 8 + "-bbbbbbbb" * 4
#: An instance; or a study that could not be listed.
LOCATOR = re.compile(r"[0-9a-f-]{44}(?:/[0-9a-f-]{44}\.dcm)?\Z")


def _instance(instance_id: str) -> dict[str, Any]:
    return {
        "FileSize": 1326,
        "FileUuid": "38de8a98-3bf3-4498-b3b9-8060a8608f5f",
        "ID": instance_id,
        "IndexInSeries": 1,
        "MainDicomTags": {"InstanceNumber": "1", "SOPInstanceUID": "2.25.7"},
        "ParentSeries": SERIES,
        "Type": "Instance",
    }


#: What an Orthanc answers, by the path's ends.
HONEST: dict[str, Any] = {
    "/statistics": {"CountInstances": 2, "CountStudies": 1},
    "/studies": [STUDY],
    f"/studies/{STUDY}": {
        "ID": STUDY,
        "MainDicomTags": {"StudyDate": "20200102", "StudyInstanceUID": "1.2.3.1"},
        "PatientMainDicomTags": {"PatientName": "Doe^Jane"},
    },
    f"/studies/{STUDY}/series?expand": [
        {"ID": SERIES, "MainDicomTags": {"SeriesInstanceUID": "1.2"}, "Instances": [ONE, OTHER]}
    ],
    f"/studies/{STUDY}/instances?expand": [_instance(ONE), _instance(OTHER)],
    f"/instances/{ONE}": _instance(ONE),
    f"/instances/{OTHER}": _instance(OTHER),
    f"/instances/{ONE}/study": {"ID": STUDY},
    "/changes": {
        "Changes": [
            {"ChangeType": "NewInstance", "Date": "20261129T142401", "ID": ONE, "Seq": 7},
            {"ChangeType": "StableStudy", "Date": "20261129T142401", "ID": STUDY, "Seq": 8},
        ],
        "Done": True,
        "Last": 8,
    },
    "/metadata?expand": {"LastUpdate": "20261129T142401", "Reviewer": "nobody"},
    "/attachments": ["dicom", "report"],
    "/patients": [OTHER],
    "/tools/labels": ["a"],
    "/labels": ["a"],
}

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 1 << 63, 10**400, "", "..", "../x", "\0", "\ud800", ONE, STUDY])
    | st.text(max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


#: Makes a value of a strategy.
Draw = Callable[[st.SearchStrategy[Any]], Any]

#: How an answer is made of an honest one: the number of changes, or else.
_TWISTS = st.sampled_from([0, 0, 1, 1, 2, 2, 3, "bytes", "cut", "cut and changed"])


def twisted(draw: Draw, honest: Any) -> bytes:
    """Make an answer of an honest one: something is replaced, left out or cut."""
    twist = draw(_TWISTS)
    if twist == "bytes":
        return bytes(draw(st.binary(max_size=64)))
    answer = honest
    for _change in range(twist if isinstance(twist, int) else twist == "cut and changed"):
        answer = _replace(draw, answer)
    body = json.dumps(answer).encode()
    return body if isinstance(twist, int) else body[: draw(st.integers(0, len(body)))]


def _replace(draw: Draw, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 4)) == 0:
            return {name: one for name, one in value.items() if name != key}
        return {**value, key: _replace(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        at = draw(st.integers(0, len(value) - 1))
        if draw(st.integers(0, 4)) == 0:
            return value[:at] + value[at + 1 :]
        return [*value[:at], _replace(draw, value[at]), *value[at + 1 :]]
    return draw(VALUES)


class _Told(OrthancRest):
    """An Orthanc whose answers are drawn: anew for every request, or all beforehand."""

    def __init__(self, data: st.DataObject, *, beforehand: bool = False) -> None:
        super().__init__(ACCESS, Patience(()))

        def draw(end: str) -> bytes:
            return twisted(data.draw, HONEST[end])

        self._answer: Callable[[str], bytes] = draw
        if beforehand:  # threads must not draw
            self._answer = {end: draw(end) for end in HONEST}.__getitem__
        self.requests = 0

    def _get(self, path: str, longest: int) -> bytes:
        self.requests += 1
        assert self.requests < 2000, "it never ends"
        assert ".." not in path
        assert "\0" not in path
        for end in sorted(HONEST, key=len, reverse=True):
            if path == end or path.endswith(end) or path.startswith(f"{end}?"):
                return self._answer(end)
        raise ResourceGoneError("Orthanc does not have it (any more).")


def _source(rest: OrthancRest) -> OrthancSource:
    source = OrthancSource(SECTION, SystemClock())
    source._rest = lambda: rest  # type: ignore[method-assign]
    return source


def _list(data: st.DataObject) -> None:
    rest = _Told(data)
    source = _source(rest)
    with suppress(SourceUnavailableError):
        studies = [*source.studies(), StudyRef(STUDY)]
        locators: set[str] = set()
        for study in studies[:3]:
            for entry in source.entries(study):
                assert LOCATOR.match(entry.locator)
                assert 0 <= entry.fingerprint.size < 1 << 63
                assert 0 <= entry.fingerprint.inode < 1 << 63
                if entry.indexed is not None:
                    assert all(
                        "\0" not in text and text.encode().decode() == text and len(text) <= 1024
                        for text in (*entry.indexed.study, *entry.indexed.series)
                    )
                    assert all(getattr(entry.indexed, name) for name in UIDS)
                locators.add(entry.locator)


UIDS = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")


def _read_log(data: st.DataObject) -> None:
    source = _source(_Told(data))
    with suppress(SourceUnavailableError):
        bookmark = source.bookmark()
        assert not bookmark or read_mark(bookmark) is not None
        now = datetime.now(UTC).isoformat()
        honest = [7, "7", "NewInstance", ONE, "20261129T142401", "", now, "1"]
        for mark in (bookmark, json.dumps(honest), data.draw(st.text(max_size=30))):
            changes = source.changes_since(mark)
            if changes is not None:
                assert len(set(changes.studies)) == len(changes.studies)
                assert read_mark(changes.bookmark) is not None
        assert source.count() >= 0


def _read_sidecar(data: st.DataObject) -> None:
    rest = _Told(data, beforehand=True)
    with suppress(SourceUnavailableError, ResourceGoneError, ResourceUnreadableError):
        names = [file.name for file in read_sidecar(lambda: rest, scope="instances", connections=1)]
        assert len(set(names)) == len(names)
        assert all(is_sidecar_name(name) for name in names)


@settings(max_examples=3_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_answer_can_be_listed_or_refused(data: st.DataObject) -> None:
    _list(data)


@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_log_can_be_read_or_refused(data: st.DataObject) -> None:
    _read_log(data)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_metadata_make_a_sidecar_or_none(data: st.DataObject) -> None:
    _read_sidecar(data)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@settings(max_examples=500_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_answer_can_be_listed_or_refused_all_night(data: st.DataObject) -> None:
    _list(data)
    _read_log(data)
