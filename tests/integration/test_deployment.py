"""What installs dcmvault on other machines: pins with hashes, a bill of materials, recipes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "packaging" / "install.sh"
CONTAINERFILE = ROOT / "packaging" / "Containerfile"


def _pins(name: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if pin := re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)", line):
            found[canonicalize_name(pin[1])] = pin[2]
    return found


def test_every_requirement_is_pinned_with_hashes_and_nothing_else() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.strip().replace("\\\n", "\n"))
    for entry in entries:
        requirement, *hashes = entry.split("\n")
        (pin,) = Requirement(requirement.strip()).specifier
        assert pin.operator == "==", requirement
        assert hashes, requirement
        for line in hashes:
            assert re.fullmatch(r"\s+--hash=sha256:[0-9a-f]{64}\s*", line), line
    assert "://" not in text


def test_requirements_are_what_is_tested() -> None:
    """The versions of the workshop, for all that both have."""
    pinned, tested = _pins("requirements.txt"), _pins("constraints.txt")
    assert {"dbos", "fastapi", "obstore", "psycopg", "pydicom"} <= set(pinned)
    other = {
        name: version for name, version in pinned.items() if tested.get(name) not in (version, None)
    }
    assert not other
    # What the workshop's machine does not need: other systems' packages.
    assert len(set(pinned) - set(tested)) <= 5, set(pinned) - set(tested)


def test_the_bill_of_materials_names_everything(tmp_path: Path) -> None:
    path = tmp_path / "sbom.json"
    subprocess.run([sys.executable, ROOT / "scripts" / "sbom", path], check=True, timeout=60)
    bill = json.loads(path.read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    parts = {part["purl"]: part for part in bill["components"]}
    for name, version in _pins("requirements.txt").items():
        part = next(one for purl, one in parts.items() if canonicalize_name(one["name"]) == name)
        assert part["version"] == version
        assert part["properties"]
    assert any(purl.startswith("pkg:npm/htmx.org@") for purl in parts)
    assert not any("axe-core" in purl for purl in parts), "for tests only"
    (root,) = bill["dependencies"]
    assert set(root["dependsOn"]) == set(parts)
    licensed = [part for part in bill["components"] if part.get("licenses")]
    assert len(licensed) >= len(_pins("requirements.txt")) - 10


def test_the_install_script_shows_what_it_would_do(tmp_path: Path) -> None:
    wheel = tmp_path / "dcmvault-0.1.0-py3-none-any.whl"
    wheel.touch()
    shown = subprocess.run(
        ["sh", "-eu", INSTALL, "--dry-run", wheel],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
        timeout=60,
    ).stdout.splitlines()
    assert "install -d -m 0700 -o dcmvault -g dcmvault /var/lib/dcmvault" in shown
    assert any("--require-hashes -r" in line for line in shown)
    assert shown[-1].endswith("service install --system --user dcmvault")
    assert not [line for line in shown if re.search(r"\brm\b|curl|wget|://", line)]
    wrong = subprocess.run(["sh", INSTALL], check=False, capture_output=True, timeout=60)
    assert wrong.returncode == 2


def test_the_install_script_is_sound_shell() -> None:
    assert os.access(INSTALL, os.X_OK)
    for shell in ("sh", "bash"):
        if shutil.which(shell):
            subprocess.run([shell, "-n", INSTALL], check=True, timeout=60)
    found = _lint("shellcheck", "--severity", "style", INSTALL)
    assert found.returncode == 0, found.stdout


def _lint(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def _instructions() -> list[tuple[str, str]]:
    text = CONTAINERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in lines]


class TestContainerfile:
    """What hadolint says, and what it does not look at; no image is built."""

    def test_hadolint_finds_nothing(self) -> None:
        found = _lint("hadolint", "--no-color", CONTAINERFILE)
        assert found.returncode == 0, found.stdout

    def test_it_is_made_of_known_instructions(self) -> None:
        known = {
            *("FROM", "LABEL", "RUN", "COPY", "ENV", "USER", "WORKDIR", "VOLUME", "EXPOSE"),
            *("STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
        }
        assert {name for name, _rest in _instructions()} <= known
        assert _instructions()[0][0] == "FROM"

    def test_images_have_a_registry_and_a_version(self) -> None:
        for name, rest in _instructions():
            if name == "FROM":
                assert re.match(r"[a-z.]+/[a-z/]+:[0-9][\w.-]+(?: AS \w+)?$", rest), rest

    def test_it_ends_as_a_user_without_rights(self) -> None:
        users = [rest for name, rest in _instructions() if name == "USER"]
        assert users
        assert users[-1].isdecimal()
        assert int(users[-1]) > 0

    @pytest.mark.parametrize("name", ["ENTRYPOINT", "CMD", "VOLUME"])
    def test_no_shell_stands_between(self, name: str) -> None:
        """Signals reach the daemon: the exec form, one of each."""
        (rest,) = [rest for found, rest in _instructions() if found == name]
        assert isinstance(json.loads(rest), list)

    def test_pip_checks_hashes_and_keeps_no_cache(self) -> None:
        for name, rest in _instructions():
            if name == "RUN" and "pip install" in rest:
                assert "--no-cache-dir" in rest
                assert "--require-hashes" in rest or "--no-deps" in rest
                assert "sudo" not in rest

    def test_no_secret_is_baked_in(self) -> None:
        for name, rest in _instructions():
            assert not re.search(r"(?i)passphrase|password|token|secret", rest), name

    def test_what_is_copied_is_let_through(self) -> None:
        allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
        assert allowed == ["*", "!requirements.txt", "!dist/*.whl"]
