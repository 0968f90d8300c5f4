"""`config init`: what it finds on this machine, what it asks, and what it writes."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault

from dcmvault.app.detecting import Detected, detect
from dcmvault.config.load import load_settings


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a library of Horos in its documents."""
    folder = tmp_path / "home" / "Documents" / "Horos Data"
    folder.mkdir(parents=True)
    (folder / "Database.sql").touch()
    (tmp_path / "home" / "Documents" / "OsiriX Data").mkdir()  # no index: none
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder


def test_a_library_in_its_usual_place_is_found(library: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    assert detect(orthanc_port=port) == [Detected("horos", f"horos:{library}")]


@pytest.mark.peers
def test_an_orthanc_is_found(orthanc: Orthanc, tmp_path: Path) -> None:
    found = detect(tmp_path, orthanc.http_port)
    assert found == [
        Detected(
            "orthanc",
            f"orthanc+http://localhost:{orthanc.http_port}",
            as_destination=f"dicom://ORTHANC@localhost:{orthanc.dicom_port}",
        )
    ]


@pytest.mark.peers
def test_an_orthanc_with_a_password_is_found(start_orthanc: object, tmp_path: Path) -> None:
    assert callable(start_orthanc)
    orthanc = start_orthanc(AuthenticationEnabled=True, RegisteredUsers={"a": "b"})
    [found] = detect(tmp_path, orthanc.http_port)
    assert (found.needs_login, found.as_destination) == (True, "")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot json!",
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=router\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000,
        None,
    ],
    ids=["closed", "ssh", "list", "text", "another-realm", "long", "silent"],
)
def test_others_on_its_port_are_none(tmp_path: Path, answer: bytes | None) -> None:
    """Whatever listens there, a look takes seconds at most."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def serve() -> None:
            connection, _address = listening.accept()
            with connection:
                if answer is None:
                    over.wait(30)
                else:
                    try:
                        connection.sendall(answer)
                    except OSError:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        assert detect(tmp_path, listening.getsockname()[1]) == []
        over.set()
        thread.join()


def test_options_write_a_scheduled_plan(
    run_dcmvault: RunDcmvault, home: Path, library: Path, tmp_path: Path
) -> None:
    done = run_dcmvault(
        *("config", "init", "--detect", "--to", f"vault:{tmp_path}/vault"),
        *("--nightly-at", "01:30", "--pause-by-day"),
    )
    assert done.returncode == 0, done.stderr
    settings = load_settings(home / "config.toml")
    assert settings.source("main").address == f"horos:{library}"
    assert settings.plans["nightly"].destinations == ("vault",)
    assert settings.schedules["nightly"].cron == "30 1 * * *"
    assert settings.schedules["nightly"].window == "office"
    for wrong in (
        ("--nightly-at", "1:30", "--source", "/a", "--to", "/b"),
        ("--nightly-at", "01:30"),
        ("--pause-by-day",),
    ):
        assert run_dcmvault("config", "init", "--force", *wrong).returncode == 2


def test_on_a_terminal_it_asks(home: Path, library: Path, tmp_path: Path) -> None:
    """The library that was found, a source that is none, a destination, every night at one."""
    answers = ["y", "s3://nowhere", "", f"{tmp_path}/copies", "", "25:00", "01:00", "y"]
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dcmvault", "config", "init"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ.copy(),
    )
    os.close(terminal)
    os.write(controller, "".join(f"{answer}\n" for answer in answers).encode())
    out, err = process.communicate(timeout=60)
    os.close(controller)
    assert process.returncode == 0, err
    assert out.decode().strip() == str(home / "config.toml")
    assert "07:30" in err.decode()
    settings = load_settings(home / "config.toml")
    assert [one.address for one in settings.sources.values()] == [f"horos:{library}"]
    assert settings.destination("disk").section.address == f"{tmp_path}/copies"
    assert settings.schedules["nightly"].cron == "0 1 * * *"
    assert settings.windows["office"].closed[0].from_ == "08:00"
