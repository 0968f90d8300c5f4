"""The catalogue: what we know, in SQLite or PostgreSQL."""
