"""What a DICOMweb source lists where services cap, repeat, hide, refuse, or never end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, count

import pytest
from tests.integration.web_peer import Reply, Seen, web_peer
from tests.integration.web_source_story import web_source

from dcmvault.config.peer_sections import DicomwebSourceSection
from dcmvault.dicom import dicomweb, qido_inventory
from dcmvault.errors import SourceUnavailableError
from dcmvault.model.instance import StudyRef, UnreadableEntry
from dcmvault.model.selection import Selection
from dcmvault.sources.dicomweb import DicomwebSource
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.web_archive import Row, WebArchive, WebBehaviour


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits a second for the next attempt."""
    monkeypatch.setattr(dicomweb, "_WAIT_S", 0.01)


def _row(number: int, **attributes: str) -> Row:
    return {
        "StudyInstanceUID": f"1.2.3.{number}",
        "SeriesInstanceUID": f"1.2.3.{number}.1",
        "SOPInstanceUID": f"1.2.3.{number}.1.1",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "StudyDate": f"20{number % 20:02d}{number % 12 + 1:02d}{number % 28 + 1:02d}",
        "StudyTime": f"{number % 24:02d}{number % 60:02d}00",
        "PatientID": f"P{number % 97:04d}",
        "Modality": "CT",
        **attributes,
    }


def _studies(archive: WebArchive, known: tuple[str, ...] = ()) -> list[str]:
    section = DicomwebSourceSection(url=archive.url)
    source = DicomwebSource(section, FakeClock(), lambda: known)
    return [study.locator for study in source.studies()]


@pytest.mark.parametrize(
    "behaviour",
    [
        WebBehaviour(),
        WebBehaviour(cap=70),
        WebBehaviour(cap=500, tells_cap=True),
        WebBehaviour(honours_offset=False, honours_limit=False),
        WebBehaviour(cap=100, honours_offset=False),
        WebBehaviour(cap=100, honours_offset=False, tells_cap=True),
        WebBehaviour(cap=500, honours_offset=False),
        WebBehaviour(most_rows=500),
        WebBehaviour(cap=70, most_rows=230),
    ],
    ids=str,
)
def test_inventory_is_complete(behaviour: WebBehaviour) -> None:
    """Pages, short pages, no pages at all: every study is listed, once."""
    rows = [_row(number) for number in range(1500)]
    with WebArchive((), behaviour, rows=rows) as archive:
        listed = _studies(archive)
        assert sorted(listed) == sorted(row["StudyInstanceUID"] for row in rows)
        assert len(archive.asked) < 2000


def test_five_thousand_studies_behind_a_silent_cap() -> None:
    rows = [_row(number) for number in range(5000)]
    with WebArchive((), WebBehaviour(cap=500, honours_offset=False), rows=rows) as archive:
        assert len(set(_studies(archive))) == 5000


@pytest.mark.parametrize("behaviour", [WebBehaviour(), WebBehaviour(cap=70, honours_offset=False)])
def test_a_selection_is_asked_for(behaviour: WebBehaviour) -> None:
    """By patient, accession number and date, in parts where the service caps its answers."""
    rows = [_row(n, AccessionNumber=f"A{n % 3}") for n in range(2000)]
    with WebArchive(rows=rows, behaviour=behaviour) as archive:
        source = DicomwebSource(DicomwebSourceSection(url=archive.url), FakeClock())
        asked = Selection(
            patients=("P0003",),
            accessions=("A0", "A1"),
            first_date="20050101",
            last_date="20091231",
        )
        found = {study.locator for study in source.matching(asked)}
        assert found == {
            row["StudyInstanceUID"]
            for row in rows
            if row["PatientID"] == "P0003"
            and row["AccessionNumber"] in ("A0", "A1")
            and "2005" <= row["StudyDate"][:4] <= "2009"
        }
        wide = Selection(first_date="20050101", last_date="20091231")
        found = {study.locator for study in source.matching(wide)}
        assert len(found) == 500
        assert source.remarks().lists_all


