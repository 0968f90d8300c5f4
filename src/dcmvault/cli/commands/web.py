"""`dcmvault web`: who may come into the dashboard."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from dcmvault.app.accounts import AccountDesk, account_desk
from dcmvault.app.serving_port import port_served
from dcmvault.cli.building import ExampleCommand, FamilyGroup, json_option
from dcmvault.cli.output import format_age, print_json, say, table, tell
from dcmvault.cli.session import current_settings, opened
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.account import Account, Role

_ROLES = tuple(role.value for role in Role)


def command() -> click.Command:
    """Build the group in the language in use."""
    return FamilyGroup(
        "web",
        text=_("Who may come into the dashboard."),
        members=[
            FamilyGroup(
                "user",
                text=_("Accounts of the dashboard: add, list, change and remove them."),
                members=[
                    _add_command(),
                    _list_command(),
                    _password_command(),
                    _role_command(),
                    _disable_command(),
                    _remove_command(),
                    _link_command(),
                ],
            )
        ],
    )


def _name() -> click.Argument:
    return click.Argument(["name"], metavar=_("NAME"))


def _add_command() -> click.Command:
    return ExampleCommand(
        "add",
        callback=_add,
        text=_(
            "Make an account. Its password is asked for, or with --link the person chooses it.\n\n"
            "A viewer sees states and figures, but no patient data; an operator steers work, and "
            "may reveal names of patients, which the audit journal tells; an administrator also "
            "changes settings and accounts."
        ),
        params=[
            _name(),
            click.Option(
                ["--role"],
                type=click.Choice(_ROLES),
                default=Role.VIEWER.value,
                show_default=True,
                help=_("What the account may do."),
            ),
            click.Option(
                ["--language"],
                type=click.Choice(["en", "pt-BR"]),
                help=_("The language that the dashboard speaks. Default: as the browser asks."),
            ),
            click.Option(
                ["--link"],
                is_flag=True,
                help=_("Print a link with which the person chooses a password."),
            ),
            json_option(),
        ],
        examples=[
            (
                _("Somebody who steers work"),
                "dcmvault web user add ana --role operator --language pt-BR",
            ),
            (_("Without knowing the password"), "dcmvault web user add ana --link"),
        ],
    )


def _list_command() -> click.Command:
    return ExampleCommand(
        "list",
        callback=_list,
        text=_("List the accounts: what each may do, and when it was last seen."),
        params=[json_option()],
        examples=[(_("Who may come in"), "dcmvault web user list")],
    )


def _password_command() -> click.Command:
    return ExampleCommand(
        "password",
        callback=_password,
        text=_("Set the password of an account. All its sessions end."),
        params=[
            _name(),
            click.Option(
                ["--remove-codes"],
                is_flag=True,
                help=_("Ask for no one-time codes any more: for who lost the authenticator."),
            ),
            json_option(),
        ],
        examples=[(_("For who forgot it"), "dcmvault web user password ana")],
    )


def _role_command() -> click.Command:
    return ExampleCommand(
        "role",
        callback=_role,
        text=_("Give an account another role. All its sessions end."),
        params=[
            _name(),
            click.Argument(["role"], type=click.Choice(_ROLES), metavar=_("ROLE")),
            json_option(),
        ],
        examples=[(_("No more patient data"), "dcmvault web user role ana viewer")],
    )


def _disable_command() -> click.Command:
    return ExampleCommand(
        "disable",
        callback=_disable,
        text=_("Let an account in no more; it stays, and can be enabled again."),
        params=[
            _name(),
            click.Option(["--enable"], is_flag=True, help=_("Let it in again.")),
            json_option(),
        ],
        examples=[
            (_("For a leave"), "dcmvault web user disable ana"),
            (_("Back again"), "dcmvault web user disable ana --enable"),
        ],
    )


def _remove_command() -> click.Command:
    return ExampleCommand(
        "remove",
        callback=_remove,
        text=_("Remove an account. What the audit journal tells of it stays."),
        params=[_name(), json_option()],
        examples=[(_("Who left for good"), "dcmvault web user remove ana")],
    )


def _link_command() -> click.Command:
    return ExampleCommand(
        "link",
        callback=_link,
        text=_(
            "Print a link with which somebody chooses a password; it works once, for an hour.\n\n"
            "Without NAME it makes the first account, from this machine."
        ),
        params=[
            click.Argument(["name"], metavar=_("[NAME]"), required=False, default=""),
            json_option(),
        ],
        examples=[
            (_("For who forgot the password"), "dcmvault web user link ana"),
            (_("Before there is any account"), "dcmvault web user link"),
        ],
    )


@contextmanager
def _desk() -> Iterator[tuple[AccountDesk, str]]:
    """Open the desk of the accounts; with it, where the dashboard is."""
    settings = current_settings()
    with opened(settings) as session:
        port = port_served(session.workplace.home) or settings.web.port
        desk = account_desk(session.workplace.catalogue, session.workplace.clock)
        yield desk, settings.web.address(port)


def _add(name: str, role: str, language: str | None, link: bool, as_json: bool) -> int:
    password = "" if link else _asked_password()
    with _desk() as (desk, address):
        account = desk.add(name, password, Role(role), language=language or "")
        if link:
            return _say_link(desk, address, account.name, as_json=as_json)
    return _done(account, _("%s may come in now."), as_json=as_json)


def _list(as_json: bool) -> int:
    with _desk() as (desk, _address):
        accounts = desk.accounts()
    if as_json:
        print_json({"accounts": [_object(one) for one in accounts], "exit_status": 0})
        return 0
    if not accounts:
        say(_("Nobody may come in yet. Make an account: dcmvault web user add NAME"))
        return 0
    head = (_("Name"), _("Role"), _("One-time codes"), _("Last seen"), _("State"))
    rows = [
        (
            one.name,
            one.role.value,
            _("yes") if one.has_totp else _("no"),
            format_age(one.last_seen_at),
            _("disabled") if one.disabled else _("enabled"),
        )
        for one in accounts
    ]
    say(table(head, rows, right=frozenset()))
    return 0


def _password(name: str, remove_codes: bool, as_json: bool) -> int:
    with _desk() as (desk, _address):
        desk.known(name)
        desk.set_password(name, _asked_password())
        if remove_codes:
            desk.set_totp(name, b"", [])
        account = desk.known(name).account
    return _done(account, _("The password of %s is another one now."), as_json=as_json)


def _role(name: str, role: str, as_json: bool) -> int:
    with _desk() as (desk, _address):
        desk.set_role(name, Role(role))
        account = desk.known(name).account
    return _done(account, _("%s has this role now."), as_json=as_json)


def _disable(name: str, enable: bool, as_json: bool) -> int:
    with _desk() as (desk, _address):
        desk.set_disabled(name, disabled=not enable)
        account = desk.known(name).account
    told = _("%s may come in again.") if enable else _("%s comes in no more.")
    return _done(account, told, as_json=as_json)


def _remove(name: str, as_json: bool) -> int:
    with _desk() as (desk, _address):
        account = desk.known(name).account
        desk.remove(name)
    return _done(account, _("%s is removed."), as_json=as_json)


def _link(name: str, as_json: bool) -> int:
    with _desk() as (desk, address):
        return _say_link(desk, address, name, as_json=as_json)


def _say_link(desk: AccountDesk, address: str, name: str, *, as_json: bool) -> int:
    token, expires_at = desk.make_link(name)
    link = f"{address}/welcome/{token}"
    if as_json:
        told = {"account": name or None, "link": link, "expires_at": expires_at.isoformat()}
        print_json({**told, "exit_status": 0})
        return 0
    tell(_("This link works once, for an hour, while “dcmvault serve” runs:"))
    say(link)
    return 0


def _done(account: Account, told: str, *, as_json: bool) -> int:
    if as_json:
        print_json({"account": _object(account), "exit_status": 0})
    else:
        say(told % account.name)
    return 0


def _object(account: Account) -> dict[str, object]:
    seen = account.last_seen_at
    return {
        "name": account.name,
        "role": account.role.value,
        "language": account.language.replace("_", "-") or None,
        "created_at": account.created_at.isoformat(),
        "last_seen_at": seen.isoformat() if seen else None,
        "disabled": account.disabled,
        "one_time_codes": account.has_totp,
        "issuer": account.issuer or None,
    }


def _asked_password() -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            _("There is no terminal to ask for the password on."),
            hint=_("Let the person choose it: --link, or dcmvault web user link NAME"),
        )
    typed = click.prompt(
        _("Password"), hide_input=True, confirmation_prompt=_("Once more"), err=True
    )
    assert isinstance(typed, str)
    return typed
