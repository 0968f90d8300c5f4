"""Steps that the tests of DICOMweb sources share."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode

import pydicom
from scripts.peer_processes import Orthanc
from tests.integration.web_peer import Reply, Seen, WebPeer

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


def forwarded(pacs: Orthanc, seen: Seen) -> Reply:
    """Hand a question on to Orthanc and bring its answer back."""
    query = urlencode(seen.query, doseq=True)
    url = f"{pacs.http_url}{seen.path}" + (f"?{query}" if query else "")
    request = urllib.request.Request(url, headers={"Accept": seen.headers.get("Accept", "")})
    try:
        with _DIRECT.open(request, timeout=30) as answer:
            return Reply(
                answer.status, answer.read(), {"Content-Type": answer.headers["Content-Type"]}
            )
    except HTTPError as error:
        return Reply(error.code, error.read())


def retrieved(peer: WebPeer) -> list[str]:
    """List the SOP Instance UIDs of all instances that were retrieved, each time."""
    asked = [seen for seen in peer.seen if seen.method == "GET"]
    return [
        seen.path.rpartition("/")[2]
        for seen in asked
        if "multipart/related" in seen.headers.get("Accept", "")
    ]
