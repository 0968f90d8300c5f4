"""`dcmvault vault forget`, also `dcmvault forget`: what a vault need not remember any more."""

from __future__ import annotations

import click

from dcmvault.app.vault_retention import ForgetRequest, Forgetting, forget
from dcmvault.app.vault_upkeep import prune_vault
from dcmvault.cli.building import ExampleCommand, json_option, progress_option
from dcmvault.cli.commands.vault_prune import max_drop_option, prune_object, say_prune
from dcmvault.cli.durations import read_duration
from dcmvault.cli.output import print_json, say, table, tell
from dcmvault.cli.phase_progress import phases_shown
from dcmvault.cli.session import current_settings, opened
from dcmvault.cli.vault_views import local_time, vault_argument
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible
from dcmvault.vault.choosing import short_id
from dcmvault.vault.prune import PruneRequest, PruneResult
from dcmvault.vault.retention import KeepPolicy, created_at
from dcmvault.vault.snapshot import Link

_COUNTED = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "forget",
        callback=_forget,
        text=_(
            "Forget snapshots: those that are named, or those that no rule keeps. Or forget a "
            "study, in all snapshots. The newest snapshot stays in any case, and studies under "
            "legal hold stay whatever is forgotten. A later prune gives the space back."
        ),
        params=[
            vault_argument(),
            click.Argument(["snapshots"], metavar="[SNAPSHOT]...", nargs=-1),
            click.Option(
                ["--study"],
                default="",
                metavar="UID",
                help=_("Forget everything that is stored of this study so far."),
            ),
            *_keep_options(),
            click.Option(
                ["--source"],
                default="",
                help=_("Let the rules look at snapshots of this source only."),
            ),
            click.Option(["--dry-run"], is_flag=True, help=_("Change nothing; say what would be.")),
            click.Option(
                ["--prune"], is_flag=True, help=_("Prune afterwards, with a grace time of 24h.")
            ),
            max_drop_option(),
            json_option(),
            progress_option(),
        ],
        examples=[
            (
                _("Two weeks of days, a year of months"),
                "dcmvault forget vault:/backup --keep-daily 14 --keep-monthly 12 --prune",
            ),
            (_("Two snapshots"), "dcmvault forget vault:/backup 414e4c68 9b02d71f"),
            (_("A study that must not be kept"), "dcmvault forget vault:/backup --study 1.2.3"),
        ],
    )


def _keep_options() -> list[click.Option]:
    texts = {
        "last": _("Keep the newest so many snapshots."),
        "hourly": _("Keep the newest of each hour, for so many hours that have any."),
        "daily": _("The same for days."),
        "weekly": _("The same for weeks."),
        "monthly": _("The same for months."),
        "yearly": _("The same for years."),
    }
    options = [
        click.Option([f"--keep-{rule}"], type=click.IntRange(0), default=0, metavar="N", help=text)
        for rule, text in texts.items()
    ]
    within = click.Option(
        ["--keep-within"],
        default="",
        metavar="TIME",
        help=_("Keep all that are not older than this, for example 30d."),
    )
    return [options[0], within, *options[1:]]


def _forget(
    vault: str,
    snapshots: tuple[str, ...],
    study: str,
    source: str,
    dry_run: bool,
    prune: bool,
    max_drop: float,
    as_json: bool,
    progress: str,
    keep_within: str,
    **keep: int,
) -> int:
    policy = KeepPolicy(
        within=read_duration(keep_within) if keep_within else None,
        **{rule: keep[f"keep_{rule}"] for rule in _COUNTED},
    )
    request = ForgetRequest(snapshots, study, policy, source, dry_run)
    settings = current_settings()
    with opened(settings) as session:
        done = forget(session.workplace, vault, request)
    pruned: PruneResult | None = None
    if prune and not dry_run:
        with phases_shown(progress) as told:
            pruned = prune_vault(settings, vault, PruneRequest(most_dropped=max_drop / 100), told)
    if as_json:
        print_json(_object(done, pruned, dry_run=dry_run))
        return 0
    _say(done, dry_run=dry_run)
    if pruned is not None:
        say_prune(pruned)
    elif not dry_run and done.snapshot is not None:
        tell(_("`dcmvault vault prune` gives the space back."))
    return 0


def _say(done: Forgetting, *, dry_run: bool) -> None:
    if done.study:
        text = (
            _("The study %s would be forgotten.")
            if dry_run
            else _("The study %s is forgotten, in all snapshots.")
        )
        say(text % visible(done.study))
        return
    rows = [
        [short_id(link.name), local_time(created_at(link)), _rules(rules)]
        for link, rules in done.kept
    ]
    if rows:
        say(table([_("Snapshot"), _("Taken"), _("Kept as")], rows, right=frozenset()))
    count = len(done.forgotten)
    if not count:
        say(_("There is no snapshot to forget."))
        return
    names = ", ".join(short_id(link.name) for link in done.forgotten)
    if dry_run:
        text = ngettext(
            "%(count)s snapshot would be forgotten: %(names)s",
            "%(count)s snapshots would be forgotten: %(names)s",
            count,
        )
    else:
        text = ngettext(
            "%(count)s snapshot is forgotten: %(names)s",
            "%(count)s snapshots are forgotten: %(names)s",
            count,
        )
    say(text % {"count": format_number(count), "names": names})


def _rules(rules: tuple[str, ...]) -> str:
    words = {
        "newest state": _("newest state"),
        "last": _("last"),
        "within": _("not too old"),
        "hourly": _("hourly"),
        "daily": _("daily"),
        "weekly": _("weekly"),
        "monthly": _("monthly"),
        "yearly": _("yearly"),
    }
    return ", ".join(words.get(rule, rule) for rule in rules)


def _object(done: Forgetting, pruned: PruneResult | None, *, dry_run: bool) -> dict[str, object]:
    answer: dict[str, object] = {
        "vault": done.address,
        "dry_run": dry_run,
        "kept": [{**_link_object(link), "rules": list(rules)} for link, rules in done.kept],
        "forgotten": [_link_object(link) for link in done.forgotten],
        "study": done.study,
        "snapshot": done.snapshot.name if done.snapshot else None,
    }
    if pruned is not None:
        answer["prune"] = prune_object(pruned)
    return {**answer, "exit_status": 0}


def _link_object(link: Link) -> dict[str, object]:
    return {"snapshot": link.name, "created_at": link.created_at}
