"""Plans made from a library's index: nothing is read before it is delivered, nothing is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.integration.flow_world import Flow, counts_of

from dcmvault.config.sections import HorosSourceSection
from dcmvault.model.evidence import Level
from dcmvault.sources.horos import HorosSource
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.testing.horos_library import LibraryFacts, build_library
from dcmvault.testing.horos_schema import pack_uid
from dcmvault.testing.peers import SimulatedPacs
from dcmvault.testing.source_suite import opened_files


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    flow = Flow(tmp_path, FakeClock())
    yield flow
    flow.catalogue.close()


@pytest.fixture
def pacs() -> Iterator[SimulatedPacs]:
    with SimulatedPacs() as pacs:
        yield pacs


@pytest.fixture
def facts(tmp_path: Path) -> LibraryFacts:
    return build_library(tmp_path / "Horos Data")


@pytest.fixture
def library(flow: Flow, facts: LibraryFacts) -> str:
    """The library's address."""
    source = HorosSource(HorosSourceSection(path=facts.base))
    flow.sources[source.name] = source
    return source.name


def _address(pacs: SimulatedPacs) -> str:
    return f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"


def _change_index(facts: LibraryFacts, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(facts.base / "Database.sql", isolation_level=None)) as connection:
        assert connection.execute(statement, values).rowcount > 0


def _instances(facts: LibraryFacts) -> set[str]:
    return {file.sop_instance_uid for file in facts.files.values() if file.sop_instance_uid}


def test_planning_opens_only_what_the_index_leaves_in_doubt(
    flow: Flow, facts: LibraryFacts, library: str, tmp_path: Path
) -> None:
    durable = flow.ask(library, str(tmp_path / "copies"))
    with opened_files([facts.data, tmp_path / "Horos Data linked"]) as opened:
        flow.stages().plan(durable.run_id)
    files = {path for path in opened if path.endswith((".dcm", ".jpg", "IM0", "IM1"))}
    in_doubt = {facts.files[locator].path for locator in facts.orphans}
    in_doubt |= {facts.data / locator for locator in facts.missing}
    in_doubt |= {
        file.path
        for file in facts.files.values()
        if file.indexed_study_instance_uid and file.sop_instance_uid
        if not file.indexed_sop_instance_uid
        or file.study_instance_uid == make_uid("library", "merged")
    }
    assert {Path(path) for path in files} == {path.resolve() for path in in_doubt}


def test_a_pacs_gets_every_instance_under_its_own_uids(
    flow: Flow, facts: LibraryFacts, library: str, pacs: SimulatedPacs
) -> None:
    first = flow.backup(library, _address(pacs))
    assert first.exit_status == 3
    assert sorted(failure.code for failure in first.failures) == ["misnamed", "vanished"]
    (misnamed,) = [failure for failure in first.failures if failure.code == "misnamed"]
    assert misnamed.sop_instance_uid == make_uid(make_uid("library", "damage"), "deleted")
    second = flow.backup(library, _address(pacs))
    assert counts_of(second) == {
        "selected": 1,
        "already_held": len(_instances(facts)) - 1,
        "stored": 1,
        "unreadable": 1,  # the row without a file
    }
    assert set(pacs.received) == _instances(facts)
    assert len(pacs.received) == len(_instances(facts))


def test_what_was_delivered_is_known_as_what_it_is(
    flow: Flow, library: str, pacs: SimulatedPacs, tmp_path: Path
) -> None:
    flow.backup(library, _address(pacs), level=Level.SENT)
    with closing(sqlite3.connect(tmp_path / "catalogue.sqlite3")) as catalogue:
        (unknown,) = catalogue.execute(
            "SELECT COUNT(*) FROM versions JOIN kinds ON kinds.id = kind_id"
            " WHERE transfer_syntax_uid = '' AND file_sha256 IS NOT NULL"
        ).fetchone()
    assert unknown == 0


def test_a_folder_keeps_what_does_not_parse_though_the_index_names_it(
    flow: Flow, facts: LibraryFacts, library: str, tmp_path: Path
) -> None:
    broken = facts.data / "DATABASE.noindex/10000/1.dcm"
    broken.write_bytes(broken.read_bytes()[:200])
    (facts.data / "DATABASE.noindex/10000/2.dcm").write_bytes(b"")
    first = flow.backup(library, str(tmp_path / "copies"))
    codes = sorted(failure.code for failure in first.failures)
    assert codes == ["misnamed", "misnamed", "misnamed", "vanished"]
    second = flow.backup(library, str(tmp_path / "copies"))
    assert [failure.code for failure in second.failures] == ["vanished"]
    kept = {path.read_bytes() for path in (tmp_path / "copies").rglob("*") if path.is_file()}
    assert kept >= {
        file.path.read_bytes() for file in facts.files.values() if file.path.suffix != ".jpg"
    }


