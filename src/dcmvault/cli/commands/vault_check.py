"""`dcmvault vault check`: is everything there, every byte right, and nothing older than it was."""

from __future__ import annotations

import click

from dcmvault.app.vault_care import CareRequest, Checked, check_vault
from dcmvault.cli.building import ExampleCommand, json_option, progress_option
from dcmvault.cli.interrupts import stoppable
from dcmvault.cli.output import print_json, say
from dcmvault.cli.phase_progress import phases_shown
from dcmvault.cli.session import current_settings
from dcmvault.cli.vault_findings import (
    command_word,
    damage,
    figures,
    lost_past,
    result_object,
    say_findings,
    say_how_to_go_on_without,
    say_studies,
    tell_of_catalogue,
    touched,
)
from dcmvault.cli.vault_views import vault_argument
from dcmvault.config.places import state_folder
from dcmvault.errors import UsageError
from dcmvault.i18n import format_duration, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.reports.vault_words import soundness
from dcmvault.vault.check import read_subset
from dcmvault.vault.findings import CheckResult, Finding


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "check",
        callback=_check,
        text=_(
            "Check VAULT; nothing in it is changed.\n\n"
            "By default every object and every copy is looked for, sizes are compared, and every "
            "part of every file must be in a pack that is there. Where this machine has backed up "
            "into the vault, the snapshots that it remembers must be there, too: a vault that was "
            "put back to an older state is found out. Exit status: 0 if the vault is sound, 3 if "
            "anything is damaged or gone, 5 if it cannot be opened."
        ),
        params=[
            vault_argument(),
            click.Option(
                ["--read-data"],
                is_flag=True,
                help=_("Also read every byte of every copy, and open every part of every file."),
            ),
            click.Option(
                ["--read-data-subset"],
                metavar="PART",
                default="",
                help=_("The same for some of the packs: a share, as 5%, or one part, as 3/10."),
            ),
            click.Option(
                ["--keyless"],
                is_flag=True,
                help=_(
                    "Without any key: every byte of every copy against its name, and the "
                    "signatures. Nothing is opened."
                ),
            ),
            click.Option(
                ["--head"],
                metavar="ID",
                default="",
                help=_("A snapshot that must be there, or forgotten: as you wrote it down once."),
            ),
            json_option(),
            progress_option(),
        ],
        examples=[
            (_("Is all of it there?"), "dcmvault vault check vault:/backup"),
            (_("A tenth of it every night"), "dcmvault vault check disk --read-data-subset 3/10"),
            (
                _("On the machine that keeps it, without a key"),
                "dcmvault vault check vault:/srv/vault --keyless",
            ),
        ],
    )


def _check(
    vault: str,
    read_data: bool,
    read_data_subset: str,
    keyless: bool,
    head: str,
    as_json: bool,
    progress: str,
) -> int:
    if sum((read_data, bool(read_data_subset), keyless)) > 1:
        raise UsageError(
            _("Ask for one of --read-data, --read-data-subset and --keyless."),
            hint=_("Without a key every byte is read anyway."),
        )
    subset = read_subset(read_data_subset) if read_data_subset else None
    request = CareRequest(vault, read_data, subset, keyless, head)
    settings = current_settings()
    with stoppable() as stop, phases_shown(progress) as told:
        checked = check_vault(settings, state_folder(), request, told, stop)
    if as_json:
        print_json(_object(checked))
        return checked.exit_status
    _say(vault, checked)
    tell_of_catalogue(checked.catalogue_trouble)
    return checked.exit_status


def _say(vault: str, checked: Checked) -> None:
    result = checked.result
    if result.is_sound:
        say(click.style(soundness(result), fg="green", bold=True))
    else:
        say(click.style(_verdict(damage(result)), fg="red", bold=True))
    say("  " + ", ".join([*figures(result), format_duration(checked.duration_s)]))
    if checked.known_snapshots and not lost_past(result):
        remembered = ngettext(
            "The snapshot that this machine remembers is there, or was forgotten on purpose.",
            "All %(count)s snapshots that this machine remembers are there, or were forgotten on"
            " purpose.",
            checked.known_snapshots,
        )
        say("  " + remembered % {"count": format_number(checked.known_snapshots)})
    say_findings(result.findings)
    if not result.is_sound:
        say_studies(_("Studies that need what is damaged"), touched(result.findings))
        if checked.refuted:
            say()
            say(_refuted(checked.refuted))
        say()
        _say_what_to_do(vault, result)
    elif result.level == "structure":
        say("→ " + _("With --read-data every byte is read, too."))


def _refuted(count: int) -> str:
    copies = ngettext(
        "%s copy that this machine counted as held there is not counted any more; the next backup "
        "looks at it first.",
        "%s copies that this machine counted as held there are not counted any more; the next "
        "backup looks at them first.",
        count,
    )
    return copies % format_number(count)


def _verdict(wrong: list[Finding]) -> str:
    if not wrong:
        return _("The vault is not what it was: something that it held is gone.")
    things = ngettext(
        "The vault is damaged: %s thing is wrong.",
        "The vault is damaged: %s things are wrong.",
        len(wrong),
    )
    return things % format_number(len(wrong))


def _say_what_to_do(vault: str, result: CheckResult) -> None:
    mend = f"dcmvault vault repair {command_word(vault)}"
    wrong = damage(result)
    if wrong and all(one.mendable for one in wrong):
        say("→ " + _("A repair can mend all of the damage: `%s`.") % mend)
    elif any(one.mendable for one in wrong):
        say("→ " + _("A repair can mend a part of it, and says what is lost: `%s`.") % mend)
    elif wrong:
        say(
            "→ "
            + _(
                "Nothing in the vault can mend this. A repair gives up what is lost, so that the "
                "next backup stores it again: `%s --drop-lost`."
            )
            % mend
        )
    if lost_past(result):
        say_how_to_go_on_without(vault)


def _object(checked: Checked) -> dict[str, object]:
    return {
        "vault": checked.address,
        **result_object(checked.result),
        "known_snapshots": checked.known_snapshots,
        "no_longer_held": checked.refuted,
        "duration_s": round(checked.duration_s, 3),
        "exit_status": checked.exit_status,
        "error": None,
    }
