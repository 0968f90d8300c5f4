"""Long work that pages ask for: in turn, seen, stopped, kept for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from dcmvault.errors import DcmvaultError, RunInterruptedError, UsageError
from dcmvault.i18n import language, speaking
from dcmvault.web.background import MOST_KEPT, MOST_WAITING, Background, Work, WorkState

AT = datetime(2026, 1, 31, tzinfo=UTC)
GENEROUS_S = 60.0


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    assert made.close(GENEROUS_S)


def _ask(background: Background, do: object) -> Work:
    return background.ask("Work", "/page", do, by="somebody", at=AT)  # type: ignore[arg-type]


def _finish(background: Background) -> None:
    """Wait until all that was asked before has ended: they are done in turn."""
    ended = threading.Event()
    _ask(background, lambda _work: ended.set())
    assert ended.wait(GENEROUS_S)


def _refuse(_work: Work) -> None:
    raise UsageError("no such thing", hint="name another")


def _break(_work: Work) -> None:
    raise RuntimeError("patient data")


def test_each_has_its_result_or_its_error(background: Background) -> None:
    good, bad, broken = (_ask(background, do) for do in (lambda _work: 7, _refuse, _break))
    _finish(background)
    assert (good.state, good.result) == (WorkState.DONE, 7)
    assert (bad.state, bad.message, bad.hint) == (WorkState.FAILED, "no such thing", "name another")
    assert broken.state is WorkState.FAILED
    assert "patient" not in broken.message
    assert background.find(good.work_id) is good
    assert good in background.of("/page")
    assert not background.of("/other")


def test_work_speaks_the_language_of_who_asked(background: Background) -> None:
    with speaking("pt_BR"):
        work = _ask(background, lambda _work: language())
    _finish(background)
    assert work.result == "pt_BR"


def test_what_goes_on_is_stopped_and_what_waits_never_begins(background: Background) -> None:
    begun = threading.Event()

    def wait(work: Work) -> None:
        begun.set()
        assert work.stop.wait(GENEROUS_S)
        raise RunInterruptedError("stopped")

    first = _ask(background, wait)
    second = _ask(background, lambda _work: 1)
    assert begun.wait(GENEROUS_S)
    background.cancel(second)
    background.cancel(first)
    _finish(background)
    assert first.state is second.state is WorkState.STOPPED
    assert second.result is None


def test_no_more_is_taken_than_can_wait(background: Background) -> None:
    go = threading.Event()
    _ask(background, lambda _work: go.wait(GENEROUS_S))
    try:
        with pytest.raises(UsageError):
            _ask_often(background)
    finally:
        go.set()


def _ask_often(background: Background) -> None:
    for _number in range(MOST_WAITING + 2):
        _ask(background, lambda _work: None)


def test_old_results_are_forgotten_with_what_they_kept(background: Background) -> None:
    closed = threading.Event()
    old = _ask(background, lambda work: work.keeps.callback(closed.set))
    for _number in range(MOST_KEPT + 1):
        _finish(background)
    _finish(background)
    assert closed.is_set()
    with pytest.raises(DcmvaultError):
        background.find(old.work_id)


def test_an_end_stops_what_goes_on() -> None:
    background, begun = Background(), threading.Event()

    def wait(work: Work) -> None:
        work.keeps.callback(begun.clear)
        begun.set()
        work.stop.wait(GENEROUS_S)

    _ask(background, wait)
    assert begun.wait(GENEROUS_S)
    assert background.close(GENEROUS_S)
    assert not begun.is_set()
    with pytest.raises(UsageError):
        _ask(background, wait)
