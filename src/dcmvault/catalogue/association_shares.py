"""Which worker may have how many associations of a destination, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, upsert
from dcmvault.catalogue.worker_tables import association_shares
from dcmvault.catalogue.workers import database_time
from dcmvault.ports.workers import SHARES_LEASE_S

#: Any number, as long as nobody else takes the same advisory lock in our database.
_ADVISORY_LOCK = 0x64636D766173
_LEASE = timedelta(seconds=SHARES_LEASE_S)
#: A share that ran out within so long may be of a worker that only could not ask for it anew,
#: because the server was away: it still has its associations, and is waited for.
_LATELY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class AssociationsInDatabase:
    """Implements `ports.workers.AssociationShares`; times are the server's."""

    database: Database

    def claim(self, limit: str, holder: str, in_use: int, most: int) -> int:
        """Give each holder an equal part, as soon as the others have given up what they had more.

        One claims at a time.
        """
        table = association_shares.c
        with self.database.write() as connection:
            self.database.lock_until_commit(connection, _ADVISORY_LOCK)
            now = database_time(connection)
            rows = connection.execute(
                sa.select(association_shares).where(table.limit_name == limit)
            ).all()
            others = [row for row in rows if row.holder != holder and row.leased_until > now]
            mine = next((row for row in rows if row.holder == holder), None)
            usable_from = now
            if mine is not None and mine.leased_until > now:
                usable_from = mine.usable_from
            elif any(now - _LATELY < row.leased_until <= now for row in rows):
                usable_from = now + _LEASE
            taken = sum(max(row.granted, row.in_use) for row in others)
            part = _part(holder, [row.holder for row in others], most)
            granted = max(0, min(part, most - taken)) if usable_from <= now else 0
            # What stands already stays until it ends. It never makes the share larger: one that is
            # just being given back may be counted twice.
            had = 0 if mine is None else mine.granted
            granted = max(granted, min(in_use, part, had))
            row = {
                "limit_name": limit,
                "holder": holder,
                "in_use": in_use,
                "granted": granted,
                "usable_from": usable_from,
                "leased_until": now + _LEASE,
            }
            upsert(connection, association_shares, [row])
            connection.execute(
                sa.delete(association_shares).where(table.leased_until < now - _LATELY)
            )
        return granted

    def give_back(self, holder: str, limit: str) -> None:
        """Have none any more."""
        table = association_shares.c
        with self.database.write() as connection:
            connection.execute(
                sa.delete(association_shares).where(
                    table.holder == holder, table.limit_name == limit
                )
            )


def _part(holder: str, others: Sequence[Any], most: int) -> int:
    """Divide what there is; those that are first in order have what remains."""
    order = sorted([holder, *others])
    part, rest = divmod(most, len(order))
    return part + (order.index(holder) < rest)
