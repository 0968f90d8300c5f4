"""What a support bundle leaves out: secrets, users, paths, and patients, wherever they stand.

Values of the configuration are shown by a list of keys that are known to be harmless; whatever is
not on it is masked. Text (logs, what doctor found) loses every path, and every line in which a
patient of the catalogue is named.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import dcmvault
from dcmvault.config import secrets
from dcmvault.config.secrets import is_reference
from dcmvault.errors import ConfigurationError

MASK = "***"
PATH = "<path>"
LEFT_OUT = "<line left out: it may name a patient>"
#: Keys whose texts are words of ours, numbers, times or names of tables.
_HARMLESS = frozenset(
    {
        *("language", "privacy", "rate", "level", "levels", "strategy", "kind", "channel"),
        *("priority", "otherwise", "mode", "network", "object_lock", "checksums", "profile"),
        *("retrieve", "sidecar", "transcode", "security", "severity", "on_failure", "report"),
        *(
            "cron",
            "every",
            "at",
            "time_zone",
            "weekday",
            "days",
            "expected_every",
            "reverify_after",
        ),
        *("reverify_share", "older_than", "younger_than", "larger_than", "smaller_than", "events"),
        *("plan", "plans", "window", "region", "ae_title", "modality"),
        # Where we listen, and where peers find us.
        *("host", "report_host", "move_host", "commitment_host", "from", "coerced"),
    }
)
#: Keys whose texts are addresses, or names of places.
_ADDRESSES = frozenset(
    {"address", "sources", "destinations", "database", "collector", "endpoint", "url", "location"}
)
_PLAIN = re.compile(r"[A-Za-z0-9_.:*/,%+ -]*\Z")
_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+]*)://([^/?#]*)([^#?]*)(\?[^#]*)?(#.*)?\Z", re.DOTALL)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+]+):(.*)\Z", re.DOTALL)
_USER = re.compile(r"(?<!dicom)(?<!dicoms)(://)[^/?#@\s]*@")
_MAIL = re.compile(r"(?<![/\w.+-])[^\s@<>\"'=:/]+@(?=[A-Za-z0-9.-]+)")
#: A path, and the rest of what is quoted or of the line: paths may have blanks.
_ANY_PATH = re.compile(r"(?<![\w<>.:/])(?:~|[A-Za-z]:)?[/\\](?![\s/])[^\"”“\n]*")
_WORD = re.compile(r"[\w.-]+")
#: Shorter words are found in any text, and so are the numbers of years and ports.
_SHORTEST, _SHORTEST_NUMBER = 4, 6


def masked_address(text: str) -> str:
    """Write an address without a user, a password, a path or what is asked of a service.

    AE titles stay: they are labels, and what is looked at first when an association is refused.
    """
    if found := _URL.match(text):
        scheme, authority, path, query, _fragment = found.groups()
        if scheme not in ("dicom", "dicoms"):
            authority = f"{MASK}@{authority.rpartition('@')[2]}" if "@" in authority else authority
            query = "?..." if query else ""
        return f"{scheme}://{authority}{'/...' if path.strip('/') else ''}{query or ''}"
    if not text or _NAME.match(text):
        return text
    if found := _SCHEME.match(text):
        scheme, rest = found.groups()
        if "://" in rest:
            return f"{scheme}:{masked_address(rest)}"
        return f"{scheme}:{PATH}" if rest else f"{scheme}:"
    return PATH


def masked_configuration(value: object, key: str = "") -> object:
    """Copy a configuration without what is nobody's business: see the module."""
    if isinstance(value, Mapping):
        return {
            masked_address(str(name)): masked_configuration(inner, _key_within(key, str(name)))
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked_configuration(inner, key) for inner in value]
    if isinstance(value, str):
        return _masked_text(key, value)
    return value


def _key_within(outer: str, inner: str) -> str:
    """Say by which key a value counts: what stands in a table of free names, by the table's."""
    return outer if outer in ("levels", "web_tokens", "store") else inner


def _masked_text(key: str, value: str) -> str:
    if not value:
        return value
    if is_reference(value):
        return value.partition(":")[0] + ":" + MASK
    if key in _ADDRESSES:
        return masked_address(value)
    return value if key in _HARMLESS and _PLAIN.match(value) else MASK


def secret_values(value: object) -> Iterator[str]:
    """Find what the references of a configuration lead to, as far as that can be had here."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from secret_values(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from secret_values(inner)
    elif isinstance(value, str) and is_reference(value):
        try:
            yield secrets.resolve(value)
        except ConfigurationError:
            return


@dataclass(slots=True)
class TextMasks:
    """Masks text line by line."""

    state_folder: Path
    secrets: frozenset[str] = frozenset()
    #: What patients are called: in lower case, whole identifiers and the parts of names.
    patients: frozenset[str] = frozenset()
    _programs: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        folders = {
            str(Path(dcmvault.__file__).parent.parent),
            *(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")),
            sys.prefix,
            sys.base_prefix,
        }
        self._programs = tuple(sorted((one for one in folders if len(one) > 1), key=len)[::-1])

    def line(self, text: str) -> str:
        """Mask one line."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, MASK)
        for folder in self._programs:
            text = text.replace(f"{folder}/", "<python>/")
        text = text.replace(str(self.state_folder), "<state folder>")
        text = _ANY_PATH.sub(PATH, _USER.sub(rf"\1{MASK}@", text))
        text = _MAIL.sub(f"{MASK}@", text)
        return LEFT_OUT if self._names_a_patient(text) else text

    def text(self, text: str) -> str:
        """Mask every line."""
        return "\n".join(self.line(line) for line in text.split("\n"))

    def _names_a_patient(self, text: str) -> bool:
        words = _WORD.findall(text.lower())
        parts = (part for word in words for part in re.split(r"[_.-]", word))
        return not self.patients.isdisjoint([*words, *parts])


def words_of(patients: Iterable[str]) -> frozenset[str]:
    """Return what is searched for of patients' names and identifiers."""
    found = set()
    for text in patients:
        lowered = text.lower()
        found |= {*_WORD.findall(lowered), *re.split(r"[\W_]+", lowered)}
    return frozenset(
        word
        for word in found
        if len(word) >= (_SHORTEST_NUMBER if word.replace(".", "").isdigit() else _SHORTEST)
    )
