"""The group `dcmvault`: its commands in the order of the story, and the options for all."""

from __future__ import annotations

import click

from dcmvault import __version__
from dcmvault.cli.building import LazyGroup
from dcmvault.i18n import gettext as _


def N_(message: str) -> str:  # noqa: N802 - the usual name of the extraction mark
    """Mark a message for the catalogues; it is looked up when shown."""
    return message


_COMMANDS = {
    "demo": ("dcmvault.cli.commands.demo", N_("The whole story on real studies, in a minute.")),
    "backup": ("dcmvault.cli.commands.backup", N_("Back up a source and verify what arrived.")),
    "run": ("dcmvault.cli.commands.run", N_("Carry out a configured plan.")),
    "schedule": ("dcmvault.cli.commands.schedule", N_("When plans run by themselves.")),
    "listen": (
        "dcmvault.cli.commands.listen",
        N_("Take what is sent to us, and back it up as it comes."),
    ),
    "serve": (
        "dcmvault.cli.commands.serve",
        N_("Be the daemon; or let a vault answer as a PACS."),
    ),
    "worker": ("dcmvault.cli.commands.worker", N_("Work for an installation of several hosts.")),
    "web": ("dcmvault.cli.commands.web", N_("Who may come into the dashboard.")),
    "service": (
        "dcmvault.cli.commands.service",
        N_("Have the system run the daemon."),
    ),
    "verify": ("dcmvault.cli.commands.verify", N_("Verify copies again; nothing is sent.")),
    "compare": (
        "dcmvault.cli.commands.compare",
        N_("What two places hold, and where they differ."),
    ),
    "status": ("dcmvault.cli.commands.status", N_("What is protected where, and proven how.")),
    "top": ("dcmvault.cli.commands.top", N_("What goes on right now.")),
    "metrics": (
        "dcmvault.cli.commands.metrics",
        N_("Figures for monitoring systems, and what was measured."),
    ),
    "report": ("dcmvault.cli.commands.report", N_("The report of a run.")),
    "audit": (
        "dcmvault.cli.commands.audit",
        N_("Who did what, and proof that nothing of it was changed."),
    ),
    "manifest": (
        "dcmvault.cli.commands.manifest",
        N_("Write down what a place holds, signed, and hold it against another."),
    ),
    "safe-to-delete": (
        "dcmvault.cli.commands.safe_to_delete",
        N_("Which originals may be deleted, and why not yet."),
    ),
    "restore": (
        "dcmvault.cli.commands.restore",
        N_("Bring files back from a vault, bit for bit."),
    ),
    "snapshots": ("dcmvault.cli.commands.snapshots", N_("What a vault held, and when.")),
    "ls": ("dcmvault.cli.commands.ls", N_("The studies, series and instances in a vault.")),
    "find": ("dcmvault.cli.commands.find", N_("Find studies, or duplicates, in a vault.")),
    "diff": ("dcmvault.cli.commands.diff", N_("What changed between two snapshots.")),
    "forget": (
        "dcmvault.cli.commands.forget",
        N_("Forget snapshots of a vault by rules, or a study."),
    ),
    "vault": ("dcmvault.cli.commands.vault", N_("Look after a vault: check, repair, keys.")),
    "queue": ("dcmvault.cli.commands.queue", N_("Look at the work and steer it.")),
    "rules": ("dcmvault.cli.commands.rules", N_("Which studies come first, and why.")),
    "notify": (
        "dcmvault.cli.commands.notify",
        N_("Who is told of what happens, and whether that works."),
    ),
    "node": ("dcmvault.cli.commands.node", N_("Try the way to a destination.")),
    "doctor": ("dcmvault.cli.commands.doctor", N_("Find out what is wrong here.")),
    "state": ("dcmvault.cli.commands.state", N_("Where an installation keeps what it knows.")),
    "support-bundle": (
        "dcmvault.cli.commands.support_bundle",
        N_("What somebody who helps needs to know, without patient data."),
    ),
    "config": ("dcmvault.cli.commands.config", N_("Write, check and show the configuration.")),
    "completion": (
        "dcmvault.cli.commands.completion",
        N_("What a shell reads to complete commands."),
    ),
}


def command_group() -> click.Group:
    """Build the group in the language in use."""
    return LazyGroup(
        "dcmvault",
        text=_("Back up DICOM studies, and prove it.")
        + "\n\n"
        + _(
            "Sources and destinations are named by an address: a folder, an OsiriX or Horos "
            "library (its folder, or horos:PATH), a PACS (dicom://CALLED@host:port?calling=AET), "
            "or a name from the configuration."
        ),
        table=_COMMANDS,
        params=[
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_version,
                help=_("Show the version and exit."),
            ),
            click.Option(
                ["--lang"],
                type=click.Choice(["en", "pt-BR"]),
                help=_("Language of this command."),
            ),
            click.Option(
                ["--verbose"],
                is_flag=True,
                help=_("Show warnings on stderr that otherwise only the log has."),
            ),
        ],
    )


def _show_version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"dcmvault {__version__}")
        context.exit()
