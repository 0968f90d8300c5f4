"""Write the reference of the command line from the commands: python -m scripts.command_line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from dcmvault import i18n
from dcmvault.cli.building import ExampleCommand
from dcmvault.cli.root import command_group

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "command-line.md"


def render() -> str:
    """Return the page."""
    i18n.use_language("en")
    group = command_group()
    lines = [
        "# The command line",
        "",
        "Written by `python -m scripts.command_line`; a test fails when it lags behind the code.",
        "What exit statuses mean: [exit-statuses.md](exit-statuses.md). What `--json` prints:",
        "[json.md](json.md). `dcmvault COMMAND --help` says the same, in English",
        "or Brazilian Portuguese.",
        "",
        "## Addresses",
        "",
        "A source or destination is named by one string, or by its name in the",
        "[configuration](configuration.md):",
        "",
        "| address | source | destination |",
        "|---|---|---|",
        "| `PATH` | a folder, or a library if `Database.sql` is in it | a folder |",
        "| `horos:PATH` | an OsiriX or Horos library | – (nothing is ever written into one) |",
        "| `dicom://CALLED@host:port?calling=AET` | a PACS that is queried | a PACS |",
        "| `dicoms://CALLED@host:port?calling=AET` | such a PACS over TLS (port 2762) | the same |",
        "| `dicomweb+https://host/root` | a DICOMweb service | a DICOMweb service |",
        "| `orthanc+https://host:port` | an Orthanc, by its own interface | – |",
        "| `listener:` | what was sent to us: [listener] of the configuration | – |",
        "| `vault:PATH`, `vault:s3://...`, `az://`, `gs://`, `sftp://` | a vault; with `#SNAPSHOT`"
        " behind it one of its snapshots | a vault |",
        "",
        "## For every command",
        "",
        *_options(group),
    ]
    for path, command in leaves(group, ("dcmvault",)):
        lines += ["", f"## {' '.join(path)}", "", *_command(path, command)]
    return "\n".join(lines) + "\n"


def leaves(
    group: click.Group, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command that does something, with the words by which it is called."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        elif command is not None:
            yield (*path, name), command


def _command(path: tuple[str, ...], command: click.Command) -> Iterator[str]:
    arguments = [
        parameter.make_metavar(click.Context(command))
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    ]
    yield f"    {' '.join([*path, *arguments, '[OPTIONS]'])}"
    yield ""
    yield command.help or ""
    yield ""
    yield from _options(command)
    examples = command.examples if isinstance(command, ExampleCommand) else ()
    for purpose, line in examples:
        yield ""
        yield f"{purpose}:"
        yield ""
        yield f"    {line}"


def _options(command: click.Command) -> Iterator[str]:
    yield "| option | meaning |"
    yield "|---|---|"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            names = ", ".join([*parameter.opts, *parameter.secondary_opts])
            default = parameter.default
            given = isinstance(default, str) and bool(parameter.show_default)
            text = (parameter.help or "") + (f" Default: `{default}`." if given else "")
            yield f"| `{names}`{_values(parameter)} | {text} |"
    yield "| `--help` | Show this message and exit. |"


def _values(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return " " + " · ".join(f"`{choice}`" for choice in option.type.choices)
    return f" {option.metavar or 'TEXT'}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
