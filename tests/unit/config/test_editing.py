"""Edits of the configuration: they say what was asked for, and leave the rest as it was."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmvault.config.editing import (
    AddTable,
    Edit,
    PutTables,
    RemoveKey,
    SetKey,
    edited,
    tables_text,
)
from dcmvault.config.template import render_template
from dcmvault.errors import ConfigurationError

_TEXT = """\
# Mine.
language = "en"  # as at home

# Where from.
[sources.main]
# The old machine.
address = "/studies"

# Where to.
[destinations.disk]
address = "/copies"
level = "proven"   # read back
# bandwidth = "2 MB/s"

# What goes where.
[plans.nightly]
sources = [
    "main",  # the only one
]
destinations = ["disk"]
"""


def _comments(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if "#" in line]


def test_a_value_is_replaced_and_its_comment_stays() -> None:
    text = edited(_TEXT, [SetKey(("destinations", "disk", "level"), "complete")])
    assert 'level = "complete"   # read back' in text
    assert text.replace('"complete"   #', '"proven"   #') == _TEXT


def test_a_new_key_stands_below_those_of_its_table() -> None:
    text = edited(_TEXT, [SetKey(("plans", "nightly", "max_studies"), 10)])
    assert text == _TEXT + "max_studies = 10\n"
    text = edited(_TEXT, [SetKey(("sources", "main", "include_other_files"), True)])
    assert 'address = "/studies"\ninclude_other_files = true\n\n# Where to.' in text
    text = edited(_TEXT, [SetKey(("privacy",), "ids")])
    assert text.startswith('# Mine.\nlanguage = "en"  # as at home\nprivacy = "ids"\n')


_RULES = """\
# What matters.
[[rules]]
name = "old CTs"
modality = "CT"
priority = "low"

