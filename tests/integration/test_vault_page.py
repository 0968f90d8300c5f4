"""The vault page over a real vault: looked at as a whole, found sound, and found damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.rescue_world import PASSPHRASE, World
from tests.integration.test_restore_page import ended
from tests.unit.web.dashboard_world import Browser, Dashboard, dashboard_in

from dcmvault.model.account import Role
from dcmvault.testing.dicom_files import make_study, make_uid


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """A vault with two studies in one snapshot, without parity or copies."""
    for key in ("one", "two"):
        make_study(tmp_path / "source" / key, key=key, instances=2)
    world = World(tmp_path / "vault", redundant=False)
    world.snapshot(world.back_up(tmp_path / "source"))
    return tmp_path / "vault"


@pytest.fixture
def dashboard(tmp_path: Path, vault: Path) -> Iterator[Dashboard]:
    home = tmp_path / "state"
    home.mkdir()
    (home / "config.toml").write_text(f'[destinations.disk]\naddress = "vault:{vault}"\n')
    with dashboard_in(home) as opened:
        yield opened


@pytest.fixture
def operator(dashboard: Dashboard) -> Browser:
    return dashboard.logged_in(Role.OPERATOR)


def test_a_vault_shows_snapshots_keys_and_space_and_no_secret(operator: Browser) -> None:
    page = ended(operator, operator.post("/vault/look", {"vault": "disk"})).text
    assert make_uid("one") in page
    assert "passphrase" in page
    assert "Keys are changed" in page
    assert "/restore?from=disk&amp;snapshot=00000001-" in page
    assert PASSPHRASE not in page


def test_a_sound_vault_is_found_sound(dashboard: Dashboard, operator: Browser) -> None:
    for part in ("structure", "some", "all"):
        page = ended(operator, operator.post("/vault/check", {"vault": "disk", "part": part})).text
        assert "The vault is sound, as far as it was looked at" in page
    assert [one["event"] for one in dashboard.journal()].count("verify") == 3


def test_damage_is_told_with_what_to_do(operator: Browser, vault: Path) -> None:
    pack = max((vault / "packs").rglob("*"), key=lambda one: one.stat().st_size * one.is_file())
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)
    asked = {"vault": "disk", "part": "all"}
    page = ended(operator, operator.post("/vault/check", asked)).text
    assert "The vault is damaged" in page
    assert "dcmvault vault repair" in page


def test_only_configured_vaults_are_opened(operator: Browser, tmp_path: Path) -> None:
    for fields in (
        {"vault": f"vault:{tmp_path}"},
        {"vault": "/etc"},
        {"vault": "disk", "part": "everything"},
        {},
    ):
        assert operator.post("/vault/check", fields).status == 422
    assert operator.post("/vault/look", {"vault": f"vault:{tmp_path}"}).status == 422
