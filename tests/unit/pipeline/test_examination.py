"""What is made of a file that holds something else than was planned, or cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from dcmvault.catalogue import open_catalogue
from dcmvault.dicom.part10 import scan
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import (
    InstanceEntry,
    InstanceFile,
    InstanceHeader,
    StudyRef,
    UnreadableEntry,
)
from dcmvault.model.plan import PlanItem
from dcmvault.pipeline import examination
from dcmvault.pipeline.examination import examine_planned
from dcmvault.pipeline.selection import select_from
from dcmvault.sources.local_files import fingerprint_of
from dcmvault.testing.dicom_files import make_instance


class _Library:
    """Two files with the same bytes, of which the index names one wrongly."""

    name = "horos:/library"

    def __init__(self, folder: Path) -> None:
        self.files = {
            name: make_instance(folder / name, "1.2", "1.2.1", "1.2.1.2").path
            for name in ("misnamed", "named")
        }

    def entry(self, name: str) -> InstanceEntry:
        told = scan(self.files[name])._replace(data_set_start=0, data_set_end=0)
        if name == "misnamed":
            told = told._replace(sop_instance_uid="1.2.1.1")
        return InstanceEntry(name, fingerprint_of(self.files[name].stat()), indexed=told)

    def studies(self) -> Iterator[StudyRef]:
        yield StudyRef("1.2", "1.2")

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        yield from map(self.entry, self.files)

    def read(self, entries: Iterable[InstanceEntry], *, kept: int = 1) -> Iterator[InstanceFile]:
        for entry in entries:
            path = self.files[entry.locator]
            if fingerprint_of(path.stat()) == entry.fingerprint:
                yield InstanceFile(entry, path)


def _planned(entry: InstanceEntry) -> PlanItem:
    assert entry.indexed is not None
    return PlanItem(
        version_id=VersionId(1),
        entry=entry,
        identity=entry.indexed.identity,
        kind=entry.indexed.kind,
        reason="new",
    )


def test_a_misnamed_file_is_compared_with_others_in_the_next_pass(tmp_path: Path) -> None:
    """It turns out to be the same content as a file that nobody read: no conflict."""
    library = _Library(tmp_path)
    catalogue = open_catalogue(str(tmp_path / "catalogue.sqlite3"))

    def select() -> None:
        select_from(
            library,
            catalogue.sources,
            None,
            include_other_files=False,
            listed=lambda _total: None,
            open_other=lambda _address: library,
        )

    select()
    entry = library.entry("misnamed")
    examined = examine_planned(_planned(entry), InstanceFile(entry, library.files["misnamed"]))
    assert isinstance(examined.file, UnreadableEntry)
    assert examined.file.code == "misnamed"
    assert examined.found is not None
    scan_pass = catalogue.sources.scan(catalogue.sources.source(library.name), None)
    scan_pass.record([examined.found])
    identity = scan(library.files["named"]).identity
    assert len(scan_pass.versions({identity})[identity]) == 2
    select()
    assert len(scan_pass.versions({identity})[identity]) == 1
    assert scan_pass.news(list(map(library.entry, library.files))).unchanged == 2
    catalogue.close()


def test_a_file_that_fails_while_its_header_is_read_is_not_called_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path) -> InstanceHeader:
        raise OSError(5, "Input/output error", str(path))

    library = _Library(tmp_path)
    entry = library.entry("named")
    monkeypatch.setattr(examination, "scan", failing)
    file = examine_planned(_planned(entry), InstanceFile(entry, library.files["named"])).file
    assert isinstance(file, UnreadableEntry)
    assert (file.code, file.message) == ("unreadable", "it cannot be read: Input/output error")
