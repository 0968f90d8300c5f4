"""Which workers use a limit of bandwidth at present, on PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, upsert
from dcmvault.catalogue.tables import bandwidth_shares
from dcmvault.ports.pacing import Claim

#: Any number, as long as nobody else takes the same advisory lock in our database.
_ADVISORY_LOCK = 0x64636D766277


@dataclass(frozen=True, slots=True)
class BandwidthInDatabase:
    """Implements `ports.pacing.BandwidthShares`; times are the server's."""

    database: Database

    def claim(self, limit: str, holder: str, lease_s: float) -> Claim:
        """Use a limit for so many seconds from now on; one claims at a time."""
        table = bandwidth_shares.c
        with self.database.write() as connection:
            self.database.lock_until_commit(connection, _ADVISORY_LOCK)
            # Not the time at which the transaction began: it waited for the lock.
            now = connection.scalar(sa.select(sa.func.clock_timestamp()))
            assert now is not None
            connection.execute(sa.delete(bandwidth_shares).where(table.leased_until <= now))
            holders = set(
                connection.scalars(sa.select(table.holder).where(table.limit_name == limit))
            )
            row = {
                "limit_name": limit,
                "holder": holder,
                "leased_until": now + timedelta(seconds=lease_s),
            }
            upsert(connection, bandwidth_shares, [row])
        return Claim(len(holders | {holder}), holder not in holders)

    def give_back(self, holder: str) -> None:
        """Use no limit any more."""
        with self.database.write() as connection:
            connection.execute(
                sa.delete(bandwidth_shares).where(bandwidth_shares.c.holder == holder)
            )
