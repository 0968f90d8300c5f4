"""A DICOMweb service as a source: QIDO-RS lists, WADO-RS retrieves what is stored as it is."""

from dcmvault.sources.dicomweb.source import DicomwebSource

__all__ = ["DicomwebSource"]
