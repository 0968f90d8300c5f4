"""`dcmvault notify`: who is told of what, and whether that works."""

from __future__ import annotations

import click

from dcmvault.app.notify import ChannelView, Tried, channel_views, try_channels
from dcmvault.cli.building import ExampleCommand, FamilyGroup, json_option
from dcmvault.cli.output import format_age, mark, print_json, say
from dcmvault.cli.session import current_settings, opened
from dcmvault.i18n import format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible


def command() -> click.Command:
    """Build the commands in the language in use."""
    return FamilyGroup(
        "notify",
        text=_("Who is told of what happens, and whether that works."),
        members=[_test_command(), _list_command()],
    )


def _test_command() -> click.Command:
    return ExampleCommand(
        "test",
        callback=_test,
        text=_(
            "Send a test message to each channel, or to those that are named, and say what "
            "happened.\n\nExit status: 5 if one of them did not take it."
        ),
        params=[
            click.Argument(["names"], nargs=-1, metavar=_("[NAME]...")),
            json_option(),
        ],
        examples=[
            (_("All channels"), "dcmvault notify test"),
            (_("The channel [notifications.office]"), "dcmvault notify test office"),
        ],
    )


def _list_command() -> click.Command:
    return ExampleCommand(
        "list",
        callback=_list,
        text=_("List the channels: of what each tells, and what became of its messages."),
        params=[json_option()],
        examples=[(_("Who is told of what"), "dcmvault notify list")],
    )


def _test(names: tuple[str, ...], as_json: bool) -> int:
    settings = current_settings()
    with opened(settings) as session:
        tried = try_channels(session.workplace, names)
    status = 0 if all(one.is_good for one in tried) else 5
    if as_json:
        print_json({"channels": [_tried_object(one) for one in tried], "exit_status": status})
        return status
    width = max(len(one.channel) for one in tried)
    for one in tried:
        said = sentence(one.answer if one.is_good else one.problem)
        say(f"{mark(one.is_good)} {one.channel.ljust(width)}  {visible(said)}")
        if one.hint:
            say(f"  → {visible(sentence(one.hint))}")
    return status


def _tried_object(one: Tried) -> dict[str, object]:
    return {
        "name": one.channel,
        "kind": one.kind,
        "ok": one.is_good,
        "answer": one.answer,
        "error": None
        if one.is_good
        else {"code": one.code, "message": one.problem, "hint": one.hint},
    }


def _list(as_json: bool) -> int:
    settings = current_settings()
    with opened(settings) as session:
        views = channel_views(session.workplace)
    if as_json:
        print_json({"channels": [_channel_object(view) for view in views], "exit_status": 0})
        return 0
    if not views:
        say(_("Nobody is told of anything. Write a section [notifications.NAME]."))
    for view in views:
        _say_channel(view)
    return 0


def _say_channel(view: ChannelView) -> None:
    section = view.section
    say(click.style(f"{view.name} ({section.channel})", bold=True))
    plans = ", ".join(section.plans) or _("all plans")
    say(f"  {', '.join(section.told_events)}; {plans}; {section.severity}")
    state = view.state
    if state is None:
        say("  " + _("had no message yet"))
        return
    sent = ngettext("%s message sent", "%s messages sent", state.sent)
    say(
        f"  {sent % format_number(state.sent)}, "
        + _("the last %s") % format_age(state.last_sent_at)
    )
    if state.waiting:
        waiting = ngettext("%s message waits", "%s messages wait", state.waiting)
        say("  " + click.style(waiting % format_number(state.waiting), fg="yellow"))
    if state.given_up:
        given_up = ngettext("%s message given up", "%s messages given up", state.given_up)
        say("  " + click.style(given_up % format_number(state.given_up), fg="red"))
    if state.message:
        say(f"  {visible(sentence(state.message))}")


def _channel_object(view: ChannelView) -> dict[str, object]:
    state = view.state
    return {
        "name": view.name,
        "kind": view.section.channel,
        "events": list(view.section.told_events),
        "plans": list(view.section.plans),
        "severity": view.section.severity,
        "privacy": view.section.privacy.value,
        "sent": state.sent if state else 0,
        "waiting": state.waiting if state else 0,
        "given_up": state.given_up if state else 0,
        "last_sent_at": state.last_sent_at.isoformat() if state and state.last_sent_at else None,
        "error": {"code": state.code, "message": state.message} if state and state.code else None,
    }
