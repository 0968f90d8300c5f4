"""Plug-ins: the example is installed as users do it, and works; a broken one stops nobody."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault
from tests.integration.story import summary_of

from dcmvault.testing.dicom_files import make_study

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "dcmvault-tar"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example as pip installs it, in a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
            *("--no-deps", "--no-build-isolation", "--no-index", "--target", target, EXAMPLE),
        ],
        check=True,
        timeout=120,
    )
    return target


@pytest.fixture
def with_plugins(installed: Path) -> Mapping[str, str]:
    return {"PYTHONPATH": str(installed)}


def _register(folder: Path, name: str, points: str) -> None:
    """Write what pip writes of a package with entry points."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


def test_the_example_passes_the_shipped_suites(installed: Path, tmp_path: Path) -> None:
    """Whoever writes a plug-in runs them like this."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--rootdir", EXAMPLE, "--basetemp", tmp_path / "pytest", EXAMPLE / "tests"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_a_plugin_is_a_destination_and_a_channel_like_any_other(
    run_dcmvault: RunDcmvault, with_plugins: Mapping[str, str], home: Path, tmp_path: Path
) -> None:
    make_study(tmp_path / "studies", key="a", instances=3)
    archive, journal = tmp_path / "copies.tar", tmp_path / "journal.jsonl"
    (home / "config.toml").write_text(f"""
[destinations.tape]
address = "tar:{archive}"
private = true
level = "proven"
[notifications.journal]
channel = "append"
path = "{journal}"
events = ["run_ok"]
""")
    done = run_dcmvault("backup", tmp_path / "studies", "--to", "tape", "--json", env=with_plugins)
    summary = summary_of(done)
    assert summary["level"] == "proven"
    assert summary["instances"]["stored"] == 3
    with tarfile.open(archive) as copies:
        assert len(copies.getnames()) == 3
    assert [json.loads(line)["event"] for line in journal.read_text().splitlines()] == ["run_ok"]
    again = run_dcmvault(
        "backup", tmp_path / "studies", "--to", f"tar:{archive}", "--json", env=with_plugins
    )
    assert summary_of(again)["instances"]["already_held"] == 3
    archive.unlink()
    lost = run_dcmvault(
        "backup", tmp_path / "studies", "--to", "tape", "--strategy", "full", env=with_plugins
    )
    assert lost.returncode in (3, 5), "a lost disk is no new one"
    assert not archive.exists()
    doctor = run_dcmvault("doctor", env=with_plugins)
    assert "plug-in tar" in doctor.stdout
    assert "dcmvault-tar (destinations)" in doctor.stdout


def test_options_of_a_plugin_are_checked_by_its_class_at_their_line(
    run_dcmvault: RunDcmvault, with_plugins: Mapping[str, str], home: Path
) -> None:
    (home / "config.toml").write_text("""
[destinations.tape]
address = "tar:/media/x.tar"
privat = true
[notifications.journal]
channel = "append"
path = 7
[destinations.nowhere]
address = "tar:"
[destinations.misspelt]
address = "tra:/media/x.tar"
""")
    done = run_dcmvault("config", "check", env=with_plugins)
    assert done.returncode == 4
    said = done.stderr
    assert "line 4, destinations.tape.privat: There is no such key. Did you mean “private”?" in said
    assert "line 7, notifications.journal.path" in said
    assert "line 9, destinations.nowhere.address" in said
    assert "the path of the tar file is missing" in said
    assert "Did you mean “tar”?" in said


def test_a_broken_plugin_is_told_as_such_and_stops_nobody(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path, installed: Path
) -> None:
    broken = tmp_path / "broken"
    _register(broken, "crashing", "[dcmvault.sources]\ncrash = no_such_module_at_all:PLUGIN\n")
    _register(broken, "strange", "[dcmvault.notifiers]\nodd = json:dumps\n")
    _register(broken, "second-tar", "[dcmvault.destinations]\ntar = no_such_module_at_all:PLUGIN\n")
    env = {"PYTHONPATH": f"{broken}:{installed}"}
    make_study(tmp_path / "studies", key="a", instances=1)
    good = run_dcmvault("backup", tmp_path / "studies", "--to", tmp_path / "copies", env=env)
    assert good.returncode == 0, good.stderr
    doctor = run_dcmvault("doctor", env=env)
    assert doctor.returncode == 1
    assert "plug-in “crash” of crashing cannot be loaded (ModuleNotFoundError)" in doctor.stdout
    assert "plug-in “odd” of strange is none that this version can use" in doctor.stdout
    assert "Several packages have a plug-in “tar”: dcmvault-tar, second-tar" in doctor.stdout
    assert "dcmvault-tar (notifiers)" in doctor.stdout, "its other plug-in works"
    asked = run_dcmvault("backup", "crash:something", "--to", tmp_path / "copies", env=env)
    assert asked.returncode == 4
    assert "Everything else works without it" in asked.stderr
    (home / "config.toml").write_text('[notifications.x]\nchannel = "odd"\n')
    assert "line 2, notifications.x.channel" in run_dcmvault("config", "check", env=env).stderr


_PARTS = '''
"""A source and an object store, as a package of somebody else's would have them."""
from pathlib import Path
from typing import ClassVar

