"""A vault that became older, or another one: no backup goes on as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.story import QUICK_RETRIES

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.cli.main import run
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.dicom_files import make_study
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.repository import open_vault
from dcmvault.vault.retention import forget_snapshots
from dcmvault.vault.slots import Argon2Cost, Passphrase

_PASSPHRASE = "correct horse battery"
_COST = Argon2Cost(iterations=1, lanes=1, memory_kib=64)


def _make_vault(folder: Path) -> None:
    folder.mkdir()
    store = LocalStore(folder, SystemClock())
    init_vault(store, [(Passphrase(_PASSPHRASE), "me")], SystemClock(), cost=_COST)


class _Place:
    """A source, a vault, and the commands between them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.vault = folder / "vault"
        self.source = folder / "source"

    def add(self, key: str) -> None:
        make_study(self.source / key, key=key, instances=2)

    def back_up(self, source: Path | None = None, *, status: int = 0) -> dict[str, Any]:
        return self._run(status, "backup", source or self.source, "--to")

    def verify(self, *, status: int = 0) -> dict[str, Any]:
        return self._run(status, "verify", self.source, "--at")

    def _run(self, status: int, command: str, source: Path, option: str) -> dict[str, Any]:
        self._capsys.readouterr()
        arguments = [command, str(source), option, f"vault:{self.vault}", "--json"]
        assert run([*arguments, "--progress", "none"]) == status
        summary = json.loads(self._capsys.readouterr().out)
        assert isinstance(summary, dict)
        return summary


@pytest.fixture
def place(
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> _Place:
    (home / "config.toml").write_text(QUICK_RETRIES)
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", _PASSPHRASE)
    place = _Place(tmp_path, capsys)
    _make_vault(place.vault)
    place.add("first")
    place.back_up()
    shutil.copytree(place.vault, tmp_path / "older")
    place.add("second")
    assert place.back_up()["instances"]["stored"] == 2
    return place


def _remove_newest_snapshot(place: _Place) -> None:
    newest = max(path.name for path in (place.vault / "snapshots").iterdir())
    for path in place.vault.rglob(newest):
        path.unlink()


def _put_older_copy_there(place: _Place) -> None:
    shutil.rmtree(place.vault)
    shutil.copytree(place.folder / "older", place.vault)


def _put_new_vault_there(place: _Place) -> None:
    shutil.rmtree(place.vault)
    _make_vault(place.vault)


def test_nothing_goes_on_until_the_vault_was_verified(place: _Place) -> None:
    _put_older_copy_there(place)
    # Nothing is due: still it is not called a success.
    (destination,) = place.back_up(status=5)["destinations"]
    assert destination["snapshot_failure"]["code"] == "vault_set_back"
    # Something is due: it does not go there.
    place.add("third")
    report = place.back_up(status=5)
    assert report["instances"]["stored"] == 0
    assert {failure["code"] for failure in report["failures"]} == {"vault_set_back"}
    # The verification says what is missing, and takes the vault as it is.
    report = place.verify(status=3)
    codes = [failure["code"] for failure in report["failures"]]
    assert codes.count("missing") == 2
    assert any("are gone" in warning for warning in report["warnings"])
    assert place.back_up()["instances"]["stored"] == 4
    report = place.verify()
    assert (report["instances"]["stored"], report["warnings"]) == (6, [])


@pytest.mark.parametrize(("do", "lost"), [(_remove_newest_snapshot, 2), (_put_new_vault_there, 4)])
def test_a_lost_snapshot_and_another_vault_are_noticed(
    place: _Place, do: Callable[[_Place], None], lost: int
) -> None:
    do(place)
    place.back_up(status=5)
    failures = place.verify(status=3)["failures"]
    assert [failure["code"] for failure in failures] == ["missing"] * lost
    assert place.back_up()["instances"]["stored"] == lost


def test_copies_of_other_sources_are_looked_for_before_they_count_again(place: _Place) -> None:
    other = place.folder / "other"
    make_study(other, key="other", instances=3)
    assert place.back_up(other)["instances"]["stored"] == 3
    _put_older_copy_there(place)
    place.verify(status=3)
    assert place.back_up(other)["instances"]["stored"] == 3
    assert place.back_up(other)["instances"]["already_held"] == 3


def test_a_snapshot_that_was_forgotten_elsewhere_is_no_alarm(place: _Place) -> None:
    store = LocalStore(place.vault, SystemClock())
    vault = open_vault(store, [Passphrase(_PASSPHRASE)], SystemClock())
    forget_snapshots(vault, [vault.links()[0].name])
    place.add("third")
    assert place.back_up()["instances"]["stored"] == 2