def test_a_cap_that_cannot_be_passed_is_said() -> None:
    """All studies at the same time, of one patient: nothing tells how many there are."""
    rows = [
        _row(number, StudyDate="20200101", StudyTime="101112", PatientID="SAME")
        for number in range(40)
    ]
    with WebArchive((), WebBehaviour(cap=20, honours_offset=False), rows=rows) as archive:
        source = web_source(archive.url)
        assert len(list(source.studies())) == 20
        assert len(source.remarks().warnings) == 1
        assert "no further pages" in source.remarks().warnings[0]
        assert source.remarks().lists_all, "what was known was asked for by UID"


def test_a_series_that_is_not_listed_to_its_end_is_said() -> None:
    rows = [_row(1, SOPInstanceUID=f"1.2.3.1.1.{number}") for number in range(1, 41)]
    with WebArchive((), WebBehaviour(cap=20, honours_offset=False), rows=rows) as archive:
        source = web_source(archive.url)
        entries = list(source.entries(StudyRef("1.2.3.1", "1.2.3.1")))
        assert len(entries) == 20
        assert not source.remarks().lists_all
        assert source.remarks().warnings == (
            "The service may have instances of the study 1.2.3.1 that it did not list.",
        )
        assert list(source.studies()) == [StudyRef("1.2.3.1", "1.2.3.1")]
        assert source.remarks().lists_all


def test_fewer_instances_than_the_service_counts_are_said() -> None:
    """An empty page is no proof against the service's own count of instances, or of series."""
    rows = [_row(1, SOPInstanceUID=f"1.2.3.1.1.{number}") for number in range(1, 41)]
    rows += [_row(2, SeriesInstanceUID=f"1.2.3.2.{n}", SOPInstanceUID=f"1.{n}") for n in range(25)]
    with WebArchive((), WebBehaviour(most_rows=20), rows=rows) as archive:
        for study in ("1.2.3.1", "1.2.3.2"):
            source = web_source(archive.url)
            assert len(list(source.entries(StudyRef(study)))) == 20
            assert not source.remarks().lists_all
            assert f"the study {study} that it did not list" in source.remarks().warnings[0]


def test_a_service_that_lists_no_parts_is_not_believed_to_be_whole() -> None:
    """Where only all studies can be asked for, those are read, and others may be there."""
    rows = [{"0020000D": {"Value": [f"1.{n}"]}, **_DATED[n % 2]} for n in range(12)]

    def answer(seen: Seen) -> Reply:
        if "StudyDate" in seen.query:
            return Reply(400)
        return (
            Reply(200, json.dumps(rows).encode()) if seen.query["offset"] == ["0"] else Reply(204)
        )

    with web_peer(answer) as peer:
        source = web_source(peer.url)
        assert len(list(source.studies())) == 12
        assert "may have studies" in source.remarks().warnings[0]
        assert len(peer.seen) < 10


def test_a_service_that_ignores_all_keys_is_not_believed_to_be_whole() -> None:
    """It cuts its pages from a list that something behind it capped."""
    rows = [{"0020000D": {"Value": [f"1.{n}"]}, **_DATED[n % 2]} for n in range(12)]

    def answer(seen: Seen) -> Reply:
        start = int(seen.query["offset"][0])
        return Reply(200, json.dumps(rows[start:]).encode())

    with web_peer(answer) as peer:
        source = web_source(peer.url)
        assert len(list(source.studies())) == 12
        assert "may have studies" in source.remarks().warnings[0]


def test_a_known_study_that_no_list_names_is_asked_for_by_uid() -> None:
    """Only what is not there under its UID either counts as gone."""
    rows = [_row(number) for number in range(30)]
    behaviour = WebBehaviour(hidden=frozenset({"1.2.3.7", "1.2.3.8"}), knows_uid_lists=False)
    with WebArchive((), behaviour, rows=rows) as archive:
        assert len(_studies(archive)) == 28
        known = ("1.2.3.7", "1.2.3.8", "1.2.3.99", "1.2.3.1")
        assert set(_studies(archive, known)) == {row["StudyInstanceUID"] for row in rows}


