"""What the system reads to run the daemon, checked by what reads it."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from dcmvault.app.service_files import launchd_agent, systemd_unit

ODD = Path('/state of "somebody" with 100% $HOME\\')


def _verify(unit: str, folder: Path, *options: str) -> None:
    """Ask systemd itself, where it is installed."""
    path = folder / "dcmvault.service"
    path.write_text(unit)
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    done = subprocess.run(
        [analyze, "verify", *options, path],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
    )
    assert (done.returncode, "dcmvault.service" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("home", [Path("/var/lib/dcmvault"), ODD])
def test_a_unit_of_a_user_is_one_that_systemd_takes(tmp_path: Path, home: Path) -> None:
    unit = systemd_unit(["/bin/true", "serve"], home)
    _verify(unit, tmp_path, "--user")
    assert "User=" not in unit
    assert "NoNewPrivileges=yes" in unit


def test_a_unit_of_the_system_has_no_rights_that_it_does_not_need(tmp_path: Path) -> None:
    unit = systemd_unit(["/bin/true", "serve"], ODD, user="daemon", ports=[8765, 11112])
    _verify(unit, tmp_path)
    assert "User=daemon\n" in unit
    assert "CapabilityBoundingSet=\n" in unit
    assert "AmbientCapabilities=\n" in unit
    low = systemd_unit(["/bin/true"], ODD, user="daemon", ports=[8765, 104])
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" in low


def test_words_stay_words() -> None:
    unit = systemd_unit(["/opt/a b/dcmvault", 'say "50%" $now'], ODD)
    assert 'ExecStart="/opt/a b/dcmvault" "say \\"50%%\\" $$now"\n' in unit
    assert 'Environment="DCMVAULT_HOME=/state of \\"somebody\\" with 100%% $HOME\\\\"' in unit


def test_an_agent_comes_back_unless_it_ended_well() -> None:
    agent = plistlib.loads(launchd_agent("org.example", ["/a b/dcmvault", "serve"], ODD).encode())
    assert agent["ProgramArguments"] == ["/a b/dcmvault", "serve"]
    assert agent["EnvironmentVariables"] == {"DCMVAULT_HOME": str(ODD)}
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["Umask"] == 0o077
