"""A peer that wants to know who we are (PS3.7 Annex D.3.3.7): pynetdicom's acceptor decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pynetdicom import AE, evt

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.testing.clock import FakeClock

_VERIFICATION = "1.2.840.10008.1.1"


@contextmanager
def _peer_for(name: str, passcode: str) -> Iterator[tuple[int, list[tuple[int, bytes, bytes]]]]:
    """A verification SCP that rejects others; yields its port and the identities it was told."""
    told: list[tuple[int, bytes, bytes]] = []

    def judge(event: Any) -> tuple[bool, bytes | None]:
        told.append((event.user_id_type, event.primary_field, event.secondary_field or b""))
        known = (event.primary_field, event.secondary_field or b"")
        return known == (name.encode(), passcode.encode()), None

    entity: Any = AE("GUARDED")
    entity.add_supported_context(_VERIFICATION)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_USER_ID, judge)]
    )
    try:
        yield server.server_address[1], told
    finally:
        server.shutdown()


def _probe(port: int, **options: str) -> dict[str, bool]:
    section = DimseDestinationSection(host="127.0.0.1", port=port, **options)  # type: ignore[arg-type]
    return {step.name: step.ok for step in DimseDestination(section, FakeClock()).probe()}


@pytest.mark.parametrize("passcode", ["", "pässcode 1"])
def test_a_known_user_is_let_in(passcode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_PASSCODE", passcode)
    with _peer_for("backup", passcode) as (port, told):
        options = {"user": "backup"} | ({"password": "env:PACS_PASSCODE"} if passcode else {})
        assert _probe(port, **options)["echo"]
    assert told == [(2 if passcode else 1, b"backup", passcode.encode())]


def test_an_unknown_user_is_rejected() -> None:
    with _peer_for("backup", "") as (port, told):
        steps = _probe(port, user="somebody")
    assert steps["connect"]
    assert not steps["associate"]
    assert told


def test_nobody_is_named_unless_asked_for() -> None:
    with _peer_for("backup", "") as (port, told):
        assert _probe(port)["echo"]
    assert told == []
