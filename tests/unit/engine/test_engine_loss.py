"""Which errors mean that a shared database is away, and which end the work that met them."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
import sqlalchemy as sa

from dcmvault.engine.binding import Binding
from dcmvault.errors import StateError
from dcmvault.ports.queue import StageInterruption


def _binding(*, is_shared: bool) -> Binding:
    nothing = cast(Any, None)
    return Binding(nothing, nothing, lambda _one: 2, threading.Event(), is_shared=is_shared)


def _caused_by(cause: Exception) -> StateError:
    error = StateError("the catalogue cannot be used")
    error.__cause__ = cause
    return error


GONE = sa.exc.OperationalError("SELECT 1", {}, Exception("server closed the connection"))
WRONG = sa.exc.DataError("SELECT 1", {}, Exception("invalid input"))


@pytest.mark.parametrize(
    "error", [GONE, _caused_by(GONE), sa.exc.TimeoutError("no connection is free")]
)
def test_a_database_that_is_away_interrupts(error: Exception) -> None:
    binding = _binding(is_shared=True)
    with pytest.raises(StageInterruption):
        binding.leave_if_lost(error)
    assert binding.is_broken


@pytest.mark.parametrize(
    "error", [WRONG, StateError("a file cannot be written"), _caused_by(OSError()), KeyError("x")]
)
def test_all_else_is_an_error_as_on_one_host(error: Exception) -> None:
    binding = _binding(is_shared=True)
    binding.leave_if_lost(error)
    assert not binding.is_broken


def test_an_embedded_database_is_not_waited_for() -> None:
    binding = _binding(is_shared=False)
    binding.leave_if_lost(GONE)
    assert not binding.is_broken
