"""kill -9 while several send: what was answered with 0000 is delivered after the next start."""

from __future__ import annotations

import random
import re
import subprocess
import time
from pathlib import Path

import pytest
from tests.conftest import StartDcmvault
from tests.integration.listen_story import Listen, configure, held_in, in_spool
from tests.integration.listener_world import AE_TITLE

from dcmvault.testing.dicom_files import make_study

SENDERS = 4
EACH = 60
_RESPONSE = re.compile(
    r"Message Type +: C-STORE RSP.*?Affected SOP Instance UID +: ([0-9.]+)"
    r".*?DIMSE Status +: 0x([0-9a-f]{4})",
    re.DOTALL,
)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed-listener")
    for number in range(SENDERS):
        key = f"killed-listener-{number}"
        make_study(folder / str(number), key=key, instances=EACH, rows=128)
    return folder


def _answered(log: Path) -> set[str]:
    """Read from storescu's log which SOP Instance UIDs were answered with 0000."""
    text = log.read_text(errors="replace")
    return {uid for uid, status in _RESPONSE.findall(text) if status == "0000"}


def _send(port: int, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    options = ["-v", "-d", "-aec", AE_TITLE, "--scan-directories", "--recurse"]
    with log.open("wb") as stream:
        return subprocess.Popen(
            ["storescu", *options, "127.0.0.1", str(port), str(folder)],
            stdout=stream,
            stderr=stream,
        )


def _kill_and_start_again(
    start: StartDcmvault, home: Path, tmp_path: Path, studies: Path, seed: int
) -> None:
    port = configure(home, settle_s=0.3)
    destination = tmp_path / "copies"
    moment = random.Random(seed).randrange(SENDERS * EACH)
    logs = [tmp_path / f"{number}.log" for number in range(SENDERS)]
    listen = Listen(start, destination)
    senders = [_send(port, studies / str(n), log) for n, log in enumerate(logs)]
    try:
        while len(in_spool(home)) < moment and any(one.poll() is None for one in senders):
            time.sleep(0.002)
    finally:
        listen.process.kill()
        listen.process.communicate()
        for sender in senders:
            sender.wait(60)
    answered = set().union(*map(_answered, logs))
    assert len(answered) >= moment - SENDERS, "the answers can be read from the logs"
    again = Listen(start, destination)
    deadline = time.monotonic() + 60
    while in_spool(home) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert again.stop() == 0
    assert answered <= held_in(destination), (seed, len(answered))


@pytest.mark.parametrize("seed", range(10))
def test_killed_under_load(
    start_dcmvault: StartDcmvault, home: Path, tmp_path: Path, studies: Path, seed: int
) -> None:
    _kill_and_start_again(start_dcmvault, home, tmp_path, studies, seed)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100, 150))
def test_killed_under_load_fifty_times(
    start_dcmvault: StartDcmvault, home: Path, tmp_path: Path, studies: Path, seed: int
) -> None:
    _kill_and_start_again(start_dcmvault, home, tmp_path, studies, seed)
