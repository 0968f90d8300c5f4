"""Find my images: what is found, how it is counted, and that the look ends."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dcmvault.app.discovery import Bounds, find_places, look_at
from dcmvault.errors import AddressError
from dcmvault.testing.dicom_files import make_study

_NO_ORTHANC = 1


def test_folders_with_images_are_found_with_counts_and_dates(tmp_path: Path) -> None:
    make_study(tmp_path / "Documents" / "old" / "a", key="a", instances=2)
    make_study(tmp_path / "Documents" / "old" / "b", key="b", instances=3)
    (tmp_path / "Downloads").mkdir()
    (tmp_path / "Downloads" / "letter.pdf").write_bytes(b"%PDF" + bytes(300))
    (found,) = find_places(tmp_path, orthanc_port=_NO_ORTHANC)
    assert found.kind == "folder"
    assert found.address == str(tmp_path / "Documents" / "old")
    assert (found.studies, found.instances) == (2, 5)
    assert found.bytes == sum(p.stat().st_size for p in (tmp_path / "Documents").rglob("*.dcm"))
    assert found.is_whole
    assert not found.is_sampled
    assert found.first_date
    assert found.problems == ()


def test_the_look_ends_where_there_is_too_much(tmp_path: Path) -> None:
    make_study(tmp_path / "a", key="a", instances=6)
    found = look_at(str(tmp_path), bounds=Bounds(entries=4))
    assert not found.is_whole
    now = iter(range(1_000_000))
    found = look_at(str(tmp_path), bounds=Bounds(seconds=4), monotonic=lambda: float(next(now)))
    assert not found.is_whole
    found = look_at(str(tmp_path), bounds=Bounds(headers=2))
    assert found.is_sampled
    assert found.instances == 6


def test_what_is_odd_neither_hangs_nor_leads_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    make_study(outside, key="x", instances=1)
    here = tmp_path / "here"
    here.mkdir()
    (here / "loop").symlink_to(here)
    (here / "out").symlink_to(outside)
    os.mkfifo(here / "pipe")
    (here / "DICM").write_bytes(bytes(128) + b"DICM" + b"\xff" * 5000)
    found = look_at(str(here))
    assert (found.instances, found.studies) == (1, 0)
    assert look_at(str(tmp_path / "nothing")).problems
    with pytest.raises(AddressError):
        look_at("ftp:x")


@contextmanager
def _answering(answer: bytes, status: int = 200) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "answer", [b"[" * 100_000, b'{"CountStudies": "x"}', b"x" * 3_000_000, b"7"]
)
def test_a_service_that_is_no_orthanc_is_a_problem_not_a_failure(answer: bytes) -> None:
    with _answering(answer) as port:
        found = look_at(f"orthanc+http://127.0.0.1:{port}")
    assert (found.studies, found.instances) == (0, 0)
    assert found.kind == "orthanc"


def test_an_orthanc_elsewhere_is_not_spoken_to() -> None:
    """Only this machine is looked at: a test of another one is for administrators."""
    found = look_at("orthanc+https://192.0.2.1:8042")
    assert not found.is_whole
    assert found.problems == ()
