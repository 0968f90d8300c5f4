"""The printed recovery key: typos are found, and the row named, as often as a check byte can."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from dcmvault.errors import VaultLockedError
from dcmvault.vault.recovery_words import ENTROPY_BYTES, WORDS, from_words, to_rows

_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "vault-format.md"
_FIXED = bytes(range(0, 200, 10))


def _text(rows: list[list[str]]) -> str:
    return "\n".join(" ".join(row) for row in rows)


def _problem(text: str) -> VaultLockedError:
    with pytest.raises(VaultLockedError) as caught:
        from_words(text)
    return caught.value


def _named(rows: list[list[str]], row: int) -> bool:
    """Say whether a wrong key is refused; if so, it must be for this row and no other."""
    message = ""
    try:
        from_words(_text(rows))
    except VaultLockedError as error:
        message = error.message
    if message:
        assert re.findall(r"\brow (\d) has a wrong word", message) == [str(row + 1)]
    return bool(message)


def test_the_list_is_that_of_the_format_page() -> None:
    listed = _PAGE.read_text("utf-8").split("```text\n")[1].split("```")[0].split()
    assert tuple(listed) == WORDS
    assert len(set(WORDS)) == 256


def test_golden() -> None:
    assert to_rows(_FIXED) == [
        ["acid", "ankle", "autumn", "beach", "bonus", "hotel"],
        ["bullet", "cave", "cliff", "coyote", "deer", "bowl"],
        ["drum", "engine", "finger", "frog", "globe", "brush"],
        ["hat", "hotel", "jaguar", "kitten", "library", "canyon"],
    ]


def test_comes_back_however_it_was_typed() -> None:
    rng = random.Random(3)
    for _trial in range(50):
        entropy = rng.randbytes(ENTROPY_BYTES)
        rows = to_rows(entropy)
        assert from_words(_text(rows)) == entropy
        assert from_words(_text(rows).upper()) == entropy
        assert from_words("-".join(word for row in rows for word in row)) == entropy
        numbered = "\r\n".join(f"{n}. {', '.join(row)}" for n, row in enumerate(rows, 1))
        assert from_words(numbered) == entropy


def test_every_word_replaced_by_every_other() -> None:
    rows = to_rows(_FIXED)
    missed = tried = 0
    for row in range(4):
        for column in range(6):
            for word in WORDS:
                if word == rows[row][column]:
                    continue
                wrong = [list(one) for one in rows]
                wrong[row][column] = word
                tried += 1
                missed += not _named(wrong, row)
    assert tried == 24 * 255
    # Each is missed with probability 1/256: 24 of 6120 are expected; 60 are seven sigma away.
    assert missed < 60


def test_every_swap_of_two_words_in_a_row() -> None:
    rng = random.Random(4)
    missed = tried = 0
    for _trial in range(60):
        rows = to_rows(rng.randbytes(ENTROPY_BYTES))
        row = rng.randrange(4)
        for one in range(6):
            for other in range(one):
                wrong = [list(each) for each in rows]
                wrong[row][one], wrong[row][other] = wrong[row][other], wrong[row][one]
                if wrong == rows:
                    continue
                tried += 1
                missed += not _named(wrong, row)
    assert tried > 800
    assert missed < 20  # 3.5 are expected


def test_swapped_rows_are_found() -> None:
    rows = to_rows(_FIXED)
    error = _problem(_text([rows[1], rows[0], rows[2], rows[3]]))
    assert "row 1 has a wrong word" in error.message
    assert "row 2 has a wrong word" in error.message
    assert "row 3" not in error.message


def test_a_misspelt_word_is_quoted_and_near_words_are_told() -> None:
    rows = to_rows(_FIXED)
    rows[2][1] = "embre"
    rows[3][0] = "xxxxxxxx"
    error = _problem(_text(rows))
    assert 'row 3 has the word "embre"' in error.message
    assert 'row 4 has the word "xxxxxxxx"' in error.message
    assert "Row 3: ember" in error.hint
    assert "Row 4" not in error.hint


def test_a_message_tells_no_more_than_a_word_of_each_row() -> None:
    error = _problem(" ".join(f"secret{chr(97 + n)}word" for n in range(24)))
    assert error.message.count("secret") == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [rows[0][1:], *rows[1:]], "row 1 of the recovery key has 5 words"),
        (lambda rows: [*rows[:3], [*rows[3], "acid"]], "row 4 of the recovery key has 7 words"),
        (lambda rows: rows[:3], "has 24 words; 18 were given"),
        (lambda rows: [], "has 24 words; 0 were given"),
    ],
)
def test_words_that_are_missing(change: object, said: str) -> None:
    assert callable(change)
    assert said in _problem(_text(change(to_rows(_FIXED)))).message


def test_twenty_bytes_only() -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        to_rows(bytes(19))
