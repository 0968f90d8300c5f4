"""dcmvault backs up DICOM studies, and can prove it."""

__version__ = "0.1.0"
