"""The token of the API: made once, and known by its digest only."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dcmvault.app.api_token import known_token, make_token, token_path
from dcmvault.errors import StateError

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def test_it_is_made_once(tmp_path: Path) -> None:
    token = make_token(tmp_path, NOW)
    assert make_token(tmp_path, NOW) == ""
    known = known_token(tmp_path)
    assert known.lets_in(token)
    assert not known.lets_in(token[:-1])
    assert not known.lets_in("")
    assert not known.lets_in("\udcff")
    assert token not in token_path(tmp_path).read_text()
    assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()] == [0o600]


def test_two_who_ask_at_once_get_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _number: make_token(tmp_path, NOW), range(8)))
    (token,) = filter(None, made)
    assert known_token(tmp_path).lets_in(token)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"sha256": "00"}', '{"sha256": 1}', "\xff"])
def test_a_damaged_one_lets_nobody_in(tmp_path: Path, text: str) -> None:
    token_path(tmp_path).write_text(text)
    with pytest.raises(StateError, match="cannot be read"):
        known_token(tmp_path)
