"""Backups of a source that is being spoilt are held before anything is delivered."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault
from tests.integration.flow_world import Durable, Flow, counts_of
from tests.integration.story import instances, summary_of

from dcmvault.errors import SourceEmptyError, SourceHeldError
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import new_run_id
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest
from dcmvault.model.selection import EVERYTHING, Selection
from dcmvault.pipeline.selection import select_from
from dcmvault.pipeline.sudden_change import HoldPolicy
from dcmvault.ports.signs import SourceSigns
from dcmvault.testing.dicom_files import make_study

#: A few files stand for the many of a real source.
_FEW = HoldPolicy(instances=5)


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    flow = Flow(tmp_path)
    flow.hold = _FEW
    yield flow
    flow.catalogue.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_study(tmp_path / "source", key="spoilt", instances=20)
    return tmp_path / "source"


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.dcm"))


def _encrypt(path: Path) -> None:
    """Write what looks like chance in the place of a file, as long as it was."""
    path.write_bytes(os.urandom(path.stat().st_size))


def _change(path: Path) -> None:
    """Change a file that stays DICOM: its last pixel."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def _encrypt_and_rename(path: Path) -> None:
    _encrypt(path)
    path.rename(path.with_name(path.name + ".locked"))


def _accepting(
    flow: Flow, source: Path, copies: Path, selection: Selection = EVERYTHING
) -> Durable:
    wanted = DestinationRequest(str(copies), Level.PROVEN)
    request = RunRequest(
        RunKind.BACKUP, str(source), (wanted,), selection=selection, accept_changes=True
    )
    now = flow.clock.now()
    return Durable(flow.catalogue.runs.ask_for_run(new_run_id(now), request, now))


def _content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("spoil", "files"), [(_encrypt, 20), (_encrypt, 2), (_change, 10), (_encrypt_and_rename, 15)]
)
def test_a_source_that_is_spoilt_is_held_until_somebody_accepts_it(
    flow: Flow, source: Path, tmp_path: Path, spoil: Callable[[Path], None], files: int
) -> None:
    copies = tmp_path / "copies"
    flow.backup(source, str(copies))
    before = _content(copies)
    for path in _files(source)[:files]:
        spoil(path)
    for _again in range(2):  # the same run again is held again, though nothing changed since
        with pytest.raises(SourceHeldError, match="of 20 instances"):
            flow.backup(source, str(copies))
        assert _content(copies) == before
    (held,) = flow.catalogue.signs.held()
    assert held.name == str(source)
    durable = _accepting(flow, source, copies)
    flow.carry_out(durable, flow.stages())
    assert flow.report(durable).exit_status == 0
    assert flow.catalogue.signs.held() == []
    # And what was held before is still there.
    assert before.items() <= _content(copies).items()
    assert flow.backup(source, str(copies)).exit_status == 0


