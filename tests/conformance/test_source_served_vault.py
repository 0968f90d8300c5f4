"""The suite of sources over a vault of ours that answers as a PACS: by C-GET, and by DICOMweb."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pydicom
import pytest
from tests.integration.archive_world import ArchiveWorld
from tests.integration.serving_world import AE_TITLE, answering
from tests.integration.web_serving_world import web_answering
from tests.integration.web_source_story import locator_of, web_source

from dcmvault.archives.vault import VaultArchive
from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.ports.source import Source
from dcmvault.sources.query_retrieve import QueryRetrieveSource
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.source_suite import KnownSource, SourceSuite
from dcmvault.vault.retention import forget_study


class _ServedVault(SourceSuite):
    """A vault with two studies, and what disturbs it."""

    changes_show = True

    @pytest.fixture(autouse=True)
    def _running(self) -> Iterator[None]:
        self.running = ExitStack()
        with self.running:
            yield

    def served(self, archive: VaultArchive) -> Callable[[], Source]:
        """Let the archive answer; return what makes sources of it."""
        raise NotImplementedError

    def known_source(self, folder: Path) -> KnownSource:
        made = [
            *make_study(folder / "a", key="a", series=2, instances=2),
            *make_study(folder / "b", key="b", instances=3),
        ]
        paths = {locator_of(one.path): one.path for one in made}
        world = ArchiveWorld(folder / "vault")
        world.back_up(list(paths.values()))
        archive = world.archive()

        def change(locator: str) -> None:
            data = pydicom.dcmread(paths[locator])
            data.InstanceNumber = 77
            data.save_as(paths[locator])
            world.back_up([paths[locator]], run="run-2")
            assert archive._look_again()

        def remove(locator: str) -> None:
            """Forget its study, and store what else belonged to it again."""
            study = locator.partition("/")[0]
            world.clock.advance(1)
            forget_study(world.opened(), study)
            others = [
                path
                for other, path in paths.items()
                if other != locator and other.partition("/")[0] == study
            ]
            world.back_up(others, run="run-3")
            assert archive._look_again()

        return KnownSource(
            make=self.served(archive),
            content={locator: path.read_bytes() for locator, path in paths.items()},
            make_unavailable=self.running.close,
            change=change,
            remove=remove,
            compared=self.compared,
            changes_show=self.changes_show,
        )

    @staticmethod
    def compared(file: bytes) -> bytes:
        """Return what has to be the same: all of the file."""
        return file


class TestServedByGet(_ServedVault):
    changes_show = False

    @staticmethod
    def compared(file: bytes) -> bytes:
        """Return the data set: the file meta information is the receiver's own."""
        length = int.from_bytes(file[140:144], "little")
        return file[144 + length :]

    def served(self, archive: VaultArchive) -> Callable[[], Source]:
        port = self.running.enter_context(answering(archive)).port
        section = DimseSourceSection(host="127.0.0.1", port=port, called_ae_title=AE_TITLE)
        return lambda: QueryRetrieveSource(section)


class TestServedOverTheWeb(_ServedVault):
    def served(self, archive: VaultArchive) -> Callable[[], Source]:
        url = self.running.enter_context(web_answering(archive)).url
        return lambda: web_source(url)
