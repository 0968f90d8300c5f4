"""What is built for others carries all that they need, and lives through a clean installation."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(sys.executable).parent.parent
ASSETS = "dcmvault/web/assets"

# The dashboard's files come from npm.
pytestmark = pytest.mark.peers


def _build(folder: Path, *targets: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    kinds = [word for target in targets for word in ("-t", target)]
    return subprocess.run(
        [sys.executable, "-m", "hatchling", "build", *kinds, "-d", str(folder)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=root,
        timeout=120,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and source distribution of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    # In a process of its own: it speaks several languages.
    subprocess.run([sys.executable, "-m", "scripts.man_pages"], check=True, cwd=ROOT, timeout=120)
    made = _build(folder, "wheel", "sdist")
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    (packed,) = built.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def _wheel(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def _names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def _shipped_assets() -> set[str]:
    """Name the files from npm that pages load, by the table that says so."""
    table = tomllib.loads((ROOT / "src" / ASSETS / "vendor.toml").read_text("utf-8"))
    return {
        f"{ASSETS}/vendor/{Path(name).name}"
        for package in table["package"]
        if not package.get("dev")
        for name in package["files"]
        if Path(name).name != "LICENSE"
    }


def test_a_wheel_has_everything(built: Path) -> None:
    names = _names(_wheel(built))
    assert _shipped_assets() <= names
    assert "dcmvault/locale/pt_BR/LC_MESSAGES/dcmvault.mo" in names
    assert "dcmvault/vault/kit/rescue.txt" in names
    assert "dcmvault/web/templates/base.html" in names
    code = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert code <= names


def test_a_wheel_brings_manual_pages(built: Path, tmp_path: Path) -> None:
    """Of every command, in both languages; man(1) reads them without a complaint."""
    with ZipFile(_wheel(built)) as archive:
        pages = [name for name in archive.namelist() if "/share/man/" in name]
        archive.extractall(tmp_path, pages)
    assert len([name for name in pages if "/man/man1/" in name]) * 2 == len(pages) > 100
    assert any(name.endswith("man/pt_BR/man1/dcmvault-vault-check.1") for name in pages)
    roff = shutil.which("groff")
    if roff is None:
        pytest.fail("groff is missing; install once: sudo apt-get install -y groff-base")
    read = subprocess.run(
        [roff, "-man", "-Tutf8", "-ww", "-Kutf8", *(tmp_path / name for name in pages)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    assert (read.returncode, read.stderr) == (0, b"")


def test_a_wheel_has_nothing_else(built: Path) -> None:
    outside = {
        name
        for name in _names(_wheel(built))
        if not name.startswith("dcmvault/") and ".dist-info/" not in name and ".data/" not in name
    }
    assert not outside
    assert not [name for name in _names(_wheel(built)) if "__pycache__" in name]


def test_a_source_distribution_makes_the_same_wheel(
    built: Path, unpacked: Path, tmp_path: Path
) -> None:
    """Packagers build from it, without npm and without a clone."""
    made = _build(tmp_path, "wheel", root=unpacked)
    assert made.returncode == 0, made.stderr
    assert _names(_wheel(tmp_path)) == _names(_wheel(built))


def test_without_the_assets_nothing_is_built(unpacked: Path, tmp_path: Path) -> None:
    """And it says what is missing, and what to run."""
    vendor = unpacked / "src" / ASSETS / "vendor"
    kept = vendor / "htmx.min.js"
    away = shutil.move(kept, tmp_path / "away.js")
    try:
        made = _build(tmp_path, "wheel", root=unpacked)
        kept.write_bytes(Path(away).read_bytes() + b"\n")
        altered = _build(tmp_path, "wheel", root=unpacked)
    finally:
        shutil.move(away, kept)
    for ended in (made, altered):
        assert ended.returncode != 0
        assert "htmx.min.js" in ended.stderr
        assert "make assets" in ended.stderr
    assert not list(tmp_path.glob("*.whl"))


def test_a_clean_installation_goes_through_it_all(built: Path) -> None:
    """Install, configure, back up with proof, open the dashboard, restore, uninstall."""
    lived = subprocess.run(
        [
            sys.executable,
            ROOT / "scripts" / "clean_install",
            "--wheel",
            _wheel(built),
            "--dependencies-of",
            VENV,
        ],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert lived.returncode == 0, lived.stderr
    steps = [line.split()[0] for line in lived.stdout.splitlines()]
    assert steps == ["installed", "backed", "served", "restored", "removed"]


def test_both_have_what_a_vault_carries_for_the_day_without_us(built: Path) -> None:
    """The rescue tool and the page of the format, as files, though they are links here."""
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    kit = {
        "rescue.txt": ROOT / "tools/rescue.py",
        "vault-format.txt": ROOT / "docs/reference/vault-format.md",
    }
    with ZipFile(wheel) as archive, tarfile.open(sdist) as source:
        folder = sdist.name.removesuffix(".tar.gz")
        for name, original in kit.items():
            wanted = original.read_bytes()
            assert archive.read(f"dcmvault/vault/kit/{name}") == wanted
            member = source.getmember(f"{folder}/src/dcmvault/vault/kit/{name}")
            assert member.isreg()
            packed = source.extractfile(member)
            assert packed is not None
            assert packed.read() == wanted
            assert source.getmember(f"{folder}/{original.relative_to(ROOT)}").isreg()
