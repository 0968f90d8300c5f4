"""DICOMweb services as sources: the shipped suite against a real Orthanc."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pydicom
import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import StartOrthanc
from tests.integration.web_source_story import locator_of, upload, web_source

from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.source_suite import KnownSource, SourceSuite
from dcmvault.testing.web_archive import WebArchive, WebBehaviour


@pytest.mark.peers
class TestOrthanc(SourceSuite):
    @pytest.fixture(autouse=True)
    def _peer(self, start_orthanc: StartOrthanc) -> None:
        self.pacs: Orthanc = start_orthanc(OverwriteInstances=True)

    def known_source(self, folder: Path) -> KnownSource:
        url = f"{self.pacs.http_url}/dicom-web"
        self.pacs.wipe()
        made = [
            *make_study(folder / "a", key="a", series=2, instances=2),
            *make_study(folder / "b", key="b", instances=2),
        ]
        paths = {}
        for instance in made:
            upload(self.pacs, instance.path)
            paths[locator_of(instance.path)] = instance.path

        def change(locator: str) -> None:
            data = pydicom.dcmread(paths[locator])
            data.InstanceNumber = 77
            data.save_as(paths[locator])
            upload(self.pacs, paths[locator])

        return KnownSource(
            make=lambda: web_source(url),
            content={locator: path.read_bytes() for locator, path in paths.items()},
            make_unavailable=self._stop,
            change=change,
            remove=lambda locator: self.pacs.delete(locator.rpartition("/")[2]),
        )

    def _stop(self) -> None:
        self.pacs.process.terminate()
        self.pacs.process.wait(20)


class TestSimulatedService(SourceSuite):
    """The service of the hostile tests, when it is honest."""

    behaviour = WebBehaviour()

    @pytest.fixture(autouse=True)
    def _archives(self) -> Iterator[None]:
        self.running = ExitStack()
        with self.running:
            yield

    def known_source(self, folder: Path) -> KnownSource:
        made = [
            *make_study(folder / "a", key="a", series=2, instances=2),
            *make_study(folder / "b", key="b", instances=2),
        ]
        archive = self.running.enter_context(WebArchive((), self.behaviour))
        paths = {archive.put(one.path): one.path for one in made}

        def change(locator: str) -> None:
            data = pydicom.dcmread(paths[locator])
            data.InstanceNumber = 77
            data.save_as(paths[locator])
            archive.put(paths[locator])

        return KnownSource(
            make=lambda: web_source(archive.url),
            content={locator: path.read_bytes() for locator, path in paths.items()},
            make_unavailable=archive.stop,
            change=change,
            remove=lambda locator: archive.remove(locator.rpartition("/")[2]),
        )


class TestServiceOfFewRows(TestSimulatedService):
    """Pages of one row, whatever is asked for."""

    behaviour = WebBehaviour(cap=1)


class TestServiceWithoutPages(TestSimulatedService):
    """All rows each time, and no lists of UIDs."""

    behaviour = WebBehaviour(honours_offset=False, honours_limit=False, knows_uid_lists=False)
