"""Run by Alembic: revisions go through the connection that the catalogue has opened."""

from __future__ import annotations

from alembic import context

from dcmvault.catalogue.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
)
context.run_migrations()
