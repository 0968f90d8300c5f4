"""How `make docs` turns these pages into a site: Sphinx reads this file."""

from __future__ import annotations

import tomllib
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "dcmvault"
author = "The dcmvault developers"
project_copyright = author
version = release = _PROJECT["version"]

extensions = ["myst_parser"]
myst_heading_anchors = 3
# Titles are said once, in the first heading; a page may begin at any depth below it.
suppress_warnings = ["myst.header"]
root_doc = "docs/index"
source_suffix = {".md": "markdown"}
# Pages link to those above this folder, so the source is the whole checkout, and of it only pages.
include_patterns = ["docs/*.md", "docs/**/*.md", "*.md", "examples/*/README.md"]
exclude_patterns = [".*", "build", "dist", "bench", "src", "tests", "tools", "scripts"]

html_theme = "furo"
html_title = f"dcmvault {release}"
html_copy_source = False
html_show_sourcelink = False
html_static_path: list[str] = []
html_favicon = "../src/dcmvault/web/assets/icon.svg"
