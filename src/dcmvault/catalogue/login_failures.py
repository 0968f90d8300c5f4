"""Logins that failed, in the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dcmvault.catalogue.account_tables import login_failures
from dcmvault.catalogue.database import Database
from dcmvault.ports.login_failures import KeptFailures

_TABLE = login_failures.c


@dataclass(frozen=True, slots=True)
class LoginFailuresInDatabase:
    """Implements `ports.login_failures.LoginFailureBook`."""

    database: Database

    def failures(self, since: datetime, most: int) -> list[KeptFailures]:
        """List what failed since, the newest last; what is older, or more, is forgotten."""
        newest = sa.select(login_failures).order_by(_TABLE.last_at.desc(), _TABLE.digest)
        with self.database.write() as connection:
            connection.execute(sa.delete(login_failures).where(_TABLE.last_at < since))
            rows = connection.execute(newest).all()
            surplus = [row.digest for row in rows[most:]]
            if surplus:
                bound = sa.delete(login_failures).where(_TABLE.digest == sa.bindparam("gone"))
                connection.execute(bound, [{"gone": one} for one in surplus])
        newest_last = reversed(rows[:most])
        return [KeptFailures(bytes(row.digest), row.failed, row.last_at) for row in newest_last]

    def put(self, changed: Sequence[KeptFailures]) -> None:
        """Keep failures, each in the place of what was kept for it; a count of 0 keeps nothing."""
        with self.database.write() as connection:
            for one in changed:
                connection.execute(sa.delete(login_failures).where(_TABLE.digest == one.digest))
                if one.count > 0:
                    values = {"digest": one.digest, "failed": one.count, "last_at": one.last_at}
                    connection.execute(sa.insert(login_failures).values(**values))
