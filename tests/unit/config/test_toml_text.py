"""What is nested without end is refused as what is no TOML is: in a sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from dcmvault.config.editing import PutTables, edited
from dcmvault.config.load import load_settings
from dcmvault.config.places import configured_language
from dcmvault.config.toml_text import read_toml
from dcmvault.errors import ConfigurationError


@pytest.mark.parametrize("depth", [49, 51, 120, 100_000])
def test_what_is_nested_too_deeply_is_refused(depth: int, tmp_path: Path) -> None:
    text = f"x = {'[' * depth}{']' * depth}"
    if depth < 50:
        assert list(read_toml(text)) == ["x"]
        return
    with pytest.raises(tomllib.TOMLDecodeError, match="nested too deeply"):
        read_toml(text)
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        load_settings(path)
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        edited("", [PutTables(("rules",), f"rules = {'[' * depth}{']' * depth}")])
    assert configured_language(path) == ""


def test_tables_count_too() -> None:
    with pytest.raises(tomllib.TOMLDecodeError, match="nested too deeply"):
        read_toml(f"[{'.'.join('abc' * 20)}]")