[[rules]]
name = "ours"  # always
priority = "high"
"""


def test_tables_of_a_name_are_put_in_the_place_of_those_before() -> None:
    text = edited(_TEXT, [PutTables(("rules",), _RULES)])
    assert text == _TEXT + "\n" + _RULES
    assert tables_text(text, "rules") == _RULES.strip("\n")
    followed = text + '\n# Last.\n[hooks.post_run]\ncommand = ["x"]\n'
    other = '[[rules]]\r\nname = "one"\r\npriority = "low"'
    again = edited(followed, [PutTables(("rules",), other)])
    assert [one["name"] for one in tomllib.loads(again)["rules"]] == ["one"]
    assert again.startswith(_TEXT)
    assert "# Last." in again
    assert tables_text(again, "hooks").splitlines()[1:] == ["[hooks.post_run]", 'command = ["x"]']
    none = edited(followed, [PutTables(("rules",), "\n")])
    assert "rules" not in tomllib.loads(none)
    assert edited(followed, [PutTables(("rules",), tables_text(followed, "rules"))]) == followed


@pytest.mark.parametrize("text", ["[[rules]", "[hooks]\n", 'language = "pt-BR"\n[[rules]]\n'])
def test_what_is_put_says_nothing_else(text: str) -> None:
    with pytest.raises(ConfigurationError):
        edited(_TEXT, [PutTables(("rules",), text)])


def test_a_new_table_stands_with_its_family() -> None:
    text = edited(_TEXT, [AddTable(("sources", "other"), {"address": "/more"})])
    assert '"/studies"\n\n[sources.other]\naddress = "/more"\n\n# Where to.\n' in text
    assert _comments(text) == _comments(_TEXT)


def test_a_table_goes_and_what_is_said_of_the_next_one_stays() -> None:
    text = edited(_TEXT, [RemoveKey(("sources", "main"))])
    assert "# The old machine." not in text
    assert "# Where to.\n[destinations.disk]" in text
    assert edited(text, [RemoveKey(("sources", "main"))]) == text


def test_a_list_over_several_lines_is_replaced() -> None:
    text = edited(_TEXT, [SetKey(("plans", "nightly", "sources"), ["main", "other"])])
    assert tomllib.loads(text)["plans"]["nightly"]["sources"] == ["main", "other"]
    assert "# What goes where.\n[plans.nightly]" in text


@pytest.mark.parametrize(
    "written", ["2026-01-01", "07:30:00", "2026-01-01T07:30:00+00:00", "[2026-01-01]"]
)
def test_a_date_or_a_time_that_somebody_typed_is_written_as_one(written: str) -> None:
    value = tomllib.loads(f"x = {written}")["x"]
    text = edited(_TEXT, [SetKey(("plans", "nightly", "level"), value)])
    assert tomllib.loads(text)["plans"]["nightly"]["level"] == value


def test_in_the_template_examples_are_followed_by_what_is_added() -> None:
    template = render_template()
    text = edited(template, [AddTable(("sources", "main"), {"address": "/studies"})])
    assert _comments(text) == _comments(template)
    lines = text.split("\n")
    here = lines.index("[sources.main]")
    assert any("[sources.pacs]" in line for line in lines[here - 8 : here])
    assert edited(text, [RemoveKey(("sources", "main"))]).split() == template.split()


@pytest.mark.parametrize(
    "text",
    [
        'sources = {main = {address = "/studies"}}\n',
        'sources.main.address = "/studies"\n',
        '[sources]\nmain.address = "/studies"\n',
        '[sources."main"]\n"address" = "/studies"',
        "x = '''\n[sources.main]\n'''\n[sources.main]\r\naddress = '/studies'\r\n",
        '# \u2028 odd\n[sources.main]\naddress = "/a"\n[plans]\n[sources.second]\naddress = "/b"',
    ],
)
def test_whatever_way_it_is_written_it_is_edited_or_refused(text: str) -> None:
    edits: list[Edit] = [
        SetKey(("sources", "main", "address"), "/new"),
        SetKey(("sources", "main", "include_other_files"), False),
        AddTable(("sources", "more"), {"address": "/more"}),
        RemoveKey(("sources", "main", "include_other_files")),
    ]
    says = tomllib.loads(edited(text, edits))
    assert says["sources"]["main"] == {"address": "/new"}
    assert says["sources"]["more"] == {"address": "/more"}


def test_what_is_there_is_not_added_and_what_is_no_table_not_entered() -> None:
    with pytest.raises(ConfigurationError, match="already"):
        edited(_TEXT, [AddTable(("sources", "main"), {"address": "/x"})])
    with pytest.raises(ConfigurationError, match="no table"):
        edited(_TEXT, [SetKey(("language", "x"), 1)])


_names = st.sampled_from(["main", "disk", "a-b", "nightly", "x_1"])
_values: st.SearchStrategy[Any] = st.one_of(
    st.booleans(),
    st.integers(-1000, 1000),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.lists(st.text("ab[]#\"'\n", max_size=5), max_size=3),
    st.lists(st.fixed_dictionaries({"days": st.just("mon-fri"), "from": st.text(max_size=5)})),
)
_families = st.sampled_from(["sources", "destinations", "plans", "retry"])
_edits = st.one_of(
    st.builds(SetKey, st.tuples(_families, _names, _names), _values),
    st.builds(SetKey, st.tuples(_names), _values),
    st.builds(RemoveKey, st.tuples(_families, _names)),
    st.builds(RemoveKey, st.tuples(_families, _names, _names)),
    st.builds(AddTable, st.tuples(_families, _names), st.dictionaries(_names, _values, max_size=3)),
)


@settings(max_examples=60)
@given(st.lists(_edits, max_size=6))
def test_edits_mean_what_they_say_or_are_refused(edits: list[Edit]) -> None:
    """The text always says the same as a plain table to which the edits were made."""
    text, table = _TEXT, tomllib.loads(_TEXT)
    for edit in edits:
        try:
            text = edited(text, [edit])
        except ConfigurationError:
            continue
        assert not isinstance(edit, PutTables)
        here: Any = table
        for part in edit.path[:-1]:
            here = here.setdefault(part, {})
        if isinstance(edit, RemoveKey):
            here.pop(edit.path[-1], None)
        else:
            here[edit.path[-1]] = edit.values if isinstance(edit, AddTable) else edit.value
    assert _pruned(tomllib.loads(text)) == _pruned(table)
    assert "# Mine." in text


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        inner = {key: _pruned(one) for key, one in value.items()}
        return {key: one for key, one in inner.items() if one != {}}
    return value
