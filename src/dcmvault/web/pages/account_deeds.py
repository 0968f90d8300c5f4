"""What an administrator does with somebody's account: the words, and what each calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dcmvault.app.accounts import AccountDesk, with_password
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.account import Account, Role
from dcmvault.web.forms import Fields


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that is done with an account, once it is confirmed."""

    #: In addresses, and in the audit journal.
    word: str
    label: str
    #: What comes of it, to be read before.
    says: str
    #: What is said after; `%s` is the account.
    done: str
    do: Callable[[AccountDesk, str, Fields], None]
    #: Whether sessions of the account end.
    ends_sessions: bool = True
    is_danger: bool = False


def role_in(fields: Fields) -> Role:
    """Return the role that a form names; UsageError for none of ours."""
    try:
        return Role(fields.get("role", ""))
    except ValueError:
        raise UsageError(_("There is no such role.")) from None


def deeds() -> Mapping[str, Deed]:
    """Return what can be done, by its word, in the language in use."""
    return {deed.word: deed for deed in _deeds()}


def _deeds() -> tuple[Deed, ...]:
    return (
        Deed(
            "role",
            _("Give another role"),
            _("The account is logged out everywhere."),
            _("%s has this role now."),
            lambda desk, name, fields: desk.set_role(name, role_in(fields)),
        ),
        Deed(
            "link",
            _("Make a link"),
            _("With it the person chooses a password. It replaces the link before."),
            _("Hand this link to %s. It is shown this once, and works once, for an hour."),
            _may_have_link,
            ends_sessions=False,
        ),
        Deed(
            "codes",
            _("Reset one-time codes"),
            _(
                "For who lost the authenticator: the password alone lets in until codes are set up "
                "again. The account is logged out everywhere."
            ),
            _("%s is asked for no one-time codes any more."),
            lambda desk, name, _fields: desk.reset_totp(name),
            is_danger=True,
        ),
        Deed(
            "sessions",
            _("Log out everywhere"),
            _("The account is logged out everywhere."),
            _("%s is logged out everywhere."),
            lambda desk, name, _fields: desk.end_sessions(name),
        ),
        Deed(
            "disable",
            _("Disable"),
            _("The account comes in no more; it stays, and can be enabled again."),
            _("%s comes in no more."),
            lambda desk, name, _fields: desk.set_disabled(name, disabled=True),
            is_danger=True,
        ),
        Deed(
            "enable",
            _("Enable"),
            _("The account comes in again, as it did before."),
            _("%s may come in again."),
            lambda desk, name, _fields: desk.set_disabled(name, disabled=False),
            ends_sessions=False,
        ),
        Deed(
            "remove",
            _("Remove"),
            _("The account is forgotten. What the audit journal tells of it stays."),
            _("%s is removed."),
            lambda desk, name, _fields: desk.remove(name),
            is_danger=True,
        ),
    )


def _may_have_link(desk: AccountDesk, name: str, _fields: Fields) -> None:
    """Refuse one that has no password here; the link is made once this is written down."""
    with_password(desk.known(name).account)


def deeds_for(account: Account) -> list[Deed]:
    """List what makes sense for an account as it is now."""
    without = {"disable" if account.disabled else "enable"}
    if account.issuer:
        without |= {"role", "link"}
    if not account.has_totp:
        without.add("codes")
    return [deed for word, deed in deeds().items() if word not in without]
