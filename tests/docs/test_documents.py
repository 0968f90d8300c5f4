"""Documents stay true where a machine can tell."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS]
)


@each_document
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    local = [target.split("#")[0] for target in targets if "://" not in target]
    missing = [target for target in local if target and not (path.parent / target).exists()]
    assert not missing


@each_document
def test_modules_and_targets_that_are_named_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= targets
    assert set(re.findall(r"^    make ([a-z-]+)", text, re.MULTILINE)) <= targets
    named = re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)`", text)
    missing = [
        name
        for name in named
        if not (ROOT / name).exists() and not (ROOT / "src" / "dcmvault" / name).exists()
    ]
    assert not missing


def _installed() -> set[str]:
    """Name what pip installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    requirements = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(line for extra in project["project"]["optional-dependencies"].values() for line in extra),
    ]
    names = {re.split(r"[^A-Za-z0-9_.-]", requirement)[0].lower() for requirement in requirements}
    return names - {"dcmvault"}


def _declared() -> set[str]:
    """Name what pip and npm install."""
    vendor = ROOT / "src" / "dcmvault" / "web" / "assets" / "vendor.toml"
    packages = tomllib.loads(vendor.read_text(encoding="utf-8"))["package"]
    return _installed() | {package["name"] for package in packages}


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "docs" / "explanation" / "dependencies.md").read_text(encoding="utf-8")
    explained = {
        name
        for line in text.splitlines()
        if line.startswith("|")
        for name in re.findall(r"`([A-Za-z0-9_.-]+)`", "|".join(line.split("|")[:3]))
    }
    assert _declared() <= explained, _declared() - explained
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(project["project"]["optional-dependencies"])
    assert explained - extras <= _declared(), "a reason for what is not used any more"


def test_every_dependency_is_pinned_for_the_workshop() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    assert _installed() <= pinned, _installed() - pinned


def test_decisions_are_numbered_in_order() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
