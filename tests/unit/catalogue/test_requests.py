"""Requests as text: equal ones are equal, and older releases' are read."""

from __future__ import annotations

from dataclasses import replace

from dcmvault.catalogue.requests import from_text, to_text
from dcmvault.model.evidence import Level
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest
from dcmvault.model.selection import Selection

REQUEST = RunRequest(RunKind.BACKUP, "/studies", (DestinationRequest("/copies", Level.PROVEN),))


def test_a_request_is_read_as_it_was_written() -> None:
    for request in (REQUEST, replace(REQUEST, selection=Selection(studies=("1.2.3", "1.2.4")))):
        assert from_text(to_text(request)) == request


def test_a_request_for_everything_is_the_text_that_it_always_was() -> None:
    assert "selection" not in to_text(REQUEST)
