"""A PACS as a source: what it holds is asked by C-FIND and fetched by C-GET or C-MOVE."""

from dcmvault.sources.query_retrieve.source import QueryRetrieveSource

__all__ = ["QueryRetrieveSource"]
