"""Acknowledging at once: asked for where the system knows it, and nowhere else."""

from __future__ import annotations

import socket

import pytest

from dcmvault.dicom import quick_ack


class _Connection(socket.socket):
    """Writes down what is set."""

    asked: list[tuple[int, int, int]]

    def setsockopt(self, level: int, name: int, value: int) -> None:  # type: ignore[override]
        self.asked.append((level, name, value))


@pytest.mark.parametrize(
    ("option", "asked"),
    [(12, [(socket.IPPROTO_TCP, 12, 1)]), (None, [])],
    ids=["linux", "macos-and-windows"],
)
def test_it_is_asked_for_where_it_is_known(
    monkeypatch: pytest.MonkeyPatch, option: int | None, asked: list[tuple[int, int, int]]
) -> None:
    monkeypatch.setattr(quick_ack, "QUICK_ACK", option)
    with _Connection() as connection:
        connection.asked = []
        quick_ack.acknowledge_at_once(connection)
        assert connection.asked == asked
