"""The reference of JSON has every key, with a meaning, and what is printed is as it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from scripts import json_reference
from scripts.json_shapes import ANY, NULL, NUMBER, TIME, TRUTH, Shape
from tests.conftest import RunDcmvault

from dcmvault import i18n
from dcmvault.cli.main import run
from dcmvault.testing.dicom_files import make_study


@pytest.fixture(scope="module")
def page() -> tuple[json_reference.Page, str]:
    page = json_reference.Page()
    return page, page.text()


def test_the_page_is_as_the_code_is(page: tuple[json_reference.Page, str]) -> None:
    written = json_reference.PAGE.read_text("utf-8")
    assert written == page[1], "run: python -m scripts.json_reference"


def test_every_key_has_a_meaning_and_a_kind(page: tuple[json_reference.Page, str]) -> None:
    assert not page[0].unexplained
    rows = [line for line in page[1].splitlines() if line.startswith("| `")]
    assert len(rows) > 900
    unknown = [row for row in rows if ANY in row.split("|")[2].replace(":", " ").split()]
    assert not unknown


def test_every_meaning_is_used(page: tuple[json_reference.Page, str]) -> None:
    assert json_reference.meanings()["meanings"].keys() == page[0].used


def _breaches(value: object, shape: Shape, path: str) -> Iterator[str]:
    """Say where a value is not as the shape says."""
    if isinstance(value, dict) and (shape.keys is not None or shape.named is not None):
        keys = shape.keys or {}
        for name, one in value.items():
            inside = keys.get(name) or shape.named
            if inside is None:
                yield f"{path}.{name} is not in the reference"
            else:
                yield from _breaches(one, inside, f"{path}.{name}")
        for name in keys.keys() - shape.some - value.keys():
            yield f"{path}.{name} is in the reference only"
    elif isinstance(value, list):
        if shape.items is None and value and ANY not in shape.kinds:
            yield f"{path} has items"
        for one in value:
            yield from _breaches(one, shape.items or Shape({ANY: None}), f"{path}[]")
    elif ANY not in shape.kinds and not _is_of(value, shape.kinds):
        yield f"{path} is {value!r}, not {list(shape.kinds)}"


def _is_of(value: object, kinds: dict[str, None]) -> bool:
    if value is None:
        return NULL in kinds
    if isinstance(value, bool):
        return TRUTH in kinds
    if isinstance(value, int | float):
        return NUMBER in kinds
    if isinstance(value, str) and TIME in kinds:
        return datetime.fromisoformat(value).tzinfo is not None
    words = " · ".join(one for one in kinds if one.startswith("`"))
    return not words or f"`{value}`" in words or value == "" or "text" in kinds


def test_what_is_printed_is_as_the_reference_says(
    tmp_path: Path,
    home: Path,
    run_dcmvault: RunDcmvault,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The reader of the code is right about what a backup and all that looks at it print."""
    i18n.use_language("en")
    root = tmp_path
    source, vault = root / "studies", f"vault:{root / 'vault'}"
    files = make_study(source, key="told", instances=2, rows=8, columns=8)
    (source / "broken.dcm").write_bytes(files[0].path.read_bytes()[:200])
    known: dict[str, list[Shape]] = {}
    for _chapter, title, shape in json_reference.roots():
        known.setdefault(title.split(", ")[0].replace("`", ""), []).append(shape)
    run(["vault", "init", vault, "--no-encryption", "--json"])
    printed = {"dcmvault vault init": capsys.readouterr().out}
    told = run_dcmvault("backup", source, "--to", vault, "--json", "--explain")
    printed["dcmvault backup"] = told.stdout
    uid = json.loads(told.stdout)["explanation"][0]["study_instance_uid"]
    for line in (
        f"ls {vault}", f"ls {vault} {uid}", f"find {vault} told", f"find {vault} --duplicates",
        f"snapshots {vault}", f"vault stats {vault}", f"vault check {vault}",
        f"vault key list {vault}", f"vault prune {vault} --dry-run",
        f"forget {vault} --keep-last 1 --dry-run", f"vault hold {vault} --list",
        f"restore {vault} {root / 'restored'}", f"restore {vault} --drill 1",
        f"compare {source} {vault}", f"manifest export --from {vault} --out {root / 'manifests'}",
        f"manifest validate {root / 'manifests'} {source}", "manifest chain",
        f"safe-to-delete {source}", "status", "top", "queue list", "queue excluded",
        f"queue exclude {uid} --reason phantom", "rules list", "rules learned",
        f"rules test {uid}", "audit search", "audit verify", "notify list", "schedule list",
        "schedule next", "schedule suggest", "web user list", "web user link", "config check",
        "support-bundle --dry-run", f"backup {source} --to {vault} --dry-run --explain",
        "backup /nowhere",
    ):  # fmt: skip
        capsys.readouterr()
        run([*line.split(), "--json"])
        printed[f"dcmvault {line}"] = capsys.readouterr().out
    breaches = {}
    for line, text in printed.items():
        names = [name for name in known if f"{line} ".startswith(f"{name} ")]
        found = json.loads(text)
        shapes = known[max(names, key=len)]
        if set(found) == {"error", "exit_status"}:
            shapes = known["Every command"]
        wrong = [list(_breaches(found, shape, line)) for shape in shapes]
        if all(wrong):
            breaches[line] = min(wrong, key=len)
    assert not breaches
    refused = [line for line, text in printed.items() if '"error": {' in text[:20]]
    assert refused == ["dcmvault backup /nowhere"]
