"""Write a manual page for each command into man/, in each language: python -m scripts.man_pages.

The wheel installs them into share/man. They are made of the same commands as `--help` and the
reference; nothing of them is kept in the repository.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from dcmvault import __version__, i18n
from dcmvault.cli.building import ExampleCommand
from dcmvault.cli.root import command_group
from dcmvault.i18n import gettext as _
from scripts.command_line import leaves

FOLDER = Path(__file__).resolve().parent.parent / "man"
#: Where man(1) looks for pages of a language; English has no folder of its own.
PLACES = {"en": Path("man1"), "pt-BR": Path("pt_BR") / "man1"}


def pages(language: str) -> Iterator[tuple[str, str]]:
    """Yield name and text (roff, man(7)) of every page."""
    i18n.use_language(language)
    group = command_group()
    commands = list(leaves(group, ("dcmvault",)))
    yield "dcmvault.1", _main_page(group, [path for path, _command in commands])
    for path, command in commands:
        yield f"{'-'.join(path)}.1", _page(path, command)


def _main_page(group: click.Group, commands: list[tuple[str, ...]]) -> str:
    lines = [
        *_head("dcmvault", _first_sentence(group)),
        '.SH "SYNOPSIS"',
        "\\fBdcmvault\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGS\\fR]",
        '.SH "DESCRIPTION"',
        *_paragraphs(group.help or ""),
        *_options(group),
        '.SH "COMMANDS"',
        *(f".br\n\\fB{_escaped('-'.join(path))}\\fR(1)" for path in commands),
        '.SH "ENVIRONMENT"',
        ".TP\n\\fBDCMVAULT_HOME\\fR\nstate folder",
        ".TP\n\\fBDCMVAULT_PASSPHRASE\\fR\npassphrase of a vault",
        ".TP\n\\fBDCMVAULT_RECOVERY_KEY\\fR\nwords of a recovery key",
        '.SH "EXIT STATUS"',
        "0, 1, 2, 3, 4, 5, 130: docs/reference/exit-statuses.md",
    ]
    return "\n".join(lines) + "\n"


def _page(path: tuple[str, ...], command: click.Command) -> str:
    arguments = [
        parameter.make_metavar(click.Context(command))
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    ]
    lines = [
        *_head("-".join(path), _first_sentence(command)),
        '.SH "SYNOPSIS"',
        f"\\fB{_escaped(' '.join(path))}\\fR {_escaped(' '.join([*arguments, '[OPTIONS]']))}",
        '.SH "DESCRIPTION"',
        *_paragraphs(command.help or ""),
        *_options(command),
    ]
    if isinstance(command, ExampleCommand) and command.examples:
        lines.append('.SH "EXAMPLES"')
        for purpose, line in command.examples:
            lines += [".PP", _escaped(purpose), ".PP", ".nf", f"    {_escaped(line)}", ".fi"]
    lines += ['.SH "SEE ALSO"', "\\fBdcmvault\\fR(1)"]
    return "\n".join(lines) + "\n"


def _head(name: str, about: str) -> list[str]:
    return [
        f'.TH "{name.upper()}" "1" "" "dcmvault {__version__}" "dcmvault"',
        '.SH "NAME"',
        f"{_escaped(name)} \\- {_escaped(about)}",
    ]


def _first_sentence(command: click.Command) -> str:
    first = (command.help or "").partition("\n\n")[0].partition(". ")[0]
    return " ".join(first.split()).removesuffix(".")


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


def _options(command: click.Command) -> Iterator[str]:
    yield '.SH "OPTIONS"'
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            names = ", ".join([*parameter.opts, *parameter.secondary_opts])
            values = "" if parameter.is_flag else f" \\fI{_escaped(_values(parameter))}\\fR"
            yield ".TP"
            yield f"\\fB{_escaped(names)}\\fR{values}"
            yield _escaped(" ".join((parameter.help or "").split()))
    yield ".TP"
    yield "\\fB\\-\\-help\\fR"
    yield _escaped(_("Show this message and exit."))


def _values(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(str(choice) for choice in option.type.choices)
    return option.metavar or "TEXT"


def _escaped(text: str) -> str:
    """Write text so that roff takes none of it for a request or a dash of its own (man(7))."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main() -> None:
    """Write them anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for language, place in PLACES.items():
        folder = FOLDER / place
        folder.mkdir(parents=True)
        for name, text in pages(language):
            folder.joinpath(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
