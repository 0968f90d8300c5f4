"""Wiring: the only place that names concrete adapters and puts them behind their ports.

The engine, the catalogue and the DICOM adapters take a second to import, so they are imported
when they are needed: `dcmvault --help` and `dcmvault config` need none of them.
"""
