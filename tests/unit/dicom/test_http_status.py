"""HTTP statuses and failure reasons: every code has one meaning, and words to go with it."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.dicom.http_status import (
    FAILURE_REASONS,
    HTTP_STATUSES,
    failure_reason,
    http_status,
)
from dcmvault.dicom.status import StatusKind
from dcmvault.dicom.web_answers import first_number, first_uid, read_store_answer
from dcmvault.errors import MalformedDicomError


def test_every_status_has_words_and_a_reference() -> None:
    for code in range(100, 600):
        meaning = http_status(code)
        assert meaning.first <= code <= meaning.last
        assert meaning.meaning
        assert meaning.reference.startswith(("PS3.", "RFC "))
        assert meaning.cause or meaning.kind is StatusKind.STORED
        assert (meaning.kind is StatusKind.STORED) == (200 <= code < 300)


def test_every_reason_has_words_and_none_means_that_all_is_well() -> None:
    for code in range(0x10000):
        meaning = failure_reason(code)
        assert meaning.first <= code <= meaning.last
        assert meaning.meaning
        assert meaning.reference.startswith("PS3.")
        assert meaning.kind not in (StatusKind.STORED, StatusKind.STORED_WITH_CHANGES)


def test_no_row_is_out_of_reach() -> None:
    assert set(HTTP_STATUSES) <= {http_status(code) for code in range(100, 600)}
    assert set(FAILURE_REASONS) <= {failure_reason(code) for code in range(0x10000)}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (45056, 45056),
        ("45056", 45056),
        (45056.0, 45056),
        (-1, None),
        (True, None),
        (None, None),
        ("B000", None),
        ("9" * 5000, None),
        (1e400, None),
        ([1], None),
    ],
)
def test_numbers_are_read_distrustfully(value: object, number: int | None) -> None:
    assert first_number({"00081197": {"Value": [value]}}, "00081197") == number


@pytest.mark.parametrize(
    ("value", "uid"),
    [("1.2.3", "1.2.3"), (" 1.2.3\0", "1.2.3"), ("1.2.x", ""), (1.2, ""), ("", ""), ("1" * 65, "")],
)
def test_uids_are_read_distrustfully(value: object, uid: str) -> None:
    assert first_uid({"00081155": {"Value": [value]}}, "00081155") == uid


def test_what_is_named_twice_failed() -> None:
    item = '[{"00081155": {"Value": ["1.2"]}, "00081197": {"Value": [272]}}]'
    body = f'{{"00081198": {{"Value": {item}}}, "00081199": {{"Value": {item}}}}}'
    answer = read_store_answer(body.encode())
    assert (answer.stored, answer.failed) == ({}, {"1.2": 272})


_TAGS = st.sampled_from(["00081155", "00081196", "00081197", "00081198", "00081199", "0008119A"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_TAGS | st.just("Value") | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_JSON)
def test_no_json_breaks_the_reading(value: object) -> None:
    _read_or_refuse(json.dumps(value).encode())
    _read_or_refuse(json.dumps({"00081198": {"Value": [value, {"00081155": value}]}}).encode())


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_break_the_reading(data: bytes, as_xml: bool) -> None:
    _read_or_refuse((b"<NativeDicomModel>" if as_xml else b"") + data)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "shift_jis", "zip", "nothing"])
def test_no_encoding_breaks_the_reading(encoding: str) -> None:
    _read_or_refuse(f'<?xml version="1.0" encoding="{encoding}"?><a>é</a>'.encode())


def _read_or_refuse(body: bytes) -> None:
    with suppress(MalformedDicomError):
        read_store_answer(body)
