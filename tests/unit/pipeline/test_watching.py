"""When a watched source is due, in seconds of a clock that only these tests move."""

from __future__ import annotations

from dcmvault.pipeline.watching import Watch


def test_the_first_pass_is_due_at_once() -> None:
    assert Watch(30, 900).due_at() == 0.0


def test_without_announcements_a_source_is_passed_over_at_the_interval() -> None:
    watch = Watch(30, 900)
    watch.begin(100)
    assert watch.due_at() == 1000
    watch.begin(1000)
    assert watch.due_at() == 1900


def test_what_is_announced_settles_first() -> None:
    watch = Watch(30, 900)
    watch.begin(100)
    for at in (200, 210, 225):
        watch.announced(at)
        assert watch.due_at() == at + 30


def test_what_never_settles_is_passed_over_all_the_same() -> None:
    watch = Watch(30, 10_000)
    watch.begin(0)
    for at in range(10, 2000):
        watch.announced(at)
    assert watch.due_at() == 10 + 20 * 30


def test_an_announcement_does_not_put_the_interval_off() -> None:
    watch = Watch(30, 900)
    watch.begin(0)
    watch.announced(890)
    assert watch.due_at() == 900


def test_what_was_announced_during_a_pass_is_for_the_next() -> None:
    watch = Watch(30, 900)
    watch.begin(0)
    watch.announced(50)
    watch.begin(80)
    assert watch.due_at() == 980
    watch.announced(85)
    assert watch.due_at() == 115


class _Interrupted(Watch):
    """Another thread announces once, in the middle of a beginning."""

    is_interrupted = False

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if self.is_interrupted and value is None:
            self.is_interrupted = False
            self.announced(90)


def test_what_is_announced_while_a_pass_begins_is_not_lost() -> None:
    watch = _Interrupted(30, 900)
    watch.announced(80)
    watch.is_interrupted = True
    watch.begin(85)
    assert watch.has_announcements
    assert watch.due_at() == 120
