"""Where nothing of a study comes back: what tells that it is lost, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.integration.dimse_story import expected, file_of
from tests.integration.test_dimse_read_back import MadeOriginals

from dcmvault.destinations.read_back import read_back
from dcmvault.destinations.ways_back import Asked
from dcmvault.destinations.witnesses import Witness, Witnesses
from dcmvault.dicom.retrieve import Retrieved
from dcmvault.dicom.returning import Returning, WantedInstance
from dcmvault.errors import AssociationLostError
from dcmvault.model.evidence import ExpectedStudy, Finding, Level, Verification
from dcmvault.model.instance import InstanceKind
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import MadeInstance, make_study

_MR = InstanceKind("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1")

Answer = Callable[[Returning], Retrieved]


@dataclass
class _Way:
    """A C-GET that goes as it is told for the study, and sends every other instance back."""

    study: str
    answers: list[Answer]
    method: str = "C-GET"
    most: int = 100
    singly: bool = False
    asked: list[Asked] = field(default_factory=list)

    def fetch(self, asked: Asked, returning: Returning) -> Retrieved:
        self.asked.append(asked)
        if asked.study_instance_uid == self.study:
            return self.answers.pop(0)(returning)
        file = returning.file()
        file.write(b"another")
        file.finish(returning.wanted[0].sop_instance_uid)
        return Retrieved("0000", "", 1, 0)

    def end(self, *, sound: bool) -> None:
        pass


def _lost(_returning: Returning) -> Retrieved:
    raise AssociationLostError("the association was lost")


def _ended(status: str) -> Answer:
    return lambda _returning: Retrieved(status, "", 0, 1)


def _sends(made: MadeInstance) -> Answer:
    def send(returning: Returning) -> Retrieved:
        file = returning.file()
        file.write(made.path.read_bytes())
        file.finish(made.sop_instance_uid)
        return Retrieved("0000", "", 1, 0)

    return send


def _prove(
    made: Sequence[MadeInstance], answers: list[Answer], witness: InstanceKind | None = None
) -> Verification:
    clock = FakeClock()
    files = [file_of(one.path) for one in made]
    study: ExpectedStudy = replace(expected(files), originals=MadeOriginals(made))
    listed = Verification(
        Level.COMPLETE,
        study.study_instance_uid,
        clock.now(),
        {one.version_id: Finding.HELD for one in study.instances},
        {"peer": "pacs"},
    )
    witnesses = Witnesses()
    header = files[0].header
    assert header is not None
    kind = witness or header.kind
    witnesses.came_back(Witness(Asked("2.25.7", "2.25.8", {kind}), WantedInstance("2.25.9", 100)))
    way = _Way(study.study_instance_uid, answers)
    found = read_back(way, study, listed, clock, witnesses=witnesses)
    assert not answers, "not everything was asked"
    return found


def test_what_never_comes_is_damaged_where_another_study_comes(tmp_path: Path) -> None:
    made = make_study(tmp_path, key="lost", instances=1)
    found = _prove(made, [_ended("B000"), _ended("B000")])
    assert set(found.findings.values()) == {Finding.DAMAGED}


def test_another_kind_that_comes_tells_nothing(tmp_path: Path) -> None:
    """The peer may send instances of that SOP class back to nobody."""
    made = make_study(tmp_path, key="lost", instances=1)
    found = _prove(made, [_ended("B000")], witness=_MR)
    assert set(found.findings.values()) == {Finding.UNKNOWN}


def test_what_comes_the_second_time_was_not_lost(tmp_path: Path) -> None:
    """One association that ended is nothing that is said of a copy."""
    made = make_study(tmp_path, key="there", instances=1)
    found = _prove(made, [_lost, _sends(made[0])])
    assert set(found.findings.values()) == {Finding.HELD}


def test_what_may_come_later_is_not_called_damaged(tmp_path: Path) -> None:
    """Twice lost, or twice out of resources: it is asked for again another time."""
    made = make_study(tmp_path, key="busy", instances=1)
    for answer in (_lost, _ended("A702")):
        found = _prove(made, [answer, answer])
        assert set(found.findings.values()) == {Finding.UNKNOWN}
