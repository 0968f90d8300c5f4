"""What branches on the platform, behind fakes of the platform: none of it was run there."""

from __future__ import annotations

import importlib
import os
import stat
import subprocess
import sys
import unicodedata
from pathlib import Path

import platformdirs
import pytest
from platformdirs.macos import MacOS

from dcmvault.app.service import service
from dcmvault.config.places import state_folder
from dcmvault.config.private_files import put_private
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.clock import FakeClock
from dcmvault.vault import freed_memory


@pytest.fixture
def macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")


def test_pages_are_not_dropped_where_they_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS and Windows have no posix_fadvise: the store says so, and reads all the same."""
    store = LocalStore(tmp_path, FakeClock())
    store.put("ab/object", [b"content"])
    assert store.evict("ab/object")
    monkeypatch.delattr(os, "posix_fadvise")
    for platform in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        assert not store.evict("ab/object")
        assert store.get("ab/object") == b"content"


def test_freed_memory_is_left_to_the_allocator(macos: None) -> None:
    try:
        assert importlib.reload(freed_memory)._trim is None
        freed_memory.give_back()
    finally:
        sys.platform = "linux"
        importlib.reload(freed_memory)


def test_the_service_is_an_agent_of_the_user(macos: None, tmp_path: Path) -> None:
    one = service(Settings(), tmp_path, is_system=False, user="")
    assert one.path.parent.parts[-2:] == ("Library", "LaunchAgents")
    assert one.content.startswith("<?xml")
    assert {command[0] for command in (*one.install, *one.uninstall)} == {"launchctl"}
    with pytest.raises(UsageError, match="agent of a user"):
        service(Settings(), tmp_path, is_system=True, user="radiology")


def test_a_platform_without_services_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", "freebsd14")
    with pytest.raises(UsageError, match="systemd"):
        service(Settings(), tmp_path, is_system=False, user="")


def test_the_state_folder_is_where_the_platform_keeps_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DCMVAULT_HOME")
    monkeypatch.setattr(platformdirs, "PlatformDirs", MacOS)
    assert state_folder() == Path.home() / "Library" / "Application Support" / "dcmvault"


def test_private_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        put_private(tmp_path / "secret", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_read_in_either_form_of_unicode(form: str, tmp_path: Path) -> None:
    """HFS+ decomposes names, APFS keeps them as they are: both lead to the state folder."""
    name = unicodedata.normalize(form, "Jo\u00e3o")  # type: ignore[arg-type]
    (tmp_path / name).mkdir()
    with pytest.MonkeyPatch.context() as env:
        env.setenv("DCMVAULT_HOME", str(tmp_path / name))
        assert state_folder().is_dir()


def test_windows_is_refused_with_a_sentence() -> None:
    code = "import sys; sys.platform = 'win32'; import dcmvault.cli"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("Use WSL 2, or a container.")
    assert "Traceback" not in done.stderr
