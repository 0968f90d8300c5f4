"""Whole words in descriptions: without accents and case, "stat" is not in "status"."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> tuple[str, ...]:
    """Cut a text into its words, folded: `TC_CRÂNIO-Stat` is tc, cranio, stat."""
    plain = unicodedata.normalize("NFKD", text)
    bare = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return tuple(_WORD.findall(bare.casefold()))


def contains(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """Say whether the words of a phrase stand somewhere in a row."""
    wanted, length = tuple(phrase), len(phrase)
    return bool(wanted) and any(
        tuple(words[start : start + length]) == wanted for start in range(len(words) - length + 1)
    )
