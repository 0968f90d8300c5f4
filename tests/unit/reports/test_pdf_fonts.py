"""Names in a PDF are shown in their own letters, or visibly as numbers; never wrong."""

from __future__ import annotations

import unicodedata

import pytest

from dcmvault.reports import pdf_fonts, pdf_parts


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Müller^Jörg", [("", "Müller^Jörg")]),
        ("Łukasz", [("Roboto", "Ł"), ("", "ukasz")]),
        ("Иван", [("Roboto", "Иван")]),
        ("Αθήνα", [("Roboto", "Αθήνα")]),
        ("山田^やまだ", [("HeiseiKakuGo-W5", "山田"), ("", "^"), ("HeiseiKakuGo-W5", "やまだ")]),
        ("김철수", [("HYSMyeongJo-Medium", "김철수")]),
        ("张伟", [("STSong-Light", "张伟")]),
        ("王小明 张", [("HeiseiKakuGo-W5", "王小明"), ("", " "), ("STSong-Light", "张")]),
        ("דוד", [("", "\\u05d3\\u05d5\\u05d3")]),
        ("a\U0001f44d", [("", "a"), ("", "\\U0001f44d")]),
        # What looks like another name in a terminal does not in a PDF, either.
        ("\u202eabc", [("", "\\u202eabc")]),
    ],
)
def test_each_piece_has_a_font_that_has_it(name: str, expected: list[tuple[str, str]]) -> None:
    assert list(pdf_fonts.runs(name)) == expected
    assert pdf_fonts.has_numbers(name) == any("\\u" in p.lower() for _f, p in expected[-1:]) or (
        name.startswith("\u202e")
    )


def test_letters_that_come_in_parts_are_put_together() -> None:
    parts = unicodedata.normalize("NFD", "Müller Йозеф")
    assert "".join(piece for _font, piece in pdf_fonts.runs(parts)) == "Müller Йозеф"


@pytest.mark.parametrize("word", ["Иван", "山田太郎", "김철수", "דוד", "Łukasz 山田 <b>&"])
def test_every_part_of_a_page_takes_any_name(word: str) -> None:
    """Short and long, in narrow columns, in the title and at the foot; equal pages are equal."""
    story = [
        pdf_parts.text(word, pdf_parts.STRONG),
        pdf_parts.facts([(word, word * 300)]),
        pdf_parts.table([word], [[pdf_parts.text(word * 200, pdf_parts.CODE)]], [0.1]),
    ]
    paper = pdf_parts.built(story, word, word)
    assert paper.startswith(b"%PDF-")
    for font, _piece in pdf_fonts.runs(word):
        assert font.encode() in paper


def test_that_numbers_stand_for_letters_is_said_once_and_only_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    real = pdf_parts.text

    def listening(words: str, *more: object) -> object:
        told.append(words)
        return real(words, *more)

    def page(name: str) -> list[str]:
        told.clear()
        rows = [[real(name)], [real(name)]]
        pdf_parts.built([pdf_parts.table(["Name"], rows, [1])], "title", "footer")
        return [words for words in told if "number" in words]

    monkeypatch.setattr(pdf_parts, "text", listening)
    assert page("山田") == []
    assert len(page("דוד")) == 1
