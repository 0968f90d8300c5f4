"""The catalogue passes the shipped suite, in an embedded file and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dcmvault.catalogue import open_catalogue
from dcmvault.testing.catalogue_suite import CatalogueSuite
from dcmvault.testing.catalogue_world import OpenedCatalogue


class TestEmbeddedCatalogue(CatalogueSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        with ExitStack() as stack:
            self.stack = stack
            self.url = str(tmp_path / "catalogue.sqlite3")
            yield

    def open_catalogue(self) -> OpenedCatalogue:
        opened = open_catalogue(self.url)
        self.stack.callback(opened.close)
        return opened


@pytest.mark.peers
class TestCatalogueInPostgresql(CatalogueSuite):
    @pytest.fixture(autouse=True)
    def _database(self, postgresql_url: str) -> Iterator[None]:
        with ExitStack() as stack:
            self.stack = stack
            self.url = postgresql_url
            yield

    def open_catalogue(self) -> OpenedCatalogue:
        opened = open_catalogue(self.url)
        self.stack.callback(opened.close)
        return opened
