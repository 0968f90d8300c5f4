"""How values are written on pages: nothing unescaped, nothing invisible, never "None"."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from jinja2 import Environment, UndefinedError

from dcmvault import i18n
from dcmvault.web import rendering

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def environment() -> Environment:
    return rendering._environment()


def _shown(environment: Environment, text: str, **values: object) -> str:
    return environment.from_string(text).render(**values)


def test_foreign_text_is_escaped_and_its_controls_are_seen(environment: Environment) -> None:
    hostile = "<img src=x onerror=alert(1)>\u202e\x1b"
    shown = _shown(environment, "{{ name }}", name=hostile)
    assert shown == r"&lt;img src=x onerror=alert(1)&gt;\u202e\x1b"


def test_values_in_sentences_are_escaped_too(environment: Environment) -> None:
    shown = _shown(environment, '{{ _("%(held)s of %(all)s studies", held=a, all=b) }}', a="<", b=2)
    assert shown == "&lt; of 2 studies"


def test_nothing_is_a_dash_and_what_is_not_there_is_a_defect(environment: Environment) -> None:
    assert _shown(environment, "{{ nothing }}", nothing=None) == "–"
    with pytest.raises(UndefinedError):
        _shown(environment, "{{ nothing }}")


def test_parts_that_take_a_body_need_none(environment: Environment) -> None:
    macros = '{% from "parts/macros.html" import empty, problem %}'
    assert "Nothing here" in _shown(environment, macros + '{{ empty("Nothing here") }}')
    assert "badly" in _shown(environment, macros + '{{ problem("bad", "It went badly") }}')


@pytest.mark.parametrize(
    ("age", "english", "portuguese"),
    [
        (timedelta(seconds=59), "just now", "agora há pouco"),
        (timedelta(minutes=3), "3 min ago", "há 3 min"),
        (timedelta(hours=23, minutes=59), "23 h ago", "há 23 h"),
        (timedelta(days=1), "1 day ago", "há 1 dia"),
        (timedelta(days=59), "59 days ago", "há 59 dias"),
        (timedelta(days=60), "2025-12-02", "2025-12-02"),
        (-timedelta(hours=2), "in 2 h", "em 2 h"),
    ],
)
def test_moments_are_told_by_their_age(age: timedelta, english: str, portuguese: str) -> None:
    assert rendering.ago(NOW - age, NOW) == english
    with i18n.speaking("pt-BR"):
        assert rendering.ago(NOW - age, NOW) == portuguese


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(17, 17, "100 %"), (99_999, 100_000, "99.9 %"), (1, 3, "33.3 %"), (0, 3, "0 %"), (0, 0, "–")],
)
def test_only_the_whole_is_a_hundred_per_cent(part: int, whole: int, words: str) -> None:
    assert rendering.share(part, whole) == words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Exemplo^Beatriz", "Exemplo, Beatriz"),
        ("Silva^Ana^Maria^Dra.^PhD", "Silva, Dra. Ana Maria, PhD"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou (山田, 太郎, やまだ, たろう)"),
        ("OB^^^^", "OB"),
        ("^^^^", ""),
        ("", ""),
        ("A•••", "A•••"),
        ("a^b^c^d^e^f=<script>", "a, d b c, e (<script>)"),
    ],
)
def test_names_of_persons_are_written_as_people_do(name: str, words: str) -> None:
    assert rendering.person(name) == words
