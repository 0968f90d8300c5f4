"""Alembic's environment and revisions, shipped with the package and run when it opens."""