def test_what_the_peer_has_is_not_believed_of_a_file_that_holds_something_else(
    flow: Flow, facts: LibraryFacts, library: str, pacs: SimulatedPacs, tmp_path: Path
) -> None:
    """The peer has the instance that the index names; the file that it names is another one."""
    study = make_uid("library", "damage")
    deleted = make_uid(study, "deleted")
    elsewhere = tmp_path / "elsewhere"
    make_instance(elsewhere / "a.dcm", study, make_uid(study, "series", 1), deleted)
    flow.backup(elsewhere, _address(pacs))
    assert list(pacs.received) == [deleted]
    flow.backup(library, _address(pacs))
    report = flow.backup(library, _address(pacs))
    assert [failure.code for failure in report.failures] == ["vanished"]
    came_later = make_uid(study, "came later")
    assert came_later in set(pacs.received)


def test_two_files_that_the_index_gives_one_name_are_read_before_they_are_planned(
    flow: Flow, facts: LibraryFacts, library: str, pacs: SimulatedPacs
) -> None:
    uid = facts.files["DATABASE.noindex/10000/1.dcm"].sop_instance_uid
    _change_index(
        facts,
        "UPDATE ZIMAGE SET ZCOMPRESSEDSOPINSTANCEUID = ? WHERE ZPATHNUMBER = 2",
        pack_uid(uid),
    )
    flow.backup(library, _address(pacs))
    flow.backup(library, _address(pacs))
    assert set(pacs.received) == _instances(facts)


def test_a_name_that_another_pass_finds_taken_is_confirmed_on_both_sides(
    flow: Flow, facts: LibraryFacts, library: str, pacs: SimulatedPacs, tmp_path: Path
) -> None:
    """A dry run believed the index; then a file comes that really is what that index named."""
    flow.stages().plan(flow.ask(library, str(tmp_path / "copies")).run_id)
    study = make_uid("library", "damage")
    deleted = make_uid(study, "deleted")
    late = facts.data / "DATABASE.noindex/10000/450.dcm"
    make_instance(late, study, make_uid(study, "series", 1), deleted)
    report = flow.backup(library, _address(pacs))
    assert [failure.code for failure in report.failures] == ["vanished"]
    received = set(pacs.received)
    assert received == _instances(facts) | {deleted}


def test_a_file_that_changes_is_read_and_keeps_its_name(
    flow: Flow, facts: LibraryFacts, library: str, tmp_path: Path
) -> None:
    """What was corrected once is not believed of the index again."""
    copies = str(tmp_path / "copies")
    flow.backup(library, copies)
    flow.backup(library, copies)
    reused = facts.data / "DATABASE.noindex/10000/401.dcm"
    reused.write_bytes(reused.read_bytes() + bytes(2))
    report = flow.backup(library, copies)
    assert [failure.code for failure in report.failures] == ["vanished"]
    assert report.counts.stored == 1


def test_a_library_whose_index_is_lost_is_rescued_and_nothing_counts_as_deleted(
    flow: Flow, facts: LibraryFacts, library: str, tmp_path: Path
) -> None:
    copies = str(tmp_path / "copies")
    flow.backup(library, copies)
    flow.backup(library, copies)
    (facts.base / "Database.sql").unlink()
    study = make_uid("late")
    make_instance(facts.data / "DATABASE.noindex/10000/450.dcm", study, make_uid(1), make_uid(2))
    report = flow.backup(library, copies)
    assert report.counts.stored == 1
    assert [failure.code for failure in report.failures] == ["vanished"], "as before"
    assert report.warnings[0] == "The library has no index (Database.sql)."
    source = flow.catalogue.sources.source(library)
    destination = flow.catalogue.plans.destination(flow.open_destination(copies).name)
    present = list(flow.catalogue.plans.expected(source, destination))
    assert len(present) == len(_instances(facts)) + 1, "linked files, too"


def test_a_report_says_what_the_index_does_not_name_and_what_is_not_there(
    flow: Flow, library: str, tmp_path: Path
) -> None:
    report = flow.backup(library, str(tmp_path / "copies"))
    assert [warning[:9] for warning in report.warnings] == ["2 files l", "1 files t"]


def test_studies_are_delivered_in_the_order_in_which_they_are_listed(
    flow: Flow, facts: LibraryFacts, library: str, tmp_path: Path
) -> None:
    """The viewer's auto-clean would delete the one first that was added to least recently."""
    last = make_uid("library", "ct")
    _change_index(facts, "UPDATE ZSTUDY SET ZDATEADDED = 5 - ABS(ZSTUDYINSTANCEUID = ?)", last)
    jobs = flow.stages().plan(flow.ask(library, str(tmp_path / "copies")).run_id)
    assert jobs[0].study_instance_uid == last