def test_what_is_told_of_an_instance() -> None:
    row = _row(
        4,
        PatientName="Müller^Jörg",
        StudyDescription="Schädel",
        InstanceNumber="17",
        AvailableTransferSyntaxUID="1.2.840.10008.1.2.1",
    )
    with WebArchive(rows=[row]) as archive:
        (entry,) = web_source(archive.url).entries(StudyRef("1.2.3.4"))
    told = entry.indexed
    assert told is not None
    assert (told.study.patient_name, told.study.study_description) == ("Müller^Jörg", "Schädel")
    assert (told.series.modality, told.instance_number) == ("CT", "17")
    assert told.kind.sop_class_uid == "1.2.840.10008.5.1.4.1.1.2"
    assert told.transfer_syntax_uid == "1.2.840.10008.1.2.1"
    assert not told.was_scanned
    assert entry.locator == "1.2.3.4/1.2.3.4.1/1.2.3.4.1.1"


def test_a_correction_shows_in_the_fingerprint() -> None:
    """Another patient's name is other content: the service writes it into what it sends."""
    found = []
    for name in ("Doe^Jane", "Doe^Jane", "Roe^Jane"):
        with WebArchive(rows=[_row(4, PatientName=name)]) as archive:
            (entry,) = web_source(archive.url).entries(StudyRef("1.2.3.4"))
            found.append(entry.fingerprint)
    assert found[0] == found[1] != found[2]


def test_pages_without_end_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that makes up studies for ever is a defect, and is said to be one."""
    monkeypatch.setattr(qido_inventory, "_MOST_ROWS", 5000)
    numbers = count()

    def endless(_seen: Seen) -> Reply:
        rows = [
            {"0020000D": {"vr": "UI", "Value": [f"1.2.{next(numbers)}"]}} for _one in range(500)
        ]
        return Reply(200, json.dumps(rows).encode())

    with web_peer(endless) as peer:
        with pytest.raises(SourceUnavailableError, match="without end"):
            list(web_source(peer.url).studies())
        assert len(peer.seen) < 20


_DATED = [{"00080020": {"Value": [date]}} for date in ("20200101", "20210101")]
_ROW = {"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}


@pytest.mark.parametrize(
    ("status", "headers", "body", "words"),
    [
        (401, {}, b"", "not authenticated"),
        (403, {}, b"", "not authorised"),
        (404, {}, b"", "no such resource"),
        (429, {"Retry-After": "0"}, b"", "too many requests"),
        (503, {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, b"", "not available"),
        (503, {"Retry-After": "nonsense"}, b"", "not available"),
        (302, {"Location": "http://127.0.0.1:1/elsewhere"}, b"", "refers to another address"),
        (200, {}, b"<html>Please log in</html>", "what is not DICOM"),
        (200, {}, b"<NativeDicomModel><DicomAttribute", "what is not DICOM"),
        (200, {}, b"[1, 2]", "what is not DICOM"),
        (200, {}, b"[" * 100_000, "what is not DICOM"),
        (200, {}, b" " * ((8 << 20) + 1), "more than"),
    ],
)
def test_a_refused_list_is_a_source_that_is_not_there(
    status: int, headers: Mapping[str, str], body: bytes, words: str
) -> None:
    behaviour = WebBehaviour(search_answer=(status, headers, body))
    with WebArchive((), behaviour) as archive:
        with pytest.raises(SourceUnavailableError, match=words) as raised:
            list(web_source(archive.url).studies())
        assert raised.value.message.startswith("The DICOMweb service cannot be read: 127.0.0.1")
        assert raised.value.hint
        assert "elsewhere" not in " ".join(archive.asked)


def test_a_service_that_is_busy_for_a_moment_is_asked_again() -> None:
    answers: Iterator[Reply] = iter(
        [Reply(503, b"", {"Retry-After": "0"}), Reply(200, json.dumps([_ROW]).encode())]
    )
    with web_peer(lambda _seen: next(answers, Reply(204))) as peer:
        assert [study.locator for study in web_source(peer.url).studies()] == ["1.2.3"]


def test_rows_without_a_uid_are_said() -> None:
    rows = [_ROW, {}, {"0020000D": {"Value": ["../../etc"]}}]

    def answer(seen: Seen) -> Reply:
        return (
            Reply(200, json.dumps(rows).encode()) if seen.query["offset"] == ["0"] else Reply(204)
        )

    with web_peer(answer) as peer:
        source = web_source(peer.url)
        assert [study.locator for study in source.studies()] == ["1.2.3"]
        assert not source.remarks().lists_all
        assert source.remarks().warnings == (
            "The service lists studies without a UID that can be asked for.",
        )


def _failing(uids: frozenset[str], reply: Reply | None) -> Callable[[Seen], Reply | None]:
    """Answer with studies of one instance, but with this reply for these studies' series."""

    def rows(*rows: Mapping[str, str]) -> Reply:
        body = [{tag: {"Value": [uid]} for tag, uid in row.items()} for row in rows]
        return Reply(200, json.dumps(body).encode())

    def answer(seen: Seen) -> Reply | None:
        if seen.query.get("offset", ["0"]) != ["0"]:
            return Reply(204)
        match seen.path.split("/")[2:]:
            case ["studies"]:
                asked = seen.query.get("StudyInstanceUID", [f"1.{n}" for n in range(8)])
                return rows(*({"0020000D": uid} for uid in asked))
            case ["studies", uid, "series"]:
                return reply if uid in uids else rows({"0020000E": f"{uid}.1"})
            case ["studies", _uid, "series", series, "instances"]:
                return rows({"00080018": f"{series}.1"})
        return Reply(404)

    return answer


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(400), "answered 400"),
        (Reply(500), "answered 500"),
        (Reply(503), "answered 503"),
        (None, "broke"),
        (Reply(404), "no instance of it"),
        (Reply(200, b"[]"), "no instance of it"),
    ],
    ids=str,
)
def test_one_study_that_is_not_listed_does_not_end_it(reply: Reply | None, words: str) -> None:
    """Neither one that the service refuses, or fails over, nor one of which it lists nothing."""
    with web_peer(_failing(frozenset({"1.3"}), reply)) as peer:
        source = web_source(peer.url)
        entries = [entry for study in source.studies() for entry in source.entries(study)]
        assert len(entries) == 8
        (bad,) = (entry for entry in entries if entry.locator == "1.3")
        (answer,) = source.read([bad])
        assert isinstance(answer, UnreadableEntry)
        assert answer.message == "The service did not list this study."
        assert not source.remarks().lists_all
        assert words in source.remarks().warnings[0]


