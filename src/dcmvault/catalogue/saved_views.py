"""Saved views of the studies page, in the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, upsert
from dcmvault.catalogue.matrix_tables import saved_views
from dcmvault.catalogue.tables import storable
from dcmvault.model.study_matrix import SavedView

_MOST_VIEWS = 100


@dataclass(frozen=True, slots=True)
class ViewsInDatabase:
    """Implements `ports.study_matrix.ViewBook`."""

    database: Database

    def views(self, account: str) -> list[SavedView]:
        """List an account's views by name."""
        with self.database.read() as connection:
            return _views(connection, account)

    def save_view(self, view: SavedView) -> None:
        """Write a view, over one of the same name; ValueError beyond 100 of one account."""
        row = {
            "account": storable(view.account),
            "name": storable(view.name),
            "query": view.query,
            "columns": " ".join(view.columns),
        }
        with self.database.write() as connection:
            others = [one for one in _views(connection, view.account) if one.name != row["name"]]
            if len(others) >= _MOST_VIEWS:
                raise ValueError(f"more than {_MOST_VIEWS} saved views")
            upsert(connection, saved_views, [row])

    def remove_view(self, account: str, name: str) -> None:
        """Remove a view; nothing happens where there is none."""
        with self.database.write() as connection:
            connection.execute(
                sa.delete(saved_views).where(
                    saved_views.c.account == account, saved_views.c.name == name
                )
            )


def _views(connection: sa.Connection, account: str) -> list[SavedView]:
    query = sa.select(saved_views).where(saved_views.c.account == account)
    return [
        SavedView(row.account, row.name, row.query, tuple(row.columns.split()))
        for row in connection.execute(query.order_by(saved_views.c.name))
    ]
