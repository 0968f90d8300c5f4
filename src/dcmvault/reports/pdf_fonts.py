"""Fonts for any text in a PDF: whatever no font of these shows is written as its number.

Windows-1252 is shown by the fonts that every reader has. Other Latin, Greek and Cyrillic letters
come from Roboto, of which the used glyphs go into the file. For Chinese, Japanese and Korean the
file names one of Adobe's character collections, for which readers take a font of their machine.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.pdfmetrics import registerFont
from reportlab.pdfbase.ttfonts import TTFont

from dcmvault.reports.escaping import visible

_ROBOTO = "Roboto"
#: Character sets of which a collection has every character, with a font of that collection:
#: Adobe-Japan1, Adobe-Korea1, Adobe-GB1, Adobe-CNS1.
_COLLECTIONS = (
    ("shift_jis", "HeiseiKakuGo-W5"),
    ("euc_kr", "HYSMyeongJo-Medium"),
    ("gb2312", "STSong-Light"),
    ("big5", "MSung-Light"),
)
#: What shows nothing by itself.
_NO_FONT = ""


def runs(words: str) -> Iterator[tuple[str, str]]:
    r"""Cut foreign text into pieces, each with the font that has all of it; "" for the usual one.

    A character that none has is written as `\u05d0`.
    """
    text = unicodedata.normalize("NFC", visible(words))
    for kind, some in groupby(text, _kind):
        piece = "".join(some)
        if kind == "east":
            yield from _east(piece)
        elif kind == "none":
            yield _NO_FONT, _numbers(piece)
        else:
            yield (_roboto().fontName if kind == "roboto" else _NO_FONT), piece


def font_for(words: str, usual: str) -> tuple[str, str]:
    """Return one font for all of a text, and the text with numbers for what that has not."""
    pieces = list(runs(words))
    fonts = {font for font, piece in pieces if font} or {usual}
    if len(fonts) == 1 and all(font or piece.isascii() for font, piece in pieces):
        return fonts.pop(), "".join(piece for _font, piece in pieces)
    return usual, _in_cp1252(unicodedata.normalize("NFC", visible(words)))


def has_numbers(words: str) -> bool:
    """Say whether anything of a text is written as its number."""
    text = unicodedata.normalize("NFC", visible(words))
    return any(_kind(one) == "none" for one in text)


def _kind(character: str) -> str:
    if _is_in(character, "cp1252"):
        return "usual"
    # Without a glyph, or one that is put on the letter before by rules that are not applied here.
    if ord(character) in _roboto().face.charToGlyph and not unicodedata.combining(character):
        return "roboto"
    if any(_is_in(character, charset) for charset, _font in _COLLECTIONS):
        return "east"
    return "none"


def _east(piece: str) -> Iterator[tuple[str, str]]:
    """Take one collection for a whole word where one has all of it."""
    fitting = _first_with(piece)
    if fitting is not None:
        yield _collection(fitting), piece
        return
    for font, some in groupby(piece, _first_with):
        assert font is not None
        yield _collection(font), "".join(some)


def _first_with(piece: str) -> str | None:
    return next((font for charset, font in _COLLECTIONS if _is_in(piece, charset)), None)


def _is_in(text: str, charset: str) -> bool:
    try:
        text.encode(charset)
    except UnicodeEncodeError:
        return False
    return True


def _numbers(characters: Iterable[str]) -> str:
    return "".join(map(_number, characters))


def _number(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _in_cp1252(text: str) -> str:
    return text.encode("cp1252", "backslashreplace").decode("cp1252")


@cache
def _roboto() -> Any:
    font = TTFont(_ROBOTO, str(files("font_roboto") / "files" / "Roboto-Regular.ttf"))
    registerFont(font)
    return font


@cache
def _collection(name: str) -> str:
    registerFont(UnicodeCIDFont(name))
    return name
