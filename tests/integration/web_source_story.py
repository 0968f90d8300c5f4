"""Steps that the tests of DICOMweb sources share."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pydicom
from scripts.peer_processes import Orthanc

from dcmvault.config.peer_sections import DicomwebSourceSection
from dcmvault.sources.dicomweb import DicomwebSource
from dcmvault.testing.clock import FakeClock

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def web_source(url: str, **options: float | str | bool) -> DicomwebSource:
    """Make a source with short waits."""
    waits: dict[str, object] = {"connect_timeout_s": 5, "response_timeout_s": 10}
    section = DicomwebSourceSection.model_validate({"url": url} | waits | options)
    return DicomwebSource(section, FakeClock())


def upload(pacs: Orthanc, path: Path) -> None:
    """Give a file to Orthanc by its own REST interface."""
    request = urllib.request.Request(
        f"{pacs.http_url}/instances", data=path.read_bytes(), method="POST"
    )
    with _DIRECT.open(request, timeout=30) as answer:
        answer.read()


def locator_of(path: Path) -> str:
    """Return what a DICOMweb source calls the instance in a file."""
    data = pydicom.dcmread(path, stop_before_pixels=True)
    return f"{data.StudyInstanceUID}/{data.SeriesInstanceUID}/{data.SOPInstanceUID}"
