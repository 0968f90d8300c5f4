"""Who asks goes first: work in the background waits while an answer is looked for, and gets on."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from dcmvault.archives import giving_way
from dcmvault.archives.giving_way import GivingWay


def test_work_waits_while_an_answer_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving_way, "_LONGEST_S", 3600.0)
    giving = GivingWay()
    looking, found, stepped = (threading.Event() for _number in range(3))

    def answers() -> Iterator[int]:
        looking.set()
        assert found.wait(60)
        # The other thread had all this time, and did not come through.
        assert not stepped.is_set()
        yield 1

    def work() -> None:
        assert looking.wait(60)
        giving.step()
        stepped.set()

    thread = threading.Thread(target=work)
    asked = giving.going_first(answers())
    threading.Timer(0.2, found.set).start()
    thread.start()
    assert next(asked) == 1
    # Whoever takes an answer away slowly holds nobody up.
    assert stepped.wait(60)
    thread.join()
    assert list(asked) == []


def test_work_gets_on_under_a_stream_of_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step waits so long at most, whatever is asked meanwhile."""
    monkeypatch.setattr(giving_way, "_LONGEST_S", 0.05)
    giving = GivingWay()

    def answers() -> Iterator[str]:
        giving.step()
        yield "the work had its turn in the middle of a question"

    assert len(list(giving.going_first(answers()))) == 1


def test_work_that_waits_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving_way, "_LONGEST_S", 3600.0)
    giving = GivingWay()

    def answers() -> Iterator[int]:
        threading.Timer(0.05, giving.stop).start()
        with pytest.raises(InterruptedError):
            giving.step()
        yield 1

    assert list(giving.going_first(answers())) == [1]
    assert giving.rest(3600)


def test_answers_that_nobody_wants_any_more_are_closed() -> None:
    closed = threading.Event()

    def answers() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.set()

    asked = GivingWay().going_first(answers())
    assert next(asked) == 0
    asked.close()
    assert closed.is_set()
