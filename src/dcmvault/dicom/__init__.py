"""DICOM itself: files, digests, and services over the network (PS3.3 to PS3.10)."""
