"""Where the state folder and the configuration file are; cheap enough for `--help`."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import platformdirs

#: The configuration file inside the state folder.
CONFIG_NAME = "config.toml"


def state_folder() -> Path:
    """Return the state folder: DCMVAULT_HOME, else the platform's folder for user data.

    It may not exist yet.
    """
    if home := os.environ.get("DCMVAULT_HOME"):
        return Path(os.path.abspath(Path(home).expanduser()))  # noqa: PTH100 (lexical, as addresses)
    return Path(platformdirs.user_data_dir("dcmvault", appauthor=False))


def config_path(home: Path) -> Path:
    """Return where the configuration of a state folder lies, whether or not it exists."""
    return home / CONFIG_NAME


def configured_language(path: Path) -> str:
    """Return the `language` of a configuration file, or nothing.

    Never raises: it is asked before anything can be said, and loading names what is wrong.
    """
    try:
        with path.open("rb") as file:
            language = tomllib.load(file).get("language", "")
    except (OSError, ValueError, RecursionError):
        return ""
    return language if isinstance(language, str) else ""
