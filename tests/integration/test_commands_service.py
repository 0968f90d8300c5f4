"""`dcmvault service` as a user runs it; nothing is installed on this machine."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of a user whose systemd does not answer."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nothing"))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path / 'nothing' / 'bus'}")
    return tmp_path


def test_a_dry_run_shows_all_and_does_nothing(
    run_dcmvault: RunDcmvault, home: Path, elsewhere: Path
) -> None:
    ran = run_dcmvault("service", "install", "--dry-run")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"DCMVAULT_HOME={home}" in ran.stdout
    assert "systemctl --user enable --now dcmvault.service" in ran.stdout
    ran = run_dcmvault("service", "install", "--dry-run", "--system", "--user", "radiology")
    assert "User=radiology" in ran.stdout
    ran = run_dcmvault("service", "uninstall", "--dry-run")
    assert "systemctl --user disable --now dcmvault.service" in ran.stdout
    assert not list(elsewhere.iterdir())
    assert not list(home.iterdir())


def test_a_system_that_refuses_is_quoted(
    run_dcmvault: RunDcmvault, home: Path, elsewhere: Path
) -> None:
    ran = run_dcmvault("service", "install")
    assert ran.returncode == 1
    assert "systemctl --user daemon-reload" in ran.stderr
    assert "dcmvault_" in ran.stdout
    unit = elsewhere / "config" / "systemd" / "user" / "dcmvault.service"
    assert "[Service]" in unit.read_text()
    assert stat.S_IMODE((home / "api-token.json").stat().st_mode) == 0o600
    found = run_dcmvault("service", "status", "--json")
    assert found.returncode == 1
    told = json.loads(found.stdout)
    assert (told["installed"], told["running"]) == (True, False)


@pytest.mark.parametrize(
    "options", [("--system",), ("--user", "radiology")], ids=["nobody", "nothing"]
)
def test_a_user_goes_with_the_system(
    run_dcmvault: RunDcmvault, home: Path, elsewhere: Path, options: tuple[str, ...]
) -> None:
    assert run_dcmvault("service", "install", "--dry-run", *options).returncode == 2
