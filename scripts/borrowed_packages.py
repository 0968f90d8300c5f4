"""What a wheel requires, and nothing else, taken from a venv that has it.

Unlike a venv that sees all of another's packages, one made so lacks whatever the wheel's metadata
forget to ask for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from zipfile import ZipFile

from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name


class NotThereError(Exception):
    """The lending venv lacks what the wheel asks for."""


def lend(wheel: Path, extras: Sequence[str], lender: Path, borrower: Path) -> None:
    """Put what a wheel with its extras requires into the venv `borrower`.

    Files are linked where that is possible, else copied.
    """
    (source,) = lender.glob("lib/python*/site-packages")
    (target,) = borrower.glob("lib/python*/site-packages")
    there = {canonicalize_name(found.name): found for found in distributions(path=[str(source)])}
    for name in required(wheel, extras, there):
        for file in there[name].files or ():
            path = Path(str(file.locate()))
            if ".." in file.parts or "__pycache__" in file.parts or not path.is_file():
                continue  # programs of theirs are not needed
            wanted = target / Path(*file.parts)
            wanted.parent.mkdir(parents=True, exist_ok=True)
            if not wanted.exists():
                _link(path, wanted)


def required(
    wheel: Path, extras: Sequence[str], there: dict[NormalizedName, Distribution]
) -> list[NormalizedName]:
    """Name what a wheel with its extras requires, and what that requires, to the end."""
    found: set[tuple[NormalizedName, str]] = set()
    waiting = [(line, extra) for line in _requirements(wheel) for extra in ("", *extras)]
    while waiting:
        line, extra = waiting.pop()
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in there:
            raise NotThereError(f"{name} is required and not in the lending venv")
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in found:
                found.add((name, wanted))
                waiting += [(line, wanted) for line in there[name].requires or ()]
    return sorted({name for name, _extra in found})


def _requirements(wheel: Path) -> Iterator[str]:
    with ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata, _unknown = parse_email(archive.read(name))
    yield from metadata.get("requires_dist", [])


def _link(path: Path, wanted: Path) -> None:
    try:
        os.link(path, wanted)
    except OSError:
        shutil.copyfile(path, wanted)
