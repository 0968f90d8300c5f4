"""Which studies are verified again: never looked at first, then the oldest, each once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dcmvault.model.plan import Sample
from dcmvault.pipeline.reverification import choose_oldest
from dcmvault.ports.reverification import StudyAge

NOW = datetime(2026, 1, 31, tzinfo=UTC)
DAY = 86_400


def _age(key: int, days: int | None) -> StudyAge:
    return StudyAge(key, None if days is None else NOW - timedelta(days=days))


AGES = [_age(1, 5), _age(2, 40), _age(3, None), _age(4, 90), _age(5, 5), _age(6, None)]


def test_a_number_of_studies_never_looked_at_first() -> None:
    assert choose_oldest(AGES, Sample(studies=3), NOW) == (3, 4, 6)
    assert choose_oldest(AGES, Sample(studies=1), NOW) == (3,)
    assert choose_oldest(AGES, Sample(studies=99), NOW) == (1, 2, 3, 4, 5, 6)


def test_a_share_is_of_all_studies_and_at_least_one() -> None:
    assert choose_oldest(AGES, Sample(share=0.01), NOW) == (3,)
    assert choose_oldest(AGES, Sample(share=0.5), NOW) == (3, 4, 6)
    assert choose_oldest(AGES, Sample(share=0.51), NOW) == (2, 3, 4, 6)
    assert choose_oldest(AGES, Sample(share=1.0), NOW) == (1, 2, 3, 4, 5, 6)
    assert choose_oldest([], Sample(share=1.0), NOW) == ()


def test_what_is_younger_is_left_out() -> None:
    assert choose_oldest(AGES, Sample(older_than_s=30 * DAY), NOW) == (2, 3, 4, 6)
    assert choose_oldest(AGES, Sample(older_than_s=40 * DAY), NOW) == (3, 4, 6)
    assert choose_oldest(AGES, Sample(share=0.5, older_than_s=30 * DAY), NOW) == (3, 4, 6)


def test_a_time_in_the_future_is_that_of_a_wrong_clock() -> None:
    """It would be looked at last, or never again."""
    ages = [_age(1, 5), _age(2, -400), _age(3, 90)]
    assert choose_oldest(ages, Sample(studies=1), NOW) == (2,)
    assert choose_oldest(ages, Sample(older_than_s=30 * DAY), NOW) == (2, 3)


def test_without_limits_all_are_verified() -> None:
    assert choose_oldest(AGES, Sample(), NOW) == (1, 2, 3, 4, 5, 6)


@given(st.lists(st.one_of(st.none(), st.integers(0, 400)), max_size=40), st.integers(1, 10))
def test_a_sample_each_day_comes_to_every_study(days: list[int | None], studies: int) -> None:
    """Repeating it looks at every study before it looks at any a second time."""
    ages = {key: _age(key, age) for key, age in enumerate(days, start=1)}
    seen: list[int] = []
    now = NOW
    while len(seen) < len(ages):
        now += timedelta(days=1)
        chosen = choose_oldest(ages.values(), Sample(studies=studies), now)
        fresh = [key for key in chosen if key not in seen]
        assert len(fresh) == min(studies, len(ages) - len(seen))
        seen += fresh
        ages |= {key: StudyAge(key, now) for key in chosen}
