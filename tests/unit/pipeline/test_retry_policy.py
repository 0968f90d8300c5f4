"""Waits grow, vary and end; a destination that does not answer is left alone for a while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dcmvault.errors import (
    AssociationLostError,
    AssociationRejectedError,
    DestinationUnreachableError,
)
from dcmvault.pipeline.retry import CircuitBreaker, RetryPolicy
from dcmvault.testing.clock import FakeClock

SILENT = DestinationUnreachableError("nothing listens on port 1", hint="Check the port.")


@given(st.integers(1, 30))
def test_waits_double_within_their_jitter_and_limit(attempt: int) -> None:
    policy = RetryPolicy(wait_s=5.0, jitter=0.2, longest_wait_s=300.0)
    expected = min(5.0 * 2 ** (attempt - 1), 300.0)
    assert 0.8 * expected <= policy.wait_after(attempt) <= 1.2 * expected


def test_no_wait_can_be_asked_for() -> None:
    assert RetryPolicy(wait_s=0).wait_after(7) == 0


def _open(breaker: CircuitBreaker) -> bool:
    return breaker.is_open


def test_breaker_opens_after_failures_in_a_row_and_closes_by_itself() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(clock)
    for _ in range(4):
        breaker.failed(SILENT)
    assert not _open(breaker)
    breaker.succeeded()
    for _ in range(5):
        breaker.failed(SILENT)
    assert _open(breaker)
    clock.advance(60.1)
    assert not _open(breaker), "one attempt may look"
    breaker.failed(SILENT)
    assert _open(breaker), "and one failure is enough to leave it alone again"
    clock.advance(60.1)
    breaker.succeeded()
    assert not _open(breaker)


def test_what_is_not_even_tried_is_refused_with_the_true_cause() -> None:
    breaker = CircuitBreaker(FakeClock())
    breaker.failed(SILENT)
    refusal = breaker.refusal()
    assert (refusal.code, refusal.message, refusal.hint) == (
        "unreachable",
        "nothing listens on port 1",
        "Check the port.",
    )
    breaker.failed(AssociationRejectedError("the calling AE title is not known"))
    assert breaker.refusal().code == "association_rejected"
    breaker.failed(AssociationLostError("it went away"))
    assert breaker.refusal().code == "unreachable", "nothing of it was in flight"


def test_an_answer_of_long_ago_says_nothing_of_now() -> None:
    """Else a delivery of the morning would outweigh every probe that fails since."""
    clock = FakeClock()
    breaker = CircuitBreaker(clock)
    breaker.succeeded()
    clock.advance(599)
    assert breaker.answering().answers is True
    clock.advance(2)
    assert breaker.answering().answers is None
