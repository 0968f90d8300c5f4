"""Accounts, sessions and links of the dashboard in the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.account_tables import accounts, links, recovery_codes, sessions
from dcmvault.catalogue.database import Database
from dcmvault.catalogue.matrix_tables import saved_views
from dcmvault.model.account import Account, Role, Session
from dcmvault.ports.accounts import AccountChange, KeptAccount

#: Any number, as long as nobody else takes the same advisory lock in our database.
_ADVISORY_LOCK = 0x64636D76_77656261
_OF_ACCOUNTS = (recovery_codes, sessions, links)


@dataclass(frozen=True, slots=True)
class AccountsInDatabase:
    """Implements `ports.accounts.AccountBook`."""

    database: Database

    def add(self, account: Account, password: str, *, only_first: bool = False) -> bool:
        """Keep an account; False if its name is taken or, with `only_first`, if there is any."""
        in_the_way = sa.select(accounts.c.id).limit(1)
        if not only_first:
            in_the_way = in_the_way.where(accounts.c.name == account.name)
        with self.database.write() as connection:
            self.database.lock_until_commit(connection, _ADVISORY_LOCK)
            if connection.scalar(in_the_way) is not None:
                return False
            connection.execute(sa.insert(accounts).values(**_values(account), password=password))
        return True

    def account(self, name: str) -> KeptAccount | None:
        """Return an account; None for an unknown name."""
        with self.database.read() as connection:
            row = connection.execute(sa.select(accounts).where(accounts.c.name == name)).first()
        if row is None:
            return None
        return KeptAccount(_account(row), row.password, bytes(row.totp_secret or b""))

    def accounts(self) -> list[Account]:
        """List the accounts by name."""
        with self.database.read() as connection:
            return [
                _account(row)
                for row in connection.execute(sa.select(accounts).order_by(accounts.c.name))
            ]

    def change(
        self, name: str, change: AccountChange, *, leaves_administrator: bool = False
    ) -> bool:
        """Change an account; False for an unknown name, and where no administrator may be lost."""
        wanted = {
            "password": change.password,
            "role": change.role,
            "language": change.language,
            "disabled": change.disabled,
            "last_seen_at": change.last_seen_at,
        }
        values = {key: value for key, value in wanted.items() if value is not None}
        with self.database.write() as connection:
            if leaves_administrator and not self._is_another_left(connection, name):
                return False
            key = _key_of(connection, name)
            if key is not None and values:
                connection.execute(sa.update(accounts).where(accounts.c.id == key).values(**values))
        return key is not None

    def remove(self, name: str, *, leaves_administrator: bool = False) -> bool:
        """Forget an account and all that is its own; False as `change` says."""
        with self.database.write() as connection:
            if leaves_administrator and not self._is_another_left(connection, name):
                return False
            key = _key_of(connection, name)
            if key is None:
                return False
            for table in _OF_ACCOUNTS:
                connection.execute(sa.delete(table).where(table.c.account_id == key))
            # By name: a later account of the same name must not find them.
            connection.execute(sa.delete(saved_views).where(saved_views.c.account == name))
            connection.execute(sa.delete(accounts).where(accounts.c.id == key))
        return True

    def _is_another_left(self, connection: sa.Connection, name: str) -> bool:
        """Say whether an administrator is left without this account, who can log in as it can.

        One who has yet to choose a password stands in only for another such. Nobody else asks
        this, or adds an account, until the transaction ends: two administrators who take each
        other's role away at once are one after the other here.
        """
        self.database.lock_until_commit(connection, _ADVISORY_LOCK)
        found = connection.execute(
            sa.select(accounts.c.name, accounts.c.password != "").where(
                accounts.c.role == Role.ADMINISTRATOR,
                ~accounts.c.disabled,
                accounts.c.issuer.is_(None),
            )
        )
        administrators = {str(each): bool(has_password) for each, has_password in found}
        if name not in administrators:
            return True
        has_password = administrators.pop(name)
        return any(administrators.values()) if has_password else bool(administrators)

    def set_totp(self, name: str, secret: bytes, recovery: Sequence[bytes]) -> None:
        """Set the secret and the digests of recovery codes, in the place of all before."""
        with self.database.write() as connection:
            key = _key_of(connection, name)
            if key is None:
                return
            connection.execute(
                sa.update(accounts)
                .where(accounts.c.id == key)
                .values(totp_secret=secret or None, totp_step=0)
            )
            connection.execute(sa.delete(recovery_codes).where(recovery_codes.c.account_id == key))
            if recovery:
                rows = [{"account_id": key, "digest": digest} for digest in recovery]
                connection.execute(sa.insert(recovery_codes), rows)

    def use_totp(self, name: str, step: int) -> bool:
        """Use the code of a time step; False if that one, or a later one, was used before."""
        with self.database.write() as connection:
            done = connection.execute(
                sa.update(accounts)
                .where(accounts.c.name == name, accounts.c.totp_step < step)
                .values(totp_step=step)
            )
        return done.rowcount == 1

    def use_recovery(self, name: str, digest: bytes) -> bool:
        """Use up a recovery code; False if there is none of this digest (any more)."""
        with self.database.write() as connection:
            key = _key_of(connection, name)
            table = recovery_codes.c
            done = connection.execute(
                sa.delete(recovery_codes).where(table.account_id == key, table.digest == digest)
            )
        return done.rowcount == 1


@dataclass(frozen=True, slots=True)
class IdentitiesInDatabase:
    """Implements `ports.identities.IdentityBook`."""

    database: Database

    def find(self, issuer: str, subject: str) -> Account | None:
        """Return the account of somebody; None for who was never here."""
        found = sa.select(accounts).where(
            accounts.c.issuer == issuer, accounts.c.subject == subject
        )
        with self.database.read() as connection:
            row = connection.execute(found).first()
        return None if row is None else _account(row)

    def add(self, account: Account, subject: str) -> bool:
        """Keep an account without a password; False if its name or its person is known already."""
        in_the_way = sa.select(accounts.c.id).where(
            (accounts.c.name == account.name)
            | ((accounts.c.issuer == account.issuer) & (accounts.c.subject == subject))
        )
        with self.database.write() as connection:
            self.database.lock_until_commit(connection, _ADVISORY_LOCK)
            if connection.scalar(in_the_way.limit(1)) is not None:
                return False
            connection.execute(
                sa.insert(accounts).values(
                    **_values(account), password="", issuer=account.issuer, subject=subject
                )
            )
        return True


@dataclass(frozen=True, slots=True)
class SessionsInDatabase:
    """Implements `ports.accounts.SessionBook`."""

    database: Database

    def begin(self, session: Session) -> None:
        """Keep a session of an account that exists."""
        with self.database.write() as connection:
            connection.execute(
                sa.insert(sessions).values(
                    account_id=_key_of(connection, session.account),
                    digest=session.digest,
                    created_at=session.created_at,
                    used_at=session.used_at,
                    address=session.address,
                    is_half=session.is_half,
                    revealed_until=session.revealed_until,
                )
            )

    def session(self, digest: bytes) -> tuple[Session, Account] | None:
        """Return a session and whose it is, as that account is now; None for none."""
        query = _with_names().add_columns(*_ACCOUNT).where(sessions.c.digest == digest)
        with self.database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else (_session(row), _account(row, "of_"))

    def touch(self, digest: bytes, at: datetime) -> None:
        """Remember that a session was used, and its account seen."""
        with self.database.write() as connection:
            found = sessions.c.digest == digest
            connection.execute(sa.update(sessions).where(found).values(used_at=at))
            whose = sa.select(sessions.c.account_id).where(found).scalar_subquery()
            connection.execute(
                sa.update(accounts).where(accounts.c.id == whose).values(last_seen_at=at)
            )

    def reveal(self, digest: bytes, until: datetime | None) -> bool:
        """Remember until when names are shown; False for no such session."""
        with self.database.write() as connection:
            done = connection.execute(
                sa.update(sessions).where(sessions.c.digest == digest).values(revealed_until=until)
            )
        return done.rowcount == 1

    def end(self, digest: bytes) -> bool:
        """End a session; False if there is none (any more)."""
        with self.database.write() as connection:
            done = connection.execute(sa.delete(sessions).where(sessions.c.digest == digest))
        return done.rowcount == 1

    def end_all(self, account: str, but: bytes = b"") -> int:
        """End all sessions of an account but one; return how many they were."""
        with self.database.write() as connection:
            key = _key_of(connection, account)
            table = sessions.c
            done = connection.execute(
                sa.delete(sessions).where(table.account_id == key, table.digest != but)
            )
        return done.rowcount

    def sessions(self, account: str) -> list[Session]:
        """List the sessions of an account, the one used last first."""
        query = _with_names().where(accounts.c.name == account)
        with self.database.read() as connection:
            rows = connection.execute(query.order_by(sessions.c.used_at.desc(), sessions.c.id))
            return [_session(row) for row in rows]

    def forget(self, used_before: datetime, created_before: datetime) -> int:
        """End what was not used since, or began before; return how many they were."""
        table = sessions.c
        with self.database.write() as connection:
            done = connection.execute(
                sa.delete(sessions).where(
                    sa.or_(table.used_at < used_before, table.created_at < created_before)
                )
            )
        return done.rowcount


@dataclass(frozen=True, slots=True)
class LinksInDatabase:
    """Implements `ports.accounts.LinkBook`."""

    database: Database

    def put(self, digest: bytes, account: str, expires_at: datetime) -> None:
        """Keep a link, in the place of others for this account; empty: for the first one ever."""
        with self.database.write() as connection:
            key = _key_of(connection, account) if account else None
            connection.execute(sa.delete(links).where(links.c.account_id.is_not_distinct_from(key)))
            connection.execute(
                sa.insert(links).values(account_id=key, digest=digest, expires_at=expires_at)
            )

    def link(self, digest: bytes, now: datetime) -> str | None:
        """Return for whom a link is that has not expired; None for none."""
        query = (
            sa.select(links.c.id, accounts.c.name)
            .outerjoin(accounts, accounts.c.id == links.c.account_id)
            .where(links.c.digest == digest, links.c.expires_at > now)
        )
        with self.database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else row.name or ""

    def take(self, digest: bytes, now: datetime) -> bool:
        """Use a link up; False if it is gone or has expired."""
        with self.database.write() as connection:
            done = connection.execute(
                sa.delete(links).where(links.c.digest == digest, links.c.expires_at > now)
            )
        return done.rowcount == 1


_ACCOUNT = [column.label(f"of_{column.name}") for column in accounts.c]


def _with_names() -> sa.Select[Any]:
    joined = accounts.c.id == sessions.c.account_id
    return sa.select(sessions, accounts.c.name.label("whose")).join(accounts, joined)


def _key_of(connection: sa.Connection, name: str) -> int | None:
    return connection.scalar(sa.select(accounts.c.id).where(accounts.c.name == name))


def _values(account: Account) -> dict[str, Any]:
    """Return what is kept of a new account, beside what opens it."""
    return {
        "name": account.name,
        "role": account.role,
        "language": account.language,
        "created_at": account.created_at,
        "last_seen_at": account.last_seen_at,
        "disabled": account.disabled,
        "totp_step": 0,
    }


def _account(row: Any, prefix: str = "") -> Account:
    names = ("name", "role", "language", "created_at", "last_seen_at", "disabled")
    found = {name: getattr(row, prefix + name) for name in names}
    has_totp = bool(getattr(row, prefix + "totp_secret"))
    return Account(**found, has_totp=has_totp, issuer=getattr(row, prefix + "issuer") or "")


def _session(row: Any) -> Session:
    return Session(
        digest=bytes(row.digest),
        account=row.whose,
        created_at=row.created_at,
        used_at=row.used_at,
        address=row.address,
        is_half=row.is_half,
        revealed_until=row.revealed_until,
    )