def test_a_service_that_refuses_a_key_is_listed_whole() -> None:
    """What is told of each study says then whether it is meant."""
    honest = _failing(frozenset(), None)

    def refusing(seen: Seen) -> Reply | None:
        return Reply(400) if "PatientID" in seen.query else honest(seen)

    with web_peer(refusing) as peer:
        found = list(web_source(peer.url).matching(Selection(patients=("P0003",))))
        assert len(found) == 8


def test_a_service_that_goes_away_while_it_is_listed_is_not_there() -> None:
    """Nothing is said of single studies then."""
    with web_peer(_failing(frozenset(), None)) as peer:
        source = web_source(peer.url)
        study, *_others = source.studies()
        peer.answering = lambda _seen: None
        with pytest.raises(SourceUnavailableError, match="broke"):
            list(source.entries(study))


def test_a_series_without_instances_is_not_believed() -> None:
    """The service names it, and lists nothing of it; one that went away meanwhile is gone."""
    for is_named_again in (True, False):
        named = iter([True, is_named_again])

        def answer(seen: Seen, named: Iterator[bool] = named) -> Reply:
            if seen.query["offset"] != ["0"]:
                return Reply(204)
            series = ["1.1.1"]
            match seen.path.split("/")[2:]:
                case ["studies"]:
                    uids, tag = ["1.1"], "0020000D"
                case ["studies", _uid, "series"]:
                    uids, tag = [*series, *(["1.1.2"] if next(named) else [])], "0020000E"
                case _:
                    uids, tag = (["1.1.1.1"] if "1.1.1" in seen.path else []), "00080018"
            return Reply(200, json.dumps([{tag: {"Value": [uid]}} for uid in uids]).encode())

        with web_peer(answer) as peer:
            source = web_source(peer.url)
            assert len(list(source.entries(StudyRef("1.1")))) == 1
            assert source.remarks().lists_all is not is_named_again


def test_a_service_that_lists_no_study_is_not_there() -> None:
    with web_peer(_failing(frozenset(f"1.{n}" for n in range(8)), Reply(500))) as peer:
        source = web_source(peer.url)
        with pytest.raises(SourceUnavailableError, match="500"):
            list(chain.from_iterable(map(source.entries, source.studies())))
