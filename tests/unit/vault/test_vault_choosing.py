from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dcmvault.errors import UsageError
from dcmvault.vault.choosing import as_of, find_snapshot, short_id
from dcmvault.vault.snapshot import Link


def link(digest: str, day: int) -> Link:
    name = f"{day:08}-{digest.ljust(64, '0')}"
    return Link(name, day, (), f"2026-01-{day:02}T12:00:00.000000Z")


LINKS = [link("abcd1111", 1), link("abcd2222", 2), link("0123abcd", 3)]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("latest", 2),
        ("LATEST", 2),
        ("abcd1", 0),
        ("ABCD2222", 1),
        ("0123", 2),
        (LINKS[1].name, 1),
        (LINKS[1].name.upper(), 1),
        (LINKS[1].name.rpartition("-")[2], 1),
    ],
)
def test_a_snapshot_is_named_by_the_beginning_of_its_id(text: str, number: int) -> None:
    assert find_snapshot(LINKS, text) is LINKS[number]
    assert LINKS[number].name.partition("-")[2].startswith(short_id(LINKS[number].name))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abcd", "2 snapshots"),
        ("beef", "no snapshot"),
        ("abc", "too short"),
        ("", "too short"),
        ("00000001", "no snapshot"),
        ("99999999-abcd1111", "no snapshot"),
        ("../../x", "no snapshot"),
    ],
)
def test_a_name_that_is_none(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        find_snapshot(LINKS, text)
    assert caught.value.hint
    assert caught.value.exit_status == 2


def test_an_ambiguous_name_is_answered_with_longer_ones() -> None:
    with pytest.raises(UsageError) as caught:
        find_snapshot(LINKS, "abcd")
    assert "abcd1111" in caught.value.hint
    assert "abcd2222" in caught.value.hint


def test_the_latest_of_none() -> None:
    with pytest.raises(UsageError, match="no snapshot"):
        find_snapshot([], "latest")


def test_the_snapshots_of_a_time() -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert as_of(LINKS, noon) == LINKS[:2]
    with pytest.raises(UsageError, match="2025-12-31") as caught:
        as_of(LINKS, datetime(2025, 12, 31, tzinfo=UTC))
    assert "2026-01-01" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        as_of([], noon)
    assert caught.value.hint
