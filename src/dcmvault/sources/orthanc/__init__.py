"""An Orthanc as a source, over its REST interface."""

from dcmvault.sources.orthanc.source import OrthancSource

__all__ = ["OrthancSource"]
