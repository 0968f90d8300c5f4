"""Sources over a network call an instance by its UIDs, whatever bytes each of them has of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dcmvault.catalogue import open_catalogue
from dcmvault.catalogue.opening import Catalogue
from dcmvault.dicom.digest import file_sha256
from dcmvault.dicom.part10 import scan
from dcmvault.errors import SourceUnavailableError
from dcmvault.model.comparison import StudySummary
from dcmvault.model.evidence import Level
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile, InstanceKind, StudyRef
from dcmvault.model.plan import Strategy
from dcmvault.model.selection import Selection
from dcmvault.pipeline.selection import select_from
from dcmvault.ports.catalogue import KnownVersion
from dcmvault.testing.dicom_files import make_instance

_LOCATOR = "1.2.1/1.2.1.1/1.2.1.1.1"


class _Archive:
    """A source of one instance, which it hands out as it has it, whatever is asked of it."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        #: Of what it tells, which two archives may tell alike.
        self.fingerprint = Fingerprint(0, 0, 12345)
        self.reads = 0

    def studies(self) -> Iterator[StudyRef]:
        yield StudyRef("1.2.1", "1.2.1")

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        told = scan(self.path)._replace(transfer_syntax_uid="", data_set_start=0, data_set_end=0)
        yield InstanceEntry(_LOCATOR, self.fingerprint, indexed=told)

    def read(
        self,
        entries: Iterable[InstanceEntry],
        *,
        kept: int = 1,
    ) -> Iterator[InstanceFile]:
        for entry in entries:
            self.reads += 1
            yield InstanceFile(entry, self.path)


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    yield opened
    opened.close()


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str, int], Path]:
    def make_file(name: str, pixel: int) -> Path:
        path = tmp_path / name
        pixels = {"PixelData": bytes([pixel]) * 512}
        return make_instance(path, *_LOCATOR.split("/"), elements=pixels).path

    return make_file


def _select(catalogue: Catalogue, *archives: _Archive) -> None:
    by_name = {one.name: one for one in archives}
    for one in archives:
        select_from(
            one,
            catalogue.sources,
            None,
            include_other_files=False,
            listed=lambda _total: None,
            open_other=by_name.__getitem__,
        )


def test_a_kind_that_is_no_uid_counts_as_unknown(
    catalogue: Catalogue, make: Callable[[str, int], Path]
) -> None:
    """What an index says may be anything; not all of it can be stored everywhere."""

    class _Strange(_Archive):
        def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
            for entry in super().entries(study):
                assert entry.indexed is not None
                told = entry.indexed._replace(sop_class_uid="1.2\0", transfer_syntax_uid="1.2.3")
                yield replace(entry, indexed=told)

    archive = _Strange("dicom://first", make("a.dcm", 1))
    _select(catalogue, archive)
    assert archive.reads == 0
    (due,) = catalogue.plans.due(
        catalogue.sources.source(archive.name),
        catalogue.plans.destination("vault:/copies"),
        strategy=Strategy.INCREMENTAL,
        level=Level.COMPLETE,
        run_id=None,
    )
    assert due.kind == InstanceKind("", "1.2.3")


def _known(catalogue: Catalogue, archive: _Archive) -> list[KnownVersion]:
    scan_pass = catalogue.sources.scan(catalogue.sources.source(archive.name), None)
    (versions,) = scan_pass.versions({scan(archive.path).identity}).values()
    return versions


def test_each_archives_digest_is_of_its_own_bytes(
    catalogue: Catalogue, make: Callable[[str, int], Path]
) -> None:
    first = _Archive("dicom://first", make("a.dcm", 1))
    second = _Archive("dicom://second", make("b.dcm", 2))
    _select(catalogue, first, second)
    assert {one.source: one.file_sha256 for one in _known(catalogue, first)} == {
        first.name: file_sha256(first.path),
        second.name: file_sha256(second.path),
    }


def test_equal_bytes_in_two_archives_are_one_content(
    catalogue: Catalogue, make: Callable[[str, int], Path]
) -> None:
    first = _Archive("dicom://first", make("a.dcm", 1))
    second = _Archive("dicom://second", make("b.dcm", 1))
    _select(catalogue, first, second)
    (version,) = _known(catalogue, first)
    assert version.file_sha256 == file_sha256(first.path)


def test_an_archive_that_cannot_be_opened_leaves_its_content_unread(
    catalogue: Catalogue, make: Callable[[str, int], Path]
) -> None:
    first = _Archive("dicom://first", make("a.dcm", 1))
    _select(catalogue, first)
    second = _Archive("dicom://second", make("b.dcm", 2))

    class _Gone(_Archive):
        def read(
            self, entries: Iterable[InstanceEntry], *, kept: int = 1
        ) -> Iterator[InstanceFile]:
            raise SourceUnavailableError("It does not answer.")

    _select(catalogue, _Gone(first.name, first.path), second)
    digests = {one.source: one.file_sha256 for one in _known(catalogue, first)}
    assert digests == {first.name: b"", second.name: file_sha256(second.path)}


def test_what_took_the_place_of_an_unread_instance_is_another_content(
    catalogue: Catalogue, make: Callable[[str, int], Path]
) -> None:
    """A correction of the patient's name changes what the archive tells, and its bytes."""
    archive = _Archive("dicom://first", make("a.dcm", 1))
    _select(catalogue, archive)
    (before,) = _known(catalogue, archive)
    archive.path = make("b.dcm", 2)
    archive.fingerprint = Fingerprint(0, 0, 54321)
    _select(catalogue, archive)
    (after,) = _known(catalogue, archive)
    assert after.version_id != before.version_id
    assert after.file_sha256 == file_sha256(archive.path)


def test_a_pass_over_some_studies_lists_only_them_and_lets_nothing_go(
    catalogue: Catalogue, make: Callable[[str, int], Path]
) -> None:
    class _Asked(_Archive):
        def __init__(self, name: str, path: Path) -> None:
            super().__init__(name, path)
            self.listed: list[str] = []

        def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
            self.listed.append(study.locator)
            return super().entries(study) if study.locator == "1.2.1" else iter(())

        def summaries(self, among: Collection[str] | None = None) -> Iterator[StudySummary]:
            raise AssertionError

        def summary(self, study_instance_uid: str) -> StudySummary | None:
            raise AssertionError

        def instances_among(
            self, study_instance_uid: str, series_instance_uid: str, among: Collection[str]
        ) -> frozenset[str]:
            raise AssertionError

    archive = _Asked("dicom://first", make("a.dcm", 1))
    _select(catalogue, archive)
    source_id = catalogue.sources.source(archive.name)
    assert list(catalogue.sources.present_studies(source_id)) == ["1.2.1"]
    archive.listed.clear()
    counts = select_from(
        archive,
        catalogue.sources,
        None,
        include_other_files=False,
        listed=lambda _total: None,
        open_other=lambda _name: archive,
        selection=Selection(studies=("1.2.9",)),
    )
    assert (archive.listed, counts.gone) == (["1.2.9"], 0)
    assert list(catalogue.sources.present_studies(source_id)) == ["1.2.1"]