from dcmvault.config.plugin_sections import PluginSourceSection, PluginStoreSection
from dcmvault.config.plugins import Plugin
from dcmvault.config.sections import FolderSourceSection
from dcmvault.object_stores.local import LocalStore
from dcmvault.sources.folder import FolderSource


class ShelfSection(PluginStoreSection):
    scheme: ClassVar[str] = "shelf"
    folder: Path
    colour: str = "green"

    @classmethod
    def from_url(cls, url, options):
        return cls(folder=Path("/" + url.removeprefix("shelf://").strip("/")), **options)

    @property
    def url(self):
        return f"shelf:/{self.folder}"


class BoxSection(PluginSourceSection):
    scheme: ClassVar[str] = "box"
    folder: Path

    @classmethod
    def from_address(cls, rest):
        return cls(folder=Path(rest))

    @property
    def address(self):
        return f"box:{self.folder}"

    @property
    def path(self):
        return self.folder


class Box(FolderSource):
    @property
    def name(self):
        return f"box:{self.box}"


def build_box(section, surroundings):
    box = Box(FolderSourceSection(path=section.folder))
    box.box = section.folder
    return box


SHELF = Plugin(ShelfSection, lambda section, around: LocalStore(section.folder, around.clock))
BOX = Plugin(BoxSection, build_box)
'''


def test_a_vault_stands_on_a_shelf_of_a_plugin_and_is_filled_from_a_box_of_one(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    """Sources and object stores of others, by address and by configuration, and back again."""
    site = tmp_path / "site"
    _register(
        site,
        "warehouse",
        "[dcmvault.sources]\nbox = warehouse:BOX\n"
        "[dcmvault.object_stores]\nshelf = warehouse:SHELF\n",
    )
    (site / "warehouse.py").write_text(_PARTS)
    env = {"PYTHONPATH": str(site), "DCMVAULT_PASSPHRASE": "only for this test"}
    made = make_study(tmp_path / "studies", key="a", instances=3)
    shelf = f"vault:shelf://{tmp_path}/shelf"
    done = run_dcmvault("vault", "init", shelf, env=env)
    assert done.returncode == 0, done.stderr
    (home / "config.toml").write_text(f"""
[destinations.shelf]
address = "{shelf}"
store = {{colour = "blue"}}
""")
    box = f"box:{tmp_path}/studies"
    summary = summary_of(run_dcmvault("backup", box, "--to", "shelf", "--json", env=env))
    assert summary["source"] == box
    assert summary["instances"]["stored"] == 3
    back = tmp_path / "back"
    restored = run_dcmvault("restore", shelf, back, env=env)
    assert restored.returncode == 0, restored.stderr
    contents = sorted(one.path.read_bytes() for one in made)
    assert sorted(path.read_bytes() for path in back.rglob("*.dcm")) == contents
    inside = run_dcmvault("backup", box, "--to", f"{tmp_path}/studies/copies", env=env)
    assert inside.returncode == 2, "a copy inside its source is none"
    (home / "config.toml").write_text(f"""
[destinations.shelf]
address = "{shelf}"
store = {{weight = 3}}
""")
    refused = run_dcmvault("backup", box, "--to", "shelf", env=env)
    assert refused.returncode == 4
    assert "line 4, destinations.shelf.store" in refused.stderr
    assert "weight" in refused.stderr
