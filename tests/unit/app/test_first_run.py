"""From answers to the configuration: every preset is sound, and answers may change."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmvault.app.configuring import current_digest, propose_change, save_configuration
from dcmvault.app.first_run import (
    PLAN,
    drafted_destination,
    drafted_source,
    edits_of,
    enabling,
    preset_hours,
)
from dcmvault.app.first_run_draft import Draft, When, drop_draft, keep_draft, load_draft
from dcmvault.config.load import load_settings
from dcmvault.config.places import config_path
from dcmvault.config.week_grid import ALL_HOURS, grid_of
from dcmvault.errors import ConfigurationChangedError
from dcmvault.model.audit import Actor, ActorKind

_ME = Actor(ActorKind.WEB, "me", "127.0.0.1")


def _draft(when: When = When.NIGHTS, hours: frozenset[tuple[int, int]] = frozenset()) -> Draft:
    source = drafted_source("/studies", {}, ())
    pacs = drafted_destination("dicom://PACS@pacs.example:104", {"level": "complete"}, ())
    vault = drafted_destination("vault:/copies", {"passphrase": "file:/x"}, ())
    return Draft(
        language="pt-BR",
        sources=(source,),
        destinations=(pacs, vault),
        when=when,
        hours=hours,
        rate="2 MB/s",
        channel={"channel": "webhook", "url": "env:HOOK"},
    )


@pytest.mark.parametrize("when", When)
def test_every_preset_becomes_a_sound_configuration(tmp_path: Path, when: When) -> None:
    painted = frozenset((day, hour) for day in range(5) for hour in (1, 2, 3, 22, 23))
    edits = edits_of(tmp_path, _draft(when, painted))
    saved = save_configuration(tmp_path, edits, digest="", actor=_ME)
    settings = load_settings(config_path(tmp_path))
    assert settings.plans[PLAN].destinations == ("pacs", "vault")
    assert settings.bandwidth.rate == "2 MB/s"
    assert settings.language == "pt-BR"
    schedule = settings.schedules[PLAN]
    assert not schedule.enabled
    window = settings.windows.get(schedule.window)
    expected = preset_hours(when, painted)
    assert (grid_of(window) if window else ALL_HOURS) == expected
    assert "language" in saved.after_restart
    assert "sources.folder" in saved.keys
    assert "sources.folder" not in saved.after_restart


def test_answers_that_change_are_written_over_those_before(tmp_path: Path) -> None:
    first = save_configuration(tmp_path, edits_of(tmp_path, _draft()), digest="", actor=_ME)
    again = propose_change(tmp_path, edits_of(tmp_path, _draft()))
    assert again.diff == ""
    assert again.digest == current_digest(tmp_path) != first.digest
    for when in When:
        painted = frozenset({(1, 4), (2, 5)})
        edits = edits_of(tmp_path, _draft(when, painted))
        save_configuration(tmp_path, edits, digest=current_digest(tmp_path), actor=_ME)
        settings = load_settings(config_path(tmp_path))
        window = settings.windows.get(settings.schedules[PLAN].window)
        assert (grid_of(window) if window else ALL_HOURS) == preset_hours(when, painted)
    save_configuration(tmp_path, enabling(True), digest=current_digest(tmp_path), actor=_ME)
    assert load_settings(config_path(tmp_path)).schedules[PLAN].enabled


def test_a_save_is_written_down_with_who_and_what(tmp_path: Path) -> None:
    save_configuration(tmp_path, edits_of(tmp_path, _draft()), digest="", actor=_ME)
    journal = "".join(p.read_text() for p in (tmp_path / "audit").glob("*.jsonl"))
    assert "configuration.changed" in journal
    assert '"me"' in journal
    assert "plans.main" in journal
    with pytest.raises(ConfigurationChangedError):
        save_configuration(tmp_path, enabling(True), digest="0" * 64, actor=_ME)


def test_a_draft_comes_back_and_only_we_may_read_it(tmp_path: Path) -> None:
    assert load_draft(tmp_path) == Draft()
    draft = _draft(When.PAINTED, frozenset({(0, 1), (6, 23)}))
    keep_draft(tmp_path, draft)
    assert load_draft(tmp_path) == draft
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    drop_draft(tmp_path)
    assert load_draft(tmp_path) == Draft()


@given(st.binary(max_size=200))
@settings(max_examples=15)
def test_a_damaged_draft_is_a_new_one(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    home = tmp_path_factory.mktemp("home")
    keep_draft(home, _draft())
    file = home / "first-run.json"
    kept = file.read_bytes()
    for damaged in (data, kept[: len(kept) // 2] + data + kept[len(kept) // 2 :]):
        file.write_bytes(damaged)
        assert isinstance(load_draft(home), Draft)
