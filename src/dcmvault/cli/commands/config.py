"""`dcmvault config`: write, check and show the configuration."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import click

from dcmvault.app.detecting import detect as detected
from dcmvault.cli.building import ExampleCommand, FamilyGroup, json_option
from dcmvault.cli.config_interview import Answers, interview
from dcmvault.cli.output import print_json, say
from dcmvault.config.effective import shown
from dcmvault.config.load import load_settings
from dcmvault.config.places import config_path, state_folder
from dcmvault.config.template import render_template, write_template
from dcmvault.config.week import minutes
from dcmvault.errors import ConfigurationError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.i18n import ngettext


def command() -> click.Command:
    """Build the group in the language in use."""
    return FamilyGroup(
        "config",
        text=_("Write, check and show the configuration."),
        members=[_init_command(), _check_command(), _show_command()],
    )


def _init_command() -> click.Command:
    return ExampleCommand(
        "init",
        callback=_init,
        text=_(
            "Write a commented configuration (mode 0600) into the state folder. On a terminal, "
            "and with neither --source nor --to, it asks for what it needs, and offers libraries "
            "of Horos and OsiriX and an Orthanc that it finds on this machine."
        ),
        params=[
            click.Option(
                ["--source"],
                multiple=True,
                metavar="ADDRESS",
                help=_("A source to write down. May be given several times."),
            ),
            click.Option(
                ["--to"],
                multiple=True,
                metavar="ADDRESS",
                help=_("A destination to write down. May be given several times."),
            ),
            click.Option(
                ["--detect"],
                is_flag=True,
                help=_("Write down the libraries and the Orthanc of this machine, too."),
            ),
            click.Option(
                ["--nightly-at"],
                default="",
                metavar=_("TIME"),
                help=_("Schedule a plan of all of them, every night at this time (02:00)."),
            ),
            click.Option(
                ["--pause-by-day"],
                is_flag=True,
                help=_("With --nightly-at: transfers pause from 8 to 18 on week days."),
            ),
            click.Option(
                ["--language"],
                type=click.Choice(["en", "pt-BR"]),
                default=None,
                help=_("Language to write down; by default the system's is used."),
            ),
            click.Option(
                ["--force"], is_flag=True, help=_("Replace a configuration that is there already.")
            ),
        ],
        examples=[
            (
                _("A Horos library and a PACS"),
                'dcmvault config init --source "~/Documents/Horos Data" '
                "--to dicom://ORTHANC@pacs:4242",
            )
        ],
    )


def _check_command() -> click.Command:
    return ExampleCommand(
        "check",
        callback=_check,
        text=_(
            "Read the configuration and name every error in it. Exit status: 4 if there is one."
        ),
        params=[json_option()],
        examples=[(_("After an edit"), "dcmvault config check")],
    )


def _show_command() -> click.Command:
    return ExampleCommand(
        "show",
        callback=_show,
        text=_("Show the configuration file, or with --effective what is in force."),
        params=[
            click.Option(
                ["--effective", "effective_"],
                is_flag=True,
                help=_("Show all values in force, defaults included; secrets as references."),
            ),
            json_option(),
        ],
        examples=[(_("With all defaults"), "dcmvault config show --effective")],
    )


def _init(
    source: tuple[str, ...],
    to: tuple[str, ...],
    detect: bool,
    nightly_at: str,
    pause_by_day: bool,
    language: str | None,
    force: bool,
) -> int:
    path = config_path(state_folder())
    answers = _answers(source, to, detect, nightly_at, pause_by_day)
    if answers is None:
        if path.exists() and not force:
            # Before anything is asked: nothing would come of the answers.
            write_template(path, "")
        answers = interview(detected())
    text = render_template(
        language=language or "",
        sources=answers.sources,
        destinations=answers.destinations,
        nightly_at=answers.nightly_at,
        pauses_by_day=answers.pauses_by_day,
    )
    write_template(path, text, force=force)
    say(str(path))
    return 0


def _answers(
    source: tuple[str, ...], to: tuple[str, ...], detect: bool, nightly_at: str, by_day: bool
) -> Answers | None:
    """Take what options say; None where a person is to be asked."""
    if nightly_at:
        try:
            minutes(nightly_at)
        except ValueError as error:
            raise UsageError(str(error)) from None
    if by_day and not nightly_at:
        raise UsageError(_("--pause-by-day is about what is scheduled: add --nightly-at 02:00."))
    if detect:
        source += tuple(place.address for place in detected())
    if nightly_at and not (source and to):
        raise UsageError(_("--nightly-at needs a source and a destination: --source, --to."))
    if not (source or to or detect) and sys.stdin.isatty():
        return None
    return Answers(source, to, nightly_at, by_day)


def _check(as_json: bool) -> int:
    path = config_path(state_folder())
    settings = load_settings(path)
    settings.database_url()
    if as_json:
        print_json({"path": str(path), "exists": path.exists(), "exit_status": 0})
        return 0
    if not path.exists():
        say(_("There is no configuration file; defaults are used. It would be: %s") % path)
        return 0
    sources, destinations = len(settings.sources), len(settings.destinations)
    say(
        _("%(path)s is sound: %(sources)s, %(destinations)s.")
        % {
            "path": path,
            "sources": ngettext("%d source", "%d sources", sources) % sources,
            "destinations": ngettext("%d destination", "%d destinations", destinations)
            % destinations,
        }
    )
    return 0


def _show(effective_: bool, as_json: bool) -> int:
    path = config_path(state_folder())
    if effective_ or as_json:
        values = shown(load_settings(path))
        if as_json:
            print_json({"path": str(path), "settings": values, "exit_status": 0})
        else:
            say(_toml(values))
        return 0
    try:
        say(path.read_text("utf-8").rstrip("\n"))
    except FileNotFoundError:
        say("# " + _("There is no configuration file; defaults are used. It would be: %s") % path)
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(
            _("The configuration file cannot be read."), hint=str(path)
        ) from None
    return 0


def _toml(values: Mapping[str, object], table: str = "") -> str:
    """Write tables as TOML."""
    lines = [
        f"{key} = {_toml_value(value)}"
        for key, value in values.items()
        if not isinstance(value, Mapping)
    ]
    for key, value in values.items():
        if isinstance(value, Mapping):
            name = f"{table}.{key}" if table else key
            scalars = any(not isinstance(inner, Mapping) for inner in value.values())
            lines += ["", f"[{name}]"] if scalars else []
            if inner := _toml(value, name):
                lines.append(inner)
    return "\n".join(lines)


def _toml_value(value: object) -> str:
    """Write a text, a number, a truth value, or a list of these or of tables of them."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
