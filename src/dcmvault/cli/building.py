"""What commands are built of: examples in the help, commands that load when called, options."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence

import click

from dcmvault.cli.audited import audited
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.job import Priority

#: Levels that can be asked for, weakest first.
LEVELS = tuple(level.word for level in Level if level is not Level.NONE)
PRIORITIES = tuple(priority.name.lower() for priority in Priority)


class ExampleCommand(click.Command):
    """A command whose help ends with examples: (what it does, the command line)."""

    def __init__(
        self,
        name: str,
        *,
        callback: Callable[..., int],
        text: str,
        params: Sequence[click.Parameter] = (),
        examples: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(name, callback=callback, params=list(params), help=text)
        self.examples = tuple(examples)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what is worth it is written down in the audit journal."""
        with audited(ctx) as ended:
            status = super().invoke(ctx)
            ended.exit_status = status if isinstance(status, int) else 0
            return status

    def get_short_help_str(
        self,
        limit: int = 45,  # noqa: ARG002 - click's signature; lines are wrapped, not cut
    ) -> str:
        """Return the first sentence of the help."""
        return (self.help or "").partition("\n\n")[0].partition(". ")[0].removesuffix(".") + "."

    def format_epilog(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the examples, each under what it does."""
        if not self.examples:
            return
        with formatter.section(_("Examples")):
            for purpose, line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}# {purpose}\n")
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class FamilyGroup(click.Group):
    """A group of related commands, listed in the order given."""

    def __init__(self, name: str, *, text: str, members: Sequence[click.Command]) -> None:
        super().__init__(name, help=text, no_args_is_help=False)
        for member in members:
            self.add_command(member)

    def list_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
    ) -> list[str]:
        """Return names in the order given."""
        return list(self.commands)


class LazyGroup(click.Group):
    """A group that knows its commands by module and short text, and imports what is called.

    `table` maps a name to (module with `command()`, untranslated short text).
    """

    def __init__(
        self,
        name: str,
        *,
        text: str,
        table: Mapping[str, tuple[str, str]],
        params: Sequence[click.Parameter] = (),
    ) -> None:
        super().__init__(name, help=text, params=list(params), no_args_is_help=False)
        self._table = dict(table)

    def list_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
    ) -> list[str]:
        """Return names in the order of the table: the way that people go."""
        return list(self._table)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        """Import the module of a command and build it."""
        if cmd_name not in self._table:
            return None
        module = importlib.import_module(self._table[cmd_name][0])
        command = module.command()
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Offer the nearest command for one that does not exist."""
        name = args[0]
        nearest = difflib.get_close_matches(name, list(self._table), n=1)
        if name not in self._table and nearest and not name.startswith("-"):
            ctx.fail(
                _("There is no command “%(name)s”. Did you mean “%(nearest)s”?")
                % {"name": name, "nearest": nearest[0]}
            )
        return super().resolve_command(ctx, args)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """List the commands without importing them."""
        with formatter.section(_("Commands")):
            formatter.write_dl([(name, _(short)) for name, (_module, short) in self._table.items()])


def json_option() -> click.Option:
    """Build --json."""
    return click.Option(
        ["--json", "as_json"],
        is_flag=True,
        help=_("Print one JSON object on stdout, and nothing else there."),
    )


def level_option(name: str) -> click.Option:
    """Build the option that asks for a level of evidence."""
    return click.Option(
        [name, "level"],
        type=click.Choice(LEVELS),
        help=_(
            "Evidence to reach. By default what the configuration says, else complete for a PACS "
            "and proven for a folder."
        ),
    )


def progress_option() -> click.Option:
    """Build --progress."""
    return click.Option(
        ["--progress"],
        type=click.Choice(["auto", "plain", "json", "none"]),
        default="auto",
        help=_(
            "How progress is shown on stderr: a bar on a terminal and lines elsewhere (auto), "
            "lines (plain), one JSON object per line (json), or not at all (none)."
        ),
    )


def level_of(word: str | None) -> Level | None:
    """Turn the word of the command line into a level."""
    return None if word is None else Level.from_word(word)


def priority_of(word: str) -> Priority:
    """Turn the word of the command line into a priority."""
    return Priority[word.upper()]
