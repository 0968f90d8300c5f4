"""The site of the documents: made without a warning, and it loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: What a browser fetches by itself; links that people follow may lead anywhere.
LOADED = re.compile(
    r"<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, made as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    made = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs"),
            *("-d", str(folder / "doctrees"), ".", str(folder / "html")),
        ],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=240,
    )
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""
    return folder / "html"


def test_every_page_is_in_it(site: Path) -> None:
    """And in its navigation: a page in no table of contents is a warning."""
    pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    missing = [
        page for page in pages if not (site / page.relative_to(ROOT)).with_suffix(".html").is_file()
    ]
    assert not missing


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    found = {
        f"{page.relative_to(site)}: {address}"
        for page in site.rglob("*.html")
        for address in LOADED.findall(page.read_text(encoding="utf-8"))
    }
    assert not found
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"(?:@import\s+|url\()[\"']?(?:https?:)?//", text), sheet


def test_there_is_a_search_that_needs_no_service(site: Path) -> None:
    assert (site / "search.html").is_file()
    assert "support" in (site / "searchindex.js").read_text(encoding="utf-8")
