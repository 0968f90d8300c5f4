"""`dcmvault listen`: pushed, settled, backed up, cleared; and what does not go so smoothly."""

from __future__ import annotations

import time
from pathlib import Path

import pydicom
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.listen_story import Listen, configure, held_in, in_spool
from tests.integration.listener_world import dcmsend, echoes

from dcmvault.testing.dicom_files import MadeInstance, make_study
from dcmvault.testing.peers import SimulatedPacs


def _ran(event: dict[str, object]) -> bool:
    return event["event"] == "run"


def test_pushed_and_protected_in_two_places(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    """Each study is backed up when it has settled, and leaves the spool when both hold it."""
    port = configure(home)
    first = make_study(tmp_path / "s1", key="listen-1", instances=5)
    second = make_study(tmp_path / "s2", key="listen-2", instances=3)
    copies = tmp_path / "copies"
    with SimulatedPacs() as pacs:
        listen = Listen(start_dcmvault, copies, f"dicom://SIMULATED@127.0.0.1:{pacs.port}")
        assert dcmsend(port, tmp_path / "s1").returncode == 0
        run = listen.until(_ran)
        assert run["instances"]["stored"] == 5 * 2
        assert run["exit_status"] == 0
        assert listen.until(lambda event: event["event"] == "cleared")["instances"] == 5
        assert dcmsend(port, tmp_path / "s2").returncode == 0
        assert listen.until(_ran)["instances"]["stored"] == 3 * 2
        assert listen.until(lambda event: event["event"] == "cleared")["instances"] == 3
        assert in_spool(home) == []
        assert listen.stop() == 0
        uids = {one.sop_instance_uid for one in [*first, *second]}
        assert held_in(copies) == uids
        assert pacs.held() == uids
    status = run_dcmvault("status").stdout
    assert "gone" not in status


def test_a_destination_that_is_away(
    start_dcmvault: StartDcmvault, home: Path, tmp_path: Path
) -> None:
    """What a destination does not hold stays in the spool, and the listener goes on taking."""
    port = configure(home)
    make_study(tmp_path / "s", key="away", instances=2)
    with SimulatedPacs() as pacs:
        away = f"dicom://SIMULATED@127.0.0.1:{pacs.port}"
    listen = Listen(start_dcmvault, tmp_path / "copies", away)
    assert dcmsend(port, tmp_path / "s").returncode == 0
    assert listen.until(_ran)["exit_status"] != 0
    assert len(in_spool(home)) == 2
    assert echoes(port)
    assert listen.stop() == 0


def test_kept_for_days(start_dcmvault: StartDcmvault, home: Path, tmp_path: Path) -> None:
    """Instances that every destination holds stay as long as was asked for."""
    port = configure(home, keep_days=1)
    make_study(tmp_path / "s", key="kept", instances=2)
    listen = Listen(start_dcmvault, tmp_path / "copies")
    assert dcmsend(port, tmp_path / "s").returncode == 0
    assert listen.until(_ran)["exit_status"] == 0
    assert listen.stop() == 0
    assert len(in_spool(home)) == 2


def test_a_receipt_alone_lets_nothing_go(
    start_dcmvault: StartDcmvault, home: Path, tmp_path: Path
) -> None:
    """A level below “complete” is no reason to remove anything."""
    port = configure(home)
    make_study(tmp_path / "s", key="claims", instances=2)
    with SimulatedPacs() as pacs:
        to = ("--to", f"dicom://SIMULATED@127.0.0.1:{pacs.port}", "--verify", "sent")
        process = start_dcmvault("listen", *to, "--json", "--progress", "none")
        assert process.stdout is not None
        assert "listening" in process.stdout.readline()
        assert dcmsend(port, tmp_path / "s").returncode == 0
        assert '"run"' in process.stdout.readline()
        process.terminate()
        out, _err = process.communicate(timeout=60)
        assert "cleared" not in out
        assert process.returncode == 0
    assert len(in_spool(home)) == 2


def test_backup_of_the_spool_by_hand(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    """`listener:` is a source like any other, also while nobody listens."""
    port = configure(home, settle_s=3600, keep_days=7)
    make_study(tmp_path / "s", key="by hand", instances=2)
    listen = Listen(start_dcmvault, tmp_path / "copies")
    assert dcmsend(port, tmp_path / "s").returncode == 0
    assert listen.stop() == 0
    assert not (tmp_path / "copies").exists() or not held_in(tmp_path / "copies")
    configure(home, settle_s=0)
    ran = run_dcmvault("backup", "listener:", "--to", tmp_path / "copies")
    assert ran.returncode == 0, ran.stderr
    assert len(held_in(tmp_path / "copies")) == 2


def test_an_occupied_port(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    """A second listener is told why it cannot listen, with a status."""
    configure(home)
    Listen(start_dcmvault, tmp_path / "copies")
    second = run_dcmvault("listen", "--to", tmp_path / "copies")
    assert second.returncode == 1
    assert "another listener has this spool" in second.stderr
    config = home / "config.toml"
    config.write_text(config.read_text() + f'\nfolder = "{tmp_path}/other"\n')
    third = run_dcmvault("listen", "--to", tmp_path / "copies")
    assert third.returncode == 1
    assert "cannot listen on port" in third.stderr


def test_what_comes_while_a_backup_runs(
    start_dcmvault: StartDcmvault, home: Path, tmp_path: Path
) -> None:
    """Studies that come one after the other all arrive, whatever run takes them."""
    port = configure(home, settle_s=0.2)
    made: list[MadeInstance] = []
    listen = Listen(start_dcmvault, tmp_path / "copies")
    for number in range(8):
        made += make_study(tmp_path / str(number), key=f"stream-{number}", instances=4)
        assert dcmsend(port, tmp_path / str(number)).returncode == 0
    deadline = time.monotonic() + 60
    while in_spool(home) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert listen.stop() == 0
    assert held_in(tmp_path / "copies") == {one.sop_instance_uid for one in made}


def test_two_contents_under_one_uid(
    start_dcmvault: StartDcmvault, home: Path, tmp_path: Path
) -> None:
    """Both are kept, in the spool and at a destination that can hold both."""
    port = configure(home, settle_s=1)
    (made,) = make_study(tmp_path / "first", key="conflict", instances=1)
    data_set = pydicom.dcmread(made.path)
    data_set.StudyDescription = "another one"
    (tmp_path / "second").mkdir()
    data_set.save_as(tmp_path / "second" / "x.dcm")
    listen = Listen(start_dcmvault, tmp_path / "copies")
    assert dcmsend(port, tmp_path / "first").returncode == 0
    assert dcmsend(port, tmp_path / "second").returncode == 0
    run = listen.until(_ran)
    assert run["instances"]["stored"] == 2
    assert listen.until(lambda event: event["event"] == "cleared")["instances"] == 2
    assert listen.stop() == 0
    copies = [pydicom.dcmread(path) for path in (tmp_path / "copies").rglob("*.dcm")]
    assert {one.StudyDescription for one in copies} == {"Synthetic study", "another one"}
