"""Words and figures for people: gettext catalogues in English and Brazilian Portuguese.

Messages are written in English in the code and looked up when they are shown, so a process can
change its language at any time. A missing catalogue means English, never an error.
"""

from __future__ import annotations

import gettext as _gettext
import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path

#: Languages with a catalogue, as gettext names them; the first is the language of the code.
LANGUAGES = ("en", "pt_BR")
#: The gettext domain, and where its compiled catalogues lie.
DOMAIN = "dcmvault"
LOCALE_FOLDER = Path(__file__).parent / "locale"

#: A value in a sentence of the domain: {0}, {1} ...
_VALUE = re.compile(r"\{[0-9]\}")
_SENTENCE_END = re.compile(r"[.?!] ")
#: A sentence may quote one that quotes one.
_DEEPEST_QUOTE = 3

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


class _Chosen:
    """The language in use; its catalogue is read when the first message is looked up."""

    def __init__(self) -> None:
        self.language = ""
        self.catalogue: _gettext.NullTranslations | None = None
        self.patterns: list[tuple[re.Pattern[str], str]] | None = None

    def choose(self, language: str) -> None:
        self.language = language
        self.catalogue = self.patterns = None

    def messages(self) -> _gettext.NullTranslations:
        if self.catalogue is None:
            if not self.language:
                self.language = language_from_environment(os.environ)
            self.catalogue = _gettext.translation(
                DOMAIN, LOCALE_FOLDER, languages=[self.language], fallback=True
            )
        return self.catalogue

    def translated(self, text: str, depth: int = 0) -> str:
        """Translate a sentence, what is quoted inside it, and what stands after it."""
        translation = self.messages().gettext(text)
        if translation != text or depth > _DEEPEST_QUOTE:
            return translation
        for end in _SENTENCE_END.finditer(text):
            # A cause and what to do about it.
            first = text[: end.end()].rstrip()
            if (known := self.messages().gettext(first)) != first:
                return f"{known} {self.translated(text[end.end() :], depth + 1)}"
        if self.patterns is None:
            self.patterns = list(_patterns(LOCALE_FOLDER, self.language))
        for pattern, template in self.patterns:
            if found := pattern.fullmatch(text):
                values = [self.translated(value, depth + 1) for value in found.groups()]
                return self.messages().gettext(template).format(*values)
        # Who it is about stands first: "ORTHANC at pacs:104: nothing listens on port 104".
        subject, colon, rest = text.partition(": ")
        return f"{subject}{colon}{self.translated(rest, depth + 1)}" if colon else text


def _patterns(folder: Path, language_: str) -> Iterator[tuple[re.Pattern[str], str]]:
    """Yield a pattern for every sentence with values, the one with most words first."""
    path = folder / language_ / "LC_MESSAGES" / f"{DOMAIN}.mo"
    templates = [text for text in _originals(path) if _VALUE.search(text)]
    for template in sorted(templates, key=lambda text: len(_VALUE.sub("", text)), reverse=True):
        literals = [re.escape(part) for part in _VALUE.split(template)]
        yield re.compile("(.+?)".join(literals), re.DOTALL), template


def _originals(path: Path) -> Iterator[str]:
    """Yield the English of a compiled catalogue (GNU gettext, The Format of GNU MO Files)."""
    content = path.read_bytes()
    order = "<" if content[:4] == b"\xde\x12\x04\x95" else ">"
    count, table = struct.unpack_from(f"{order}II", content, 8)
    for number in range(count):
        length, start = struct.unpack_from(f"{order}II", content, table + 8 * number)
        yield content[start : start + length].decode("utf-8")


_process = _Chosen()
#: What this thread speaks for a while, where that is another language than the process's.
_for_a_while: ContextVar[_Chosen | None] = ContextVar("dcmvault_language", default=None)


def _current() -> _Chosen:
    return _for_a_while.get() or _process


def normalise_language(code: str) -> str:
    """Return the member of LANGUAGES that `code` (pt, pt-BR, pt_PT.UTF-8 ...) asks for, or ''."""
    primary = code.replace("-", "_").split("_")[0].split(".")[0].lower()
    return {"pt": "pt_BR", "en": "en", "c": "en", "posix": "en"}.get(primary, "")


def language_from_environment(environ: Mapping[str, str], configured: str = "") -> str:
    """Choose a language: DCMVAULT_LANGUAGE, then `configured`, then the locale, then English.

    Of the locale variables the first that is set decides (POSIX: LC_ALL, LC_MESSAGES, LANG).
    """
    for code in (environ.get("DCMVAULT_LANGUAGE", ""), configured):
        if language := normalise_language(code):
            return language
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if code := environ.get(variable, ""):
            return normalise_language(code) or LANGUAGES[0]
    return LANGUAGES[0]


def use_language(code: str) -> None:
    """Show everything from now on in the language of `code`; ValueError for one we lack."""
    language = normalise_language(code)
    if not language:
        msg = f"no catalogue for language {code!r}"
        raise ValueError(msg)
    _process.choose(language)


@lru_cache(maxsize=len(LANGUAGES))
def _speaker(language: str) -> _Chosen:
    """Keep what a language needs: who answers many in turn reads each catalogue once."""
    speaker = _Chosen()
    speaker.choose(language)
    return speaker


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """Speak the language of `code` inside, in this thread only; empty or unknown: as before."""
    language = normalise_language(code)
    if not language:
        yield
        return
    token = _for_a_while.set(_speaker(language))
    try:
        yield
    finally:
        _for_a_while.reset(token)


def language() -> str:
    """Return the language in use, a member of LANGUAGES."""
    _current().messages()
    return _current().language


def gettext(message: str) -> str:
    """Translate a message."""
    return _current().messages().gettext(message)


def sentence(text: str) -> str:
    """Translate a sentence of the domain: English, stored as it was said, its values in place.

    What is not known stays as it is: nothing is lost where a catalogue lags behind.
    """
    if language() == LANGUAGES[0] or not text:
        return text
    return _current().translated(text)


def ngettext(singular: str, plural: str, number: int) -> str:
    """Translate a message that depends on a number."""
    return _current().messages().ngettext(singular, plural, number)


def format_number(value: float, digits: int = 0) -> str:
    """Write a number with the separators of the language in use: 1,234.5 or 1.234,5."""
    text = f"{value:,.{digits}f}"
    if language() == "pt_BR":
        return text.translate(str.maketrans(",.", ".,"))
    return text


def format_bytes(size: float) -> str:
    """Write a size in bytes with a decimal unit (1 kB = 1000 B), three digits or so."""
    value = float(size)
    for unit in _BYTE_UNITS:
        # From 999.5 on it would be rounded to 1,000 of the smaller unit.
        if value < 999.5 or unit == _BYTE_UNITS[-1]:
            break
        value /= 1000
    digits = 0 if unit == "B" or value >= 99.95 else 1
    return f"{format_number(value, digits)} {unit}"


def format_duration(seconds: float) -> str:
    """Write a duration: 0.4 s, 12 s, 3 min 05 s, 2 h 07 min, 3 d 04 h."""
    if seconds < 9.95:
        return f"{format_number(max(seconds, 0.0), 1)} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{whole} s"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min {rest:02d} s"
    days, hours = divmod(hours, 24)
    if not days:
        return f"{hours} h {minutes:02d} min"
    return f"{format_number(days)} d {hours:02d} h"
