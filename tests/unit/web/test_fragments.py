"""Parts of pages are made once a second, however many ask."""

from __future__ import annotations

import threading

from dcmvault.testing.clock import FakeClock
from dcmvault.web.fragments import Fragments


def test_a_part_is_made_once_a_second_and_anew_when_it_is_forgotten() -> None:
    clock = FakeClock()
    fragments = Fragments(clock.monotonic)
    made: list[str] = []

    def make() -> str:
        made.append("")
        return str(len(made))

    assert [fragments.get(("a",), make) for _ in range(3)] == ["1", "1", "1"]
    assert fragments.get(("b",), make) == "2"
    clock.advance(1)
    assert fragments.get(("a",), make) == "3"
    fragments.forget()
    assert fragments.get(("a",), make) == "4"
    for number in range(100):
        fragments.get((str(number),), make)
    assert fragments.get(("a",), make) != "4"


def test_who_asks_while_a_part_is_made_waits_for_it() -> None:
    fragments = Fragments(FakeClock().monotonic)
    begun, go_on = threading.Event(), threading.Event()
    made: list[int] = []

    def slowly() -> str:
        made.append(1)
        begun.set()
        assert go_on.wait(60)
        return "made"

    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(fragments.get(("a",), slowly)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert (found, len(made)) == (["made"] * 4, 1)


def test_a_part_that_could_not_be_made_is_tried_again() -> None:
    fragments = Fragments(FakeClock().monotonic)

    def fails() -> str:
        raise ValueError

    for _ in range(2):
        try:
            fragments.get(("a",), fails)
        except ValueError:
            continue
        raise AssertionError("a failure was kept")
    assert fragments.get(("a",), lambda: "made") == "made"
