"""Each contract of the house is shown to fail once when somebody breaks it on purpose."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINTER = Path(sys.executable).with_name("lint-imports")

#: (contract, what somebody does wrong) -> the modules that do it.
VIOLATIONS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("floors", "a value imports a port"): {"model/intruder.py": "import dcmvault.ports.clock"},
    ("floors", "a source imports a destination"): {
        "sources/intruder.py": "import dcmvault.destinations"
    },
    ("floors", "an adapter imports a use case"): {"engine/intruder.py": "import dcmvault.app"},
    ("floors", "the product imports testing"): {"cli/intruder.py": "import dcmvault.testing"},
    ("floors", "a package nobody listed"): {
        "storage/__init__.py": "",
        "storage/intruder.py": "",
    },
    ("dicom-libraries", "a destination decodes"): {"destinations/intruder.py": "import pydicom"},
    ("dicom-libraries", "a use case associates"): {"app/intruder.py": "import pynetdicom"},
    ("durable-engine", "a use case makes a workflow"): {"app/intruder.py": "import dbos"},
    ("catalogue-database", "planning queries"): {"pipeline/intruder.py": "import sqlite3"},
    ("catalogue-database", "a use case queries"): {"app/intruder.py": "import sqlalchemy"},
    ("wiring", "a use case names an adapter"): {"app/intruder.py": "import dcmvault.destinations"},
    ("wiring", "a command opens the catalogue"): {"cli/intruder.py": "import dcmvault.catalogue"},
    ("front-ends", "a command speaks DICOM"): {"cli/intruder.py": "import dcmvault.dicom"},
    ("web-and-daemon", "a page queries"): {"web/intruder.py": "import dcmvault.catalogue"},
    ("web-framework", "a use case answers"): {"app/intruder.py": "import fastapi"},
    ("testing", "a suite knows the product"): {"testing/intruder.py": "import dcmvault.pipeline"},
    ("values", "a value is a schema"): {"model/intruder.py": "import pydantic"},
    ("cycles", "two modules need each other"): {
        "pipeline/intruder.py": "import dcmvault.pipeline.accomplice",
        "pipeline/accomplice.py": "import dcmvault.pipeline.intruder",
    },
}


def _copy(folder: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(
        ROOT / "src" / "dcmvault",
        folder / "dcmvault",
        ignore=shutil.ignore_patterns("__pycache__", "locale"),
    )
    return folder


def _lint(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Check the copy in `folder`: the linter finds packages in its working directory first."""
    chosen = [argument for contract in contracts for argument in ("--contract", contract)]
    return subprocess.run(
        [LINTER, "--config", "pyproject.toml", "--no-cache", *chosen],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=folder,
    )


def test_the_house_as_it_stands_keeps_its_contracts(tmp_path: Path) -> None:
    linted = _lint(_copy(tmp_path))
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize(
    ("violation", "modules"), VIOLATIONS.items(), ids=[": ".join(key) for key in VIOLATIONS]
)
def test_a_broken_contract_is_refused(
    violation: tuple[str, str], modules: Mapping[str, str], tmp_path: Path
) -> None:
    contract, _ = violation
    folder = _copy(tmp_path)
    for name, text in modules.items():
        path = folder / "dcmvault" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")
    linted = _lint(folder, contract)
    assert linted.returncode == 1, linted.stdout + linted.stderr
    # Not just any complaint: one that names what was put in.
    assert "intruder" in linted.stdout or "storage" in linted.stdout, linted.stdout


def test_every_contract_has_been_broken_on_purpose() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {contract["id"] for contract in settings["tool"]["importlinter"]["contracts"]}
    assert contracts == {contract for contract, _ in VIOLATIONS}
