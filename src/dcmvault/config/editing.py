"""Changes of the commented configuration that leave comments, order and spelling as they are.

Every edit is made in the text, in the way that disturbs it least, and the result is read again:
unless it then says exactly what it said before and what was asked for, the next way is tried.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from dcmvault.config.lines import line_of
from dcmvault.config.toml_text import read_toml
from dcmvault.config.toml_values import TomlValue, toml_key, toml_value
from dcmvault.errors import ConfigurationError
from dcmvault.i18n import gettext as _

_HEADER = re.compile(r"\s*\[{1,2}\s*([^\]#]+?)\s*\]{1,2}\s*(?:#.*)?$")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetKey:
    """Give a key a value; tables on the way to it are made."""

    path: Path
    value: TomlValue


@dataclass(frozen=True, slots=True)
class RemoveKey:
    """Take a key, or a table with all that is in it, out. One that is not there is no error."""

    path: Path


@dataclass(frozen=True, slots=True)
class AddTable:
    """Add a table such as `("sources", "main")`; ConfigurationError where there is one."""

    path: Path
    values: Mapping[str, TomlValue]


@dataclass(frozen=True, slots=True)
class PutTables:
    """Put TOML as somebody wrote it in the place of all tables of one name, such as `("rules",)`.

    The text has no other table; an empty one leaves none.
    """

    path: Path
    text: str


Edit = SetKey | RemoveKey | AddTable | PutTables


def edited(text: str, edits: Sequence[Edit]) -> str:
    """Make the edits, one after the other; `text` is valid TOML.

    ConfigurationError where one cannot be made: a table is there already, a key stands where a
    table is meant, or the text is written in a way that cannot be edited.
    """
    for edit in edits:
        text = _edited(text, edit)
    return text


def tables_text(text: str, name: str) -> str:
    """Return the tables of a name as they are written, with the comments above each."""
    lines = _lines(text)
    return "\n".join(lines[number] for number in _lines_of(lines, name)).strip("\n")


def _edited(text: str, edit: Edit) -> str:
    before = read_toml(text)
    wanted = _after(before, edit)
    if _bare(wanted) == _bare(before):
        return text
    for candidate in _candidates(text, before, edit):
        try:
            says = read_toml(candidate)
        except tomllib.TOMLDecodeError:
            continue
        if _bare(says) == _bare(wanted):
            return candidate
    raise ConfigurationError(
        _("“%s” cannot be changed here, as the configuration is written.") % ".".join(edit.path),
        hint=_("Change it in the file, with an editor."),
    )


def _after(before: Mapping[str, Any], edit: Edit) -> dict[str, Any]:
    """Return what the text is to say."""
    table: dict[str, Any] = copy.deepcopy(dict(before))
    if isinstance(edit, PutTables):
        table.pop(edit.path[0], None)
        return table | _of_fragment(edit)
    here = table
    *above, last = edit.path
    for part in above:
        if isinstance(edit, RemoveKey) and part not in here:
            return table
        here = here.setdefault(part, {})
        if not isinstance(here, dict):
            raise ConfigurationError(_("“%s” is no table.") % ".".join(edit.path[:-1]))
    if isinstance(edit, RemoveKey):
        here.pop(last, None)
        return table
    if isinstance(edit, AddTable):
        if last in here:
            raise ConfigurationError(
                _("There is a table “%s” already.") % ".".join(edit.path),
                hint=_("Choose another name."),
            )
        here[last] = read_toml(f"x = {toml_value(edit.values)}")["x"]
        return table
    here[last] = read_toml(f"x = {toml_value(edit.value)}")["x"]
    return table


def _bare(value: object) -> object:
    """Leave out empty tables: they say nothing; and tell 1, 1.0 and true apart."""
    if isinstance(value, dict):
        inner = {key: _bare(one) for key, one in value.items()}
        return {key: one for key, one in inner.items() if one != {}}
    if isinstance(value, list):
        return [_bare(one) for one in value]
    return (type(value).__name__, value)


def _candidates(text: str, before: Mapping[str, Any], edit: Edit) -> Iterator[str]:
    if isinstance(edit, PutTables):
        yield _with_fragment(text, edit)
        return
    if isinstance(edit, AddTable):
        yield from _with_table(text, edit)
    elif isinstance(edit, RemoveKey):
        if isinstance(_value_at(before, edit.path), dict):
            yield _without_tables(text, edit.path)
    elif _value_at(before, edit.path) is None:
        yield from _with_key(text, edit)
    if (whole := _by_document(text, edit)) is not None:
        yield whole
    if (line := line_of(text, edit.path)) and not isinstance(edit, AddTable):
        lines = _lines(text)
        key, equals, _value = lines[line - 1].partition("=")
        value = [] if isinstance(edit, RemoveKey) else [f"{key}{equals} {toml_value(edit.value)}"]
        yield _joined([*lines[: line - 1], *value, *lines[line:]])


def _value_at(table: object, path: Path) -> object:
    for part in path:
        if not isinstance(table, Mapping) or part not in table:
            return None
        table = table[part]
    return table


def _by_document(text: str, edit: SetKey | RemoveKey | AddTable) -> str | None:
    """Edit the parsed document, which keeps the comments that stand at what is replaced."""
    try:
        document: Any = tomlkit.parse(text)
        here: Any = document
        for part in edit.path[:-1]:
            if part not in here:
                if isinstance(edit, RemoveKey):
                    return None
                here[part] = tomlkit.table()
            here = here[part]
        if isinstance(edit, RemoveKey):
            here.remove(edit.path[-1])
        else:
            value = edit.values if isinstance(edit, AddTable) else edit.value
            here[edit.path[-1]] = tomlkit.parse(f"x = {toml_value(value)}")["x"]
        return str(tomlkit.dumps(document))
    except (TOMLKitError, AttributeError, KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class _Header:
    line: int
    path: Path


def _headers(lines: Sequence[str]) -> list[_Header]:
    """Find the lines that begin a table; a line of a text over several lines may look like one."""
    return [
        _Header(number, tuple(part.strip("\"'") for part in _PART.findall(found[1])))
        for number, line in enumerate(lines)
        if (found := _HEADER.match(line))
    ]


def _end_of(lines: Sequence[str], headers: Sequence[_Header], begin: int) -> int:
    """Return the line after a table that begins at a line: its keys, and comments close to them."""
    limit = min((one.line for one in headers if one.line > begin), default=len(lines))
    end = limit
    while end > begin + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip()[:1] == "#"):
        end -= 1
    while end < limit and lines[end].lstrip()[:1] == "#":
        end += 1
    return end


def _of_fragment(edit: PutTables) -> dict[str, Any]:
    """Read what is to be put; ConfigurationError for what is no TOML, or says something else."""
    name = edit.path[0]
    try:
        found = read_toml(edit.text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            _("This is not written as TOML: %s.") % error, hint=_("Mend that line.")
        ) from None
    if others := [key for key in found if key != name]:
        raise ConfigurationError(
            _("Only “%(name)s” can be changed here, not “%(other)s”.")
            % {"name": name, "other": others[0]},
            hint=_("Take the rest out of it."),
        )
    return found


def _lines_of(lines: Sequence[str], name: str) -> list[int]:
    """Return the numbers of the lines of all tables of a name, with comments close above."""
    headers = _headers(lines)
    found: set[int] = set()
    for header in headers:
        if header.path[:1] == (name,):
            begin = header.line
            while begin and lines[begin - 1].lstrip()[:1] == "#":
                begin -= 1
            found.update(range(begin, _end_of(lines, headers, header.line)))
    # What lies between two of them goes with them.
    numbers = sorted(found)
    for one, other in pairwise(numbers):
        if all(not line.strip() for line in lines[one + 1 : other]):
            found.update(range(one, other))
    return sorted(found)


def _with_fragment(text: str, edit: PutTables) -> str:
    """Write the tables where the first of them stood, else at the end."""
    lines = _lines(text)
    gone = _lines_of(lines, edit.path[0])
    place = gone[0] if gone else len(lines)
    block = _lines(edit.text.replace("\r\n", "\n").strip("\n"))
    above = [lines[number] for number in range(place)]
    below = [line for number, line in enumerate(lines) if number >= place and number not in gone]
    if block and above and above[-1].strip():
        above.append("")
    if block and below and below[0].strip():
        below.insert(0, "")
    return _joined([*above, *block, *below])


def _with_key(text: str, edit: SetKey) -> Iterator[str]:
    """Write a new key below those of its table."""
    lines = _lines(text)
    headers = _headers(lines)
    *above, last = edit.path
    row = f"{toml_key(last)} = {toml_value(edit.value)}"
    if not above:
        first = headers[0].line if headers else len(lines)
        end = first
        while end and (not lines[end - 1].strip() or lines[end - 1].lstrip()[:1] == "#"):
            end -= 1
        yield _joined([*lines[:end], row, *lines[end:]])
        yield _joined([row, *lines])
        return
    for header in headers:
        if header.path == tuple(above):
            limit = min((one.line for one in headers if one.line > header.line), default=len(lines))
            end = limit
            while end > header.line + 1 and lines[end - 1].lstrip()[:1] in ("", "#"):
                end -= 1
            yield _joined([*lines[:end], row, *lines[end:]])
            yield _joined([*lines[: header.line + 1], row, *lines[header.line + 1 :]])
    yield from _with_table(text, AddTable(tuple(above), {last: edit.value}))


def _with_table(text: str, edit: AddTable) -> Iterator[str]:
    """Write a new table below its family, or where examples of it stand as comments."""
    lines = _lines(text)
    headers = _headers(lines)
    block = [f"[{'.'.join(map(toml_key, edit.path))}]"]
    block += [f"{toml_key(key)} = {toml_value(one)}" for key, one in edit.values.items()]
    family = [one for one in headers if one.path[:1] == edit.path[:1]]
    places = [_end_of(lines, headers, family[-1].line)] if family else []
    example = re.compile(rf"#\s*\[{{1,2}}{re.escape(edit.path[0])}[.\]]")
    examples = [number for number, line in enumerate(lines) if example.match(line)]
    if examples and not family:
        end = examples[-1]
        while end < len(lines) and lines[end].lstrip()[:1] == "#":
            end += 1
        places.append(end)
    for place in (*places, len(lines)):
        above = [""] if place and lines[place - 1].strip() else []
        below = [""] if place < len(lines) and lines[place].strip() else []
        yield _joined([*lines[:place], *above, *block, *below, *lines[place:]])


def _without_tables(text: str, path: Path) -> str:
    """Leave out a table and those below it, but not what is said above the next one."""
    lines = _lines(text)
    headers = _headers(lines)
    gone: set[int] = set()
    for header in headers:
        if header.path[: len(path)] == path:
            end = _end_of(lines, headers, header.line)
            gone.update(range(header.line, end))
            if end < len(lines) and not lines[end].strip():
                gone.add(end)
    return _joined([line for number, line in enumerate(lines) if number not in gone])


def _lines(text: str) -> list[str]:
    """Split at line feeds only: TOML knows no other ends of lines."""
    return text.removesuffix("\n").split("\n") if text else []


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
