"""The catalogue: what we know, in SQLite or PostgreSQL."""

from dcmvault.catalogue.opening import Catalogue, has_catalogue, open_catalogue

__all__ = ["Catalogue", "has_catalogue", "open_catalogue"]
