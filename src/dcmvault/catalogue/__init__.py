"""The catalogue: what we know, in SQLite or PostgreSQL."""

from dcmvault.catalogue.opening import Catalogue, open_catalogue

__all__ = ["Catalogue", "open_catalogue"]