def test_what_is_accepted_of_a_selection_is_accepted_of_nothing_else(
    flow: Flow, source: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    good = make_study(source / "good", key="good", instances=2)
    flow.backup(source, str(copies))
    for path in _files(source / "s01") + _files(source / "good"):
        _change(path)
    with pytest.raises(SourceHeldError):
        flow.backup(source, str(copies))
    chosen = Selection(studies=(good[0].study_instance_uid,))
    durable = _accepting(flow, source, copies, chosen)
    flow.carry_out(durable, flow.stages())
    assert counts_of(flow.report(durable))["stored"] == 2
    # The rest of the source is held as it was.
    assert [held.name for held in flow.catalogue.signs.held()] == [str(source)]
    with pytest.raises(SourceHeldError):
        flow.backup(source, str(copies))


def test_a_backup_of_a_part_does_not_release_a_source_that_shows_nothing(
    flow: Flow, source: Path, tmp_path: Path
) -> None:
    flow.backup(source, str(tmp_path / "copies"))
    for path in _files(source):
        _encrypt_and_rename(path)
    with pytest.raises(SourceEmptyError):
        flow.backup(source, str(tmp_path / "copies"))
    durable = flow.ask(source, str(tmp_path / "copies"), selection=Selection(studies=("1.2.3",)))
    flow.carry_out(durable, flow.stages())
    assert [held.name for held in flow.catalogue.signs.held()] == [str(source)]


def test_what_is_spoilt_bit_by_bit_is_held_within_two_weeks_and_not_after(
    flow: Flow, source: Path, tmp_path: Path
) -> None:
    """One file of twenty each night, which no single backup holds; what is older is forgotten."""
    copies = tmp_path / "copies"
    make_study(source / "more", key="more", instances=20)
    flow.hold = HoldPolicy(instances=2)
    flow.backup(source, str(copies))
    files = _files(source)
    for night in range(8):
        flow.clock.advance(86_400)
        _change(files[night])
        assert flow.backup(source, str(copies)).exit_status == 0
    flow.clock.advance(86_400)
    _change(files[8])
    with pytest.raises(SourceHeldError, match="of 40 instances of this source 9 changed"):
        flow.backup(source, str(copies))
    (held,) = flow.catalogue.signs.held()
    assert held.signs.changed == 9
    with pytest.raises(SourceHeldError, match="within 14 days"):
        flow.backup(source, str(copies))
    durable = _accepting(flow, source, copies)
    flow.carry_out(durable, flow.stages())
    assert flow.report(durable).exit_status == 0
    # What was accepted counts no more, and what is slower than that is what people do.
    for night in range(9, 19):
        flow.clock.advance(2 * 86_400)
        _change(files[night])
        assert flow.backup(source, str(copies)).exit_status == 0


def test_a_source_of_which_every_file_has_another_name_shows_nothing(
    flow: Flow, source: Path, tmp_path: Path
) -> None:
    flow.backup(source, str(tmp_path / "copies"))
    for path in _files(source):
        _encrypt_and_rename(path)
    with pytest.raises(SourceEmptyError):
        flow.backup(source, str(tmp_path / "copies"))
    assert [held.name for held in flow.catalogue.signs.held()] == [str(source)]
    for path in sorted(source.rglob("*.locked")):
        path.rename(path.with_suffix(""))
    with pytest.raises(SourceHeldError):
        flow.backup(source, str(tmp_path / "copies"))


def test_a_look_at_the_source_does_not_hide_what_happened_from_the_run(
    flow: Flow, source: Path, tmp_path: Path
) -> None:
    """A dry run writes down what it sees, so that the run itself finds nothing new."""
    flow.backup(source, str(tmp_path / "copies"))
    for path in _files(source):
        _encrypt(path)
    wanted = RunRequest(RunKind.BACKUP, str(source), ())
    counts = select_from(
        flow.open_source(wanted),
        flow.catalogue.sources,
        None,
        include_other_files=False,
        listed=lambda _entries: None,
        open_other=lambda address: flow.open_source(replace(wanted, source=address)),
    )
    assert counts.changed == 20
    with pytest.raises(SourceHeldError):
        flow.backup(source, str(tmp_path / "copies"))


def test_what_is_put_back_holds_nothing(flow: Flow, source: Path, tmp_path: Path) -> None:
    safe = tmp_path / "safe"
    flow.backup(source, str(tmp_path / "copies"))
    shutil.copytree(source, safe)
    for path in _files(source):
        _encrypt(path)
    with pytest.raises(SourceHeldError):
        flow.backup(source, str(tmp_path / "copies"))
    for path in _files(source):
        shutil.copy(safe / path.relative_to(source), path)
    report = flow.backup(source, str(tmp_path / "copies"))
    assert report.exit_status == 0
    assert flow.catalogue.signs.held() == []


def test_a_volume_that_comes_back_holds_nothing(flow: Flow, source: Path, tmp_path: Path) -> None:
    flow.backup(source, str(tmp_path / "copies"))
    for path in _files(source)[:15]:
        path.rename(tmp_path / path.name)
    with pytest.raises(SourceHeldError, match="15 are gone"):
        flow.backup(source, str(tmp_path / "copies"))
    for path in tmp_path.glob("*.dcm"):
        path.rename(source / "s01" / path.name)
    assert flow.backup(source, str(tmp_path / "copies")).exit_status == 0


def test_a_folder_of_another_name_is_not_gone(flow: Flow, source: Path, tmp_path: Path) -> None:
    flow.backup(source, str(tmp_path / "copies"))
    (source / "s01").rename(source / "sorted")
    assert counts_of(flow.backup(source, str(tmp_path / "copies"))) == {"already_held": 20}


def test_what_is_new_is_no_sign(flow: Flow, source: Path, tmp_path: Path) -> None:
    flow.backup(source, str(tmp_path / "copies"))
    make_study(source / "more", key="more", instances=60)
    assert counts_of(flow.backup(source, str(tmp_path / "copies")))["stored"] == 60


@pytest.mark.parametrize(
    ("signs", "is_sudden"),
    [
        (SourceSigns(), False),
        (SourceSigns(known=1000, changed=200), False),  # not more than the share
        (SourceSigns(known=1000, changed=201), True),
        (SourceSigns(known=300, changed=100), False),  # not more than so many
        (SourceSigns(known=300, changed=101), True),
        (SourceSigns(known=1000, gone=500), False),
        (SourceSigns(known=1000, gone=501), True),
        (SourceSigns(known=1000, changed=20, spoilt=20), False),
        (SourceSigns(known=1000, changed=21, spoilt=21), True),
        (SourceSigns(known=0, changed=1000), False),  # nothing was there before
        (SourceSigns(known=5, changed=5, gone=5), False),
    ],
)
def test_what_is_sudden(signs: SourceSigns, is_sudden: bool) -> None:
    assert HoldPolicy().is_sudden(signs) is is_sudden


def test_the_command_says_so_and_goes_on_when_told(
    run_dcmvault: RunDcmvault, home: Path, source: Path, tmp_path: Path
) -> None:
    (home / "config.toml").write_text("[monitoring]\nhold_instances = 5\n")
    command = ("backup", source, "--to", tmp_path / "copies")
    summary_of(run_dcmvault(*command, "--json"))
    for path in _files(source):
        _encrypt(path)
    held = run_dcmvault(*command)
    assert held.returncode == 1
    assert "of 20 instances of this source 20 changed" in held.stderr
    assert "--accept-changes" in held.stderr
    assert summary_of(run_dcmvault(*command, "--json"), 1)["error"]["code"] == "source_held"
    went_on = summary_of(run_dcmvault(*command, "--accept-changes", "--json"))
    assert instances(went_on)["stored"] == 20
