"""What documents tell people to type: every command is one, and marked blocks are carried out.

A fenced block after the comment `<!-- carried out -->` runs in one home for each page, with the
blocks before it, and prints what the page shows (`...` stands for anything).
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.docs.test_documents import DOCUMENTS, ROOT

from dcmvault.cli.root import command_group
from dcmvault.testing.dicom_files import make_study

_COMMAND = re.compile(
    r"^(?:    |\$ )(?:sudo )?(?:[A-Z_]+=(?:\"[^\"]*\"|\S+) )*dcmvault ((?!\[OPTIONS\]).*)$"
)
#: What ends a command in a line: comments, remarks set apart, pipes and redirections of the shell.
_ENDS = re.compile(r"\s(?:\s\s|#|\||>|2>|&&|&$|;).*")
#: Lines that show a form, not a command.
_FORMS = re.compile(r"\.\.\.|\[[A-Z-]|\||–|·|COMMAND|LEVEL")
_MARKED = re.compile(r"<!-- carried out -->\n```console\n(.*?)```", re.DOTALL)


def _lines(path: Path) -> Iterator[str]:
    if path.name in ("CHANGELOG.md", "command-line.md"):
        return  # its examples are the commands' own: `test_the_commands_own_examples`
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := _COMMAND.match(line):
            command = _ENDS.sub("", found[1])
            if not _FORMS.search(command):
                yield command


def commands_of(path: Path) -> list[str]:
    """List the commands of a page in their order, without `dcmvault`."""
    return list(_lines(path))


#: A command that is named in a sentence; forms with words in capitals are none.
_IN_A_SENTENCE = re.compile(r"`dcmvault ((?!\[)[^`]+)`")


def _in_sentences(path: Path) -> Iterator[str]:
    if path.name in ("CHANGELOG.md", "command-line.md", "json.md"):
        return
    for found in _IN_A_SENTENCE.findall(path.read_text(encoding="utf-8")):
        line = _ENDS.sub("", " ".join(found.split()))
        if not _FORMS.search(line):
            yield line


COMMANDS = sorted({line for path in DOCUMENTS for line in _lines(path)})
NAMED = sorted({line for path in DOCUMENTS for line in _in_sentences(path)})


def _parse(line: str) -> None:
    """Have the command line read it; nothing is run."""
    arguments = [word for word in shlex.split(line) if word]
    context = click.Context(command_group(), info_name="dcmvault")
    command: click.Command = command_group()
    with context:
        while isinstance(command, click.Group):
            while arguments and arguments[0] in ("--lang", "--verbose"):
                arguments = arguments[2 if arguments[0] == "--lang" else 1 :]
            if not arguments or arguments[0] in ("--help", "--version"):
                return
            name, found, arguments = command.resolve_command(context, arguments)
            assert found is not None, name
            command = found
        if "--help" not in arguments:
            command.make_context(command.name, arguments, parent=context)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_in_a_document_is_one(line: str) -> None:
    _parse(line)


def test_every_command_that_a_sentence_names_is_one() -> None:
    """Arguments may be left out there."""
    assert len(NAMED) > 40
    for line in NAMED:
        with contextlib.suppress(click.MissingParameter):
            _parse(line)


def _own_examples(group: click.Group) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _own_examples(command)
        else:
            for _purpose, line in getattr(command, "examples", ()):
                yield line


def test_the_commands_own_examples() -> None:
    lines = [_ENDS.sub("", line) for line in _own_examples(command_group())]
    assert len(lines) > 80
    for line in lines:
        if found := _COMMAND.match(f"$ {line}"):
            _parse(found[1])


CARRIED_OUT = [path for path in DOCUMENTS if _MARKED.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", CARRIED_OUT, ids=lambda path: path.stem)
def test_marked_blocks_do_what_the_page_shows(path: Path, tmp_path: Path) -> None:
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    make_study(home / "studies", key="documented", instances=3)
    program = programs / "dcmvault"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dcmvault "$@"\n')
    program.chmod(0o755)
    environment = {
        "HOME": str(home),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }
    for block in _MARKED.findall(path.read_text(encoding="utf-8")):
        for typed, shown in _steps(block):
            done = subprocess.run(
                ["bash", "-c", typed],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=home,
                env=environment,
                timeout=240,
            )
            if kept := re.match(r"export ([A-Z_]+)=(.*)", typed):
                environment[kept[1]] = shlex.split(kept[2])[0]
            printed = [line.rstrip() for line in done.stdout.splitlines()]
            assert _matches(shown, printed), (typed, done.stdout)


def _steps(block: str) -> Iterator[tuple[str, list[str]]]:
    """Yield what is typed after each `$ `, and the lines that it shows."""
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        typed, *shown = step.rstrip("\n").split("\n")
        yield typed, [line.rstrip() for line in shown]


def _matches(shown: list[str], printed: list[str]) -> bool:
    """Say whether lines are as shown; with none shown, anything may be printed."""
    pattern = "\n".join(re.escape(line).replace(re.escape("..."), ".*") for line in shown)
    return not shown or re.fullmatch(pattern, "\n".join(printed), re.DOTALL) is not None


def test_there_are_blocks_that_are_carried_out() -> None:
    assert CARRIED_OUT, ROOT
