"""Matching of attributes by the keys of a query: PS3.4 section C.2.2.2.

Names match whatever their case and accents, as is common practice and allowed (C.2.2.2.1);
everything else is compared as it stands. Time is linear in what is compared, whatever the key.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from dcmvault.dicom.attributes import vr_of

_WILDCARD_VRS = frozenset(["AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"])
#: Texts in which a backslash is a character, and not what divides values (PS3.5 section 6.2).
_SINGLE_VRS = frozenset(["LT", "ST", "UT", "UR"])
_DIGITS = {"DA": 8, "TM": 12, "DT": 20}
_WILDCARDS = re.compile(r"[*?]")
_PUNCTUATION = re.compile(r"[.:]")
_OFFSET = re.compile(r"[+-]\d{4}$")
#: From UTC (PS3.5 section 6.2); what is more is a year, and the end of a range.
_LARGEST_OFFSET = "1400"

#: What it returns is true where a value matches.
Test = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Matcher:
    """Says which values of one attribute match a key.

    `test` takes a value as it is; of a name it takes what `folded_name` makes of it. `literal`
    stands in all names that match, folded: who has many of them looks for it first.
    """

    test: Test
    is_name: bool = False
    literal: str = ""

    def __call__(self, value: str) -> bool:
        """Say whether a value as it stands matches."""
        return bool(self.test(folded_name(value) if self.is_name else value))


def matcher(tag: int, key: str) -> Matcher | None:
    """Make the matcher of a key; None for one that matches all (C.2.2.2.3)."""
    vr = vr_of(tag)
    if not key or not key.strip("*"):
        return None
    if vr == "PN":
        literal = max(_WILDCARDS.split(folded_name(key)), key=len)
        return Matcher(_name_test(key), is_name=True, literal=literal)
    if vr in _SINGLE_VRS or "\\" not in key:
        return Matcher(_any_value(vr, _test_of(vr, key)))
    tests = [_test_of(vr, one) for one in key.split("\\") if one]
    if vr == "UI" or not any(mark in key for mark in "*?"):
        values = frozenset(filter(None, key.split("\\")))
        if vr not in _DIGITS and vr not in ("IS", "DS"):
            return Matcher(_any_value(vr, values.__contains__))
    return Matcher(_any_value(vr, lambda value: any(test(value) for test in tests)))


def folded_name(name: str) -> str:
    """Return a person's name as names are compared: without case, accents and empty components."""
    if not name.isascii():
        spread = unicodedata.normalize("NFKD", name)
        name = "".join(char for char in spread if not unicodedata.combining(char))
    folded = name.casefold()
    if "=" not in folded:
        return folded.rstrip("^ ").lstrip()
    return "=".join(group.rstrip("^ ").lstrip() for group in folded.split("="))


def _any_value(vr: str, test: Test) -> Test:
    """Match an attribute of several values where one of them matches."""
    if vr in _SINGLE_VRS:
        return test

    def any_matches(value: str) -> object:
        if "\\" not in value:
            return test(value)
        return any(test(one) for one in value.split("\\"))

    return any_matches


def _test_of(vr: str, key: str) -> Test:
    """Test one value by one key."""
    if vr in _DIGITS:
        return _time_test(vr, key)
    if vr in _WILDCARD_VRS and ("*" in key or "?" in key):
        return _wildcard(key)
    if vr in ("IS", "DS"):
        return _number_test(key)
    return key.__eq__


def _wildcard(key: str) -> Test:
    """Test by * and ? (C.2.2.2.4). Each stretch is found once, and never looked for again."""
    first, *middle = [_stretch(part) for part in re.split(r"\*+", key)]
    if not middle:
        pattern = first
    else:
        *inner, last = middle
        pattern = first + "".join(f"(?>.*?{part})" for part in inner if part) + ".*" + last
    # As it is: a call for each value of an archive costs as much as the comparison.
    return re.compile(pattern, re.DOTALL).fullmatch


def _stretch(part: str) -> str:
    return "".join("." if char == "?" else re.escape(char) for char in part)


def _name_test(key: str) -> Test:
    """Test a name, or one of its component groups (PS3.5 section 6.2.1)."""
    folded = folded_name(key)
    test = _wildcard(folded) if "*" in folded or "?" in folded else folded.__eq__

    def matches(name: str) -> object:
        return test(name) or ("=" in name and any(map(test, name.split("="))))

    return matches


def _number_test(key: str) -> Test:
    try:
        wanted = Decimal(key.strip())
    except InvalidOperation:
        return key.__eq__

    def equals(value: str) -> bool:
        try:
            return Decimal(value.strip()) == wanted
        except InvalidOperation:
            return False

    return equals


def _time_test(vr: str, key: str) -> Test:
    """Test a date or time by a single value or a range (C.2.2.2.1, C.2.2.2.5)."""
    digits = _DIGITS[vr]
    first, is_range, last = key.partition("-")
    if vr == "DT" and key.count("-") == 1 and _OFFSET.search(key) and last <= _LARGEST_OFFSET:
        first, is_range, last = key, "", ""
    low = _digits(first, vr).ljust(digits, "0")
    if not is_range:
        return lambda value: bool(value) and _digits(value, vr).ljust(digits, "0") == low
    high = _digits(last, vr).ljust(digits, "9")

    def within(value: str) -> bool:
        return bool(value) and low <= _digits(value, vr).ljust(digits, "0") <= high

    return within


def _digits(text: str, vr: str) -> str:
    """Return a date or time as the digits that it is compared by; zone offsets do not count."""
    text = text.strip()
    if vr == "DT":
        text = _OFFSET.sub("", text)
    return _PUNCTUATION.sub("", text)


def date_range(key: str) -> tuple[str, str] | None:
    """Return the first and the last date that a DA key can match, for a look-up; None: any."""
    if not key or "\\" in key or not set(key) <= set("0123456789.-"):
        return None
    first, is_range, last = key.partition("-")
    low, high = _digits(first, "DA").ljust(8, "0"), _digits(last, "DA").ljust(8, "9")
    return (low, high) if is_range else (low, low)
