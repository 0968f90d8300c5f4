"""OsiriX and Horos libraries: the index is read from a private copy, the files in place."""

from dcmvault.sources.horos.library import HorosSource

__all__ = ["HorosSource"]
