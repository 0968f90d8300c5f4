"""Saving a changed configuration: sound, at once, and never over what somebody else wrote."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dcmvault.config.editing import AddTable, SetKey
from dcmvault.config.load import load_settings
from dcmvault.config.saving import make_change, previous_path, read_configuration, save_change
from dcmvault.config.secret_files import drop_secret, keep_secret
from dcmvault.config.secrets import resolve
from dcmvault.errors import ConfigurationChangedError, ConfigurationError, UsageError


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_the_commented_template_with_the_edits(tmp_path: Path) -> None:
    path = tmp_path / "state" / "config.toml"
    change = make_change(
        read_configuration(path), [AddTable(("sources", "main"), {"address": "/studies"})]
    )
    assert "+[sources.main]" in change.diff
    assert not path.exists()
    save_change(change)
    assert load_settings(path).sources["main"].address == "/studies"
    assert _mode(path) == 0o600
    assert _mode(path.parent) == 0o700
    assert not previous_path(path).exists()


def test_the_version_before_is_kept_and_a_link_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.toml"
    real.write_text('# mine\nlanguage = "en"\n')
    path = tmp_path / "config.toml"
    path.symlink_to(real)
    change = make_change(read_configuration(path), [SetKey(("language",), "pt-BR")])
    assert change.diff.splitlines()[-2:] == ['-language = "en"', '+language = "pt-BR"'] or (
        '-language = "en"' in change.diff
    )
    save_change(change)
    assert path.is_symlink()
    assert real.read_text() == '# mine\nlanguage = "pt-BR"\n'
    assert previous_path(real).read_text() == '# mine\nlanguage = "en"\n'
    assert _mode(previous_path(real)) == 0o600


def test_what_somebody_wrote_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('language = "en"\n')
    change = make_change(read_configuration(path), [SetKey(("language",), "pt-BR")])
    path.write_text('language = "en"\nprivacy = "ids"\n')
    with pytest.raises(ConfigurationChangedError):
        save_change(change)
    assert "privacy" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_a_wrong_change_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('language = "en"\n')
    with pytest.raises(ConfigurationError, match=r"config.toml, line 1, language"):
        make_change(read_configuration(path), [SetKey(("language",), "fr")])
    with pytest.raises(ConfigurationError, match="There is no plan"):
        make_change(
            read_configuration(path),
            [AddTable(("schedules", "x"), {"plan": "none", "every": "1h"})],
        )
    assert path.read_text() == 'language = "en"\n'


def test_a_secret_lies_in_a_file_of_its_own_and_is_found_by_its_reference(tmp_path: Path) -> None:
    reference = keep_secret(tmp_path, "pacs/../x", "pass word: ção")
    assert resolve(reference) == "pass word: ção"
    file = Path(reference.removeprefix("file:"))
    assert file.parent == tmp_path / "secrets"
    assert _mode(file) == 0o600
    assert _mode(file.parent) == 0o700
    again = keep_secret(tmp_path, "pacs/../x", "another")
    assert resolve(reference) == "pass word: ção"
    drop_secret(tmp_path, again)
    drop_secret(tmp_path, f"file:{tmp_path / 'config.toml'}")
    assert list(file.parent.iterdir()) == [file]
    for wrong in ("", "two\nlines", "\x00", "x" * 5000):
        with pytest.raises(UsageError):
            keep_secret(tmp_path, "x", wrong)
