"""The rules of the house that no linter has a switch for."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "dcmvault"
MODULES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in MODULES]

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_CLASS_METHODS = 15
MAX_PORT_METHODS = 8

#: Names that say nothing about what a class does.
EMPTY_CLASS_WORDS = {"manager", "engine", "optimizer", "helper", "processor", "util", "utils"}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}
#: Synonyms of study, series, instance, peer, destination and delivery.
SYNONYMS = {"image", "images", "exam", "exams", "server", "upload", "uploads", "sync"}

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

modules = pytest.mark.parametrize("path", MODULES, ids=IDS)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _definitions(path: Path) -> Iterator[FunctionNode | ast.ClassDef]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


def _words(name: str) -> list[str]:
    """Split snake_case and CamelCase into lower-case words."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


@modules
def test_modules_functions_and_classes_stay_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_MODULE_LINES, f"{lines} lines"
    for node in _definitions(path):
        if isinstance(node, ast.ClassDef):
            # The cases of a conformance suite are a list, not an interface.
            methods = sum(
                isinstance(part, FunctionNode) and not part.name.startswith("test_")
                for part in node.body
            )
            assert methods <= MAX_CLASS_METHODS, f"{node.name} has {methods} methods"
        else:
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


def test_ports_stay_small() -> None:
    for path in MODULES:
        if path.parent.name != "ports":
            continue
        for node in _definitions(path):
            if isinstance(node, ast.ClassDef):
                methods = sum(isinstance(part, FunctionNode) for part in node.body)
                assert methods <= MAX_PORT_METHODS, f"{node.name} has {methods} methods"


@modules
def test_public_names_have_docstrings(path: Path) -> None:
    tree = _tree(path)
    assert ast.get_docstring(tree), "the module says nothing"

    def check(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if not isinstance(node, FunctionNode | ast.ClassDef) or node.name.startswith("_"):
                continue
            overrides = any(
                isinstance(mark, ast.Name) and mark.id in {"override", "overload"}
                for mark in node.decorator_list
            )
            assert overrides or ast.get_docstring(node), f"{prefix}{node.name} says nothing"
            if isinstance(node, ast.ClassDef):
                check(node.body, f"{node.name}.")

    check(tree.body, "")


@modules
def test_names_are_the_words_of_the_house(path: Path) -> None:
    assert not DRAWERS & {path.stem, path.parent.name}
    for node in _definitions(path):
        words = _words(node.name)
        if not node.name.startswith("_"):
            assert not SYNONYMS.intersection(words), node.name
        if isinstance(node, ast.ClassDef):
            assert words[-1] not in EMPTY_CLASS_WORDS, node.name


@pytest.mark.parametrize(
    ("contract", "knows"),
    [
        ("dicom-libraries", {"dicom", "testing"}),
        ("durable-engine", {"engine"}),
        # The engine hands a database connection of its own to the durable engine.
        ("catalogue-database", {"catalogue", "engine", "testing"}),
    ],
)
def test_a_new_package_is_bound_by_the_contracts_too(contract: str, knows: set[str]) -> None:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (bound,) = (
        set(entry["source_modules"])
        for entry in settings["tool"]["importlinter"]["contracts"]
        if entry["id"] == contract
    )
    packages = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.is_dir() and (path / "__init__.py").exists()) or path.suffix == ".py"
    }
    expected = packages - knows - {"__init__", "__main__"}
    assert bound == {f"dcmvault.{name}" for name in expected}
