from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import StartOrthanc

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.peer_sections import OrthancSourceSection
from dcmvault.sources.orthanc import OrthancSource
from dcmvault.testing.changes_suite import ChangesSuite
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.source_suite import KnownSource

pytestmark = pytest.mark.peers


class TestOrthancSource(ChangesSuite):
    settings: ClassVar[Mapping[str, object]] = {}
    start: StartOrthanc

    @pytest.fixture(autouse=True)
    def _start(self, start_orthanc: StartOrthanc) -> None:
        self.start = start_orthanc

    def known_source(self, folder: Path) -> KnownSource:
        orthanc = self.start(OverwriteInstances=True, **self.settings)
        content: dict[str, bytes] = {}
        for number, series in ((1, 1), (2, 2)):
            made = make_study(
                folder / f"{number}", study_uid=f"1.2.3.{number}", series=series, instances=2
            )
            for one in made:
                data = one.path.read_bytes()
                instance_id = orthanc.store(data)
                study_id = orthanc.rest(f"/instances/{instance_id}/study")["ID"]
                content[f"{study_id}/{instance_id}.dcm"] = data

        def change(locator: str) -> None:
            # Another pixel, so that not even the size tells.
            data = content[locator]
            orthanc.store(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])

        return KnownSource(
            make=_maker(orthanc),
            content=content,
            make_unavailable=orthanc.process.kill,
            change=change,
            remove=lambda locator: orthanc.rest(f"/instances/{locator[45:-4]}", method="DELETE"),
        )


class TestCompressingOrthancSource(TestOrthancSource):
    """What Orthanc compresses on its disk is the file that it was given."""

    settings: ClassVar[Mapping[str, object]] = {"StorageCompression": True}


class TestOrthancSourceWithoutMd5(TestOrthancSource):
    settings: ClassVar[Mapping[str, object]] = {"StoreMD5ForAttachments": False}


def _maker(orthanc: Orthanc) -> Callable[[], OrthancSource]:
    section = OrthancSourceSection(url=orthanc.http_url)
    return lambda: OrthancSource(section, SystemClock())
