"""The printed recovery key: 20 bytes as four rows of words, each with a check (format page, 5)."""

from __future__ import annotations

import hashlib
import re
from difflib import get_close_matches

from dcmvault.errors import VaultLockedError

ENTROPY_BYTES = 20
ROWS = 4
WORDS_PER_ROW = 6
_BYTES_PER_ROW = 5
_LETTERS = re.compile(r"[^\W\d_]+")
_HINT = "Each row has six words; the last of them checks the others."

_LIST = """
acid acorn actor adult agent album alert alley amber angle ankle apple april arena armor arrow
aspen atlas attic audio autumn award bacon badge bagel baker bamboo banjo barn basin beach
beaver bench berry bike birch bison blanket blue board bonus border bottle bowl brain brick
bridge bronze brush bucket bullet bunny butter cabin cactus camel candle canyon carbon castle
cave cedar chalk cherry chess chin cider circus citrus clay cliff cloud clover coast cobra
coffee comet copper coral cotton coyote cradle crane crystal cube cup curtain daisy dance dawn
deer delta desert diamond dinner dolphin donkey door dragon dream drum duck dune eagle earth
echo elbow elder elm ember engine envelope falcon farm feather fence fern ferry fiddle field
finger fire flag flute foam forest fossil fountain fox frame frog fruit galaxy garden garlic
gate ghost giant ginger glass globe glove goat gold goose grape gravel guitar hammer harbor hat
hazel heart hedge helmet hero hill honey hook horse hotel house iceberg igloo ink iris iron
island ivory jacket jaguar jar jelly jewel jungle kayak kettle key king kite kitten koala ladder
lake lamp lantern laser leaf lemon lentil library light lily lion lizard lobster lotus lunar
magnet mango maple marble market meadow melon meteor milk mint mirror monkey moon moss mountain
mouse museum nail napkin needle nest nickel noodle north nut oak oasis ocean olive onion opal
orange orbit orchid otter oven owl oyster paddle palm panda paper parrot peach pearl pencil
pepper piano pigeon pillow pine planet plum pocket poem polar pond pony
"""
#: Word b stands for byte b. The format fixes this list for ever.
WORDS = tuple(_LIST.split())
_BYTE_OF = {word: value for value, word in enumerate(WORDS)}


def to_rows(entropy: bytes) -> list[list[str]]:
    """Return the words to print: four rows of six; ValueError for other than 20 bytes."""
    if len(entropy) != ENTROPY_BYTES:
        message = f"a recovery key has {ENTROPY_BYTES} bytes"
        raise ValueError(message)
    rows = []
    for row in range(ROWS):
        part = entropy[row * _BYTES_PER_ROW : (row + 1) * _BYTES_PER_ROW]
        rows.append([WORDS[value] for value in (*part, _check(row, part))])
    return rows


def from_words(text: str) -> bytes:
    """Return the 20 bytes of a recovery key as somebody typed it.

    VaultLockedError says which rows are wrong and, of a word that is not in the list, which words
    it may have been. Its message quotes at most one word of each row.
    """
    words = [word.lower() for word in _LETTERS.findall(text)]
    if len(words) != ROWS * WORDS_PER_ROW:
        raise VaultLockedError(_count_problem(text, len(words)), hint=_HINT)
    entropy, problems, hints = b"", [], []
    for row in range(ROWS):
        part = words[row * WORDS_PER_ROW : (row + 1) * WORDS_PER_ROW]
        unknown = [word for word in part if word not in _BYTE_OF]
        if unknown:
            problems.append(f'row {row + 1} has the word "{unknown[0]}", which no key has')
            near = get_close_matches(unknown[0], WORDS, n=3)
            hints += [f"Row {row + 1}: {', '.join(near)}?"] if near else []
            continue
        *values, check = (_BYTE_OF[word] for word in part)
        if check != _check(row, bytes(values)):
            problems.append(f"row {row + 1} has a wrong word, or words in another order")
        entropy += bytes(values)
    if problems:
        raise VaultLockedError(
            f"the recovery key is not as it was printed: {'; '.join(problems)}",
            hint=" ".join(hints) or _HINT,
        )
    return entropy


def _check(row: int, part: bytes) -> int:
    return hashlib.sha256(bytes([row]) + part).digest()[0]


def _count_problem(text: str, count: int) -> str:
    lines = [found for line in text.splitlines() if (found := len(_LETTERS.findall(line)))]
    if len(lines) == ROWS:
        row, found = next((n, c) for n, c in enumerate(lines, 1) if c != WORDS_PER_ROW)
        return f"row {row} of the recovery key has {found} words; it should have {WORDS_PER_ROW}"
    return f"a recovery key has {ROWS * WORDS_PER_ROW} words; {count} were given"
