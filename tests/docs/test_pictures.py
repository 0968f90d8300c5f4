"""Pictures in documents are of the product as it is: one command makes them, and all are shown."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.document_pictures import IMAGES, PICTURES

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
#: So that whoever clones the project does not load pictures.
MOST_PICTURES, MOST_BYTES = 10, 120_000


def _committed() -> dict[str, Path]:
    return {path.name: path for path in (ROOT / IMAGES).iterdir()}


def test_every_picture_in_documents_is_there() -> None:
    shown = {
        (path.parent / target).resolve()
        for path in DOCUMENTS
        for target in re.findall(r"!\[[^\]]+\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    }
    assert shown == {path.resolve() for path in _committed().values()}


def test_every_picture_is_made_by_the_command() -> None:
    assert sorted(_committed()) == sorted(one.file for one in PICTURES)


def test_pictures_are_few_and_small() -> None:
    assert len(_committed()) <= MOST_PICTURES
    large = {name: path.stat().st_size for name, path in _committed().items()}
    assert all(size <= MOST_BYTES for size in large.values()), large
