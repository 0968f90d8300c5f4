"""What a worker reaches, and who is to do what it does not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dcmvault.app.other_workers import OtherWorkers
from dcmvault.app.reach import Reach, Whose
from dcmvault.config.addresses import destination_section, source_section
from dcmvault.config.settings import Settings
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest
from dcmvault.ports.workers import Doing, KnownWorker, WorkerIdentity

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def known(
    name: str,
    lacks: Mapping[str, str] | None = None,
    *,
    role: str = "worker",
    silent_s: float = 0.0,
    moved: Mapping[str, int] | None = None,
) -> KnownWorker:
    identity = WorkerIdentity(name, name, role, 1, "1")
    doing = Doing(lacks=lacks or {}, moved=moved or {}, associations={"pacs": 2})
    return KnownWorker(identity, "worker-0", NOW, NOW, silent_s, doing)


class Book:
    """Knows who it is told of."""

    def __init__(self, *some: KnownWorker) -> None:
        self.some = list(some)

    def join(self, worker: WorkerIdentity, executor: str) -> None:
        raise NotImplementedError

    def beat(self, worker_id: str, doing: Doing) -> bool:
        raise NotImplementedError

    def leave(self, worker_id: str) -> None:
        raise NotImplementedError

    def workers(self) -> list[KnownWorker]:
        return self.some


def reach_of(*others: KnownWorker, settings: Settings | None = None) -> Reach:
    settings = settings if settings is not None else Settings()
    book = Book(known("here"), *others)
    return Reach(lambda: settings, source_section, destination_section, "here", "here", book)


def request_of(source: Path, *destinations: str) -> RunRequest:
    wanted = tuple(DestinationRequest(address) for address in destinations)
    return RunRequest(RunKind.BACKUP, str(source), wanted)


def test_what_is_here_is_ours(tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    reach = reach_of(known("there"))
    request = request_of(tmp_path, str(copies), "dicom://PACS@pacs.example:104")
    addresses = [wanted.address for wanted in request.destinations]
    assert reach.whose(request, addresses) is Whose.OURS
    assert reach.lacks() == {}


@pytest.mark.parametrize("lacking", ["source", "vault"])
def test_what_is_not_here_is_left_to_one_that_may_have_it(tmp_path: Path, lacking: str) -> None:
    source = tmp_path / "source" if lacking == "source" else tmp_path
    vault = f"vault:{tmp_path / 'vault'}" if lacking == "vault" else "dicom://A@pacs.example:104"
    place = str(source) if lacking == "source" else vault
    request = request_of(source, vault)
    assert reach_of(known("there")).whose(request, [vault]) is Whose.OTHERS
    # Where nobody has it either, whoever has the work says what is wrong, as on one host.
    alone = reach_of(known("there", {place: "there is no such folder here"}))
    assert alone.whose(request, [vault]) is Whose.OURS
    assert alone.lacks() == {place: "there is no such folder here"}
    assert reach_of().whose(request, [vault]) is Whose.OURS


def test_a_folder_is_made_by_no_host_that_shares_the_work_but_the_one_that_has_it(
    tmp_path: Path,
) -> None:
    copies = str(tmp_path / "copies")
    request = request_of(tmp_path, copies)
    lacking = known("there", {copies: "there is no such folder here"})
    reach = reach_of(lacking)
    assert reach.whose(request, [copies]) is Whose.NOBODYS
    assert copies in reach.refusal(request, [copies]).message
    # One host alone makes it, as ever; and so does the one that the configuration names.
    assert reach_of().whose(request, [copies]) is Whose.OURS
    named = reach_of(lacking, settings=Settings(hosts={"here": (copies,)}))
    assert named.whose(request, [copies]) is Whose.OURS


def test_what_belongs_to_another_host_waits_for_it(tmp_path: Path) -> None:
    """Though it is here, too: it may be another folder of the same name."""
    settings = Settings(hosts={"there": (str(tmp_path),)})
    reach = reach_of(settings=settings)
    assert reach.whose(request_of(tmp_path), []) is Whose.OTHERS
    assert reach.lacks() == {str(tmp_path): "it belongs to there"}


def test_on_an_embedded_database_all_is_ours(tmp_path: Path) -> None:
    reach = Reach(Settings, source_section, destination_section, "here", "here", None)
    assert reach.whose(request_of(tmp_path / "nowhere"), []) is Whose.OURS


def test_a_daemon_measures_for_all_as_long_as_it_lives() -> None:
    serve = known("serve", role="serve")
    assert not OtherWorkers(Book(known("here"), serve), "here").leads()
    silent = known("serve", role="serve", silent_s=60)
    assert OtherWorkers(Book(known("here"), silent), "here").leads()
    assert OtherWorkers(Book(known("here"), known("there")), "here").leads()
    assert not OtherWorkers(Book(known("here"), known("a")), "here").leads()


def test_what_others_moved_is_counted_when_they_are_gone() -> None:
    book = Book(known("here", moved={"pacs": 5}), known("there", moved={"pacs": 7}))
    others = OtherWorkers(book, "here")
    assert others.moved() == {"pacs": 7}
    assert others.associations() == {"pacs": 2}
    book.some = [known("here")]
    assert others.moved() == {"pacs": 7}
