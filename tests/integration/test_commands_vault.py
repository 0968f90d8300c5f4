"""`dcmvault vault` as people run it: made, filled, thinned out, copied."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import RunDcmvault

from dcmvault import i18n
from dcmvault.cli.main import run
from dcmvault.testing.dicom_files import make_study

_PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        make_study(tmp_path / "source" / name, key=name, instances=4, rows=192, columns=192)
    return tmp_path / "source"


class Cli:
    """Commands in this process, which is quicker; what works for long is a process of its own."""

    def __init__(
        self, process: RunDcmvault, capsys: pytest.CaptureFixture[str], env: pytest.MonkeyPatch
    ) -> None:
        self.process = process
        self.env = env
        self._capsys = capsys
        env.setenv("DCMVAULT_PASSPHRASE", _PASSPHRASE)
        i18n.use_language("en")

    def __call__(self, *arguments: str | Path, status: int = 0) -> str:
        """Run a command that ends with this status; return what it says."""
        self._capsys.readouterr()
        found = run([str(argument) for argument in arguments])
        said = self._capsys.readouterr()
        assert found == status, said
        assert "Traceback" not in said.err
        return said.err if status else said.out

    def json(self, *arguments: str | Path) -> dict[str, Any]:
        """Run a command that succeeds; return its object."""
        shown = json.loads(self(*arguments, "--json"))
        assert isinstance(shown, dict)
        assert shown["exit_status"] == 0
        return shown

    def back_up(self, source: Path, vault: str) -> None:
        """Back up in a process of its own."""
        done = self.process("backup", source, "--to", vault, "--json")
        assert done.returncode == 0, done.stderr + done.stdout

    def studies(self, vault: str) -> list[str]:
        """List the studies of a vault."""
        return [one["study_instance_uid"] for one in self.json("ls", vault)["studies"]]


@pytest.fixture
def cli(
    run_dcmvault: RunDcmvault,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Cli:
    return Cli(run_dcmvault, capsys, monkeypatch)


def test_the_life_of_a_vault(cli: Cli, source: Path, tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "vault"
    vault = f"vault:{folder}"
    made = cli.json("vault", "init", vault, "--recovery")
    assert (made["encrypted"], made["copies"], made["parity"]) == (True, 3, True)
    assert [slot["kind"] for slot in made["slots"]] == ["passphrase", "recovery"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "already" in cli("vault", "init", vault, status=2)

    cli.back_up(source, vault)
    first, second = cli.studies(vault)
    figures = cli.json("vault", "stats", vault)
    assert (figures["studies"], figures["instances"], figures["snapshots"]) == (2, 8, 1)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert abs(figures["stored_bytes"] - size) <= 1000  # the lease, and locks of the folder
    text = cli("vault", "stats", vault)
    assert "2 studies, 8 files" in text
    # What is coded somehow, and lists of it, are all that packs have; nothing is counted twice.
    coded, kinds = figures["codings"], figures["blobs"]
    assert figures["codings_whole"]
    assert sum(one["stored_bytes"] for one in coded.values()) == sum(
        kinds[kind]["stored_bytes"] for kind in kinds if kind not in {"records", "state"}
    )
    assert coded["jpeg-xl"]["count"] == kinds["frame"]["count"]
    assert coded["headers-zstandard"]["count"] == kinds["headers"]["count"]
    assert "uncompressed pixels, as JPEG XL" in text
    assert "pixels" in text

    # A hold keeps a study.
    cli.json("vault", "hold", vault, "--study", first, "--reason", "case 12")
    held = cli.json("vault", "hold", vault)["holds"]
    assert [(one["study_instance_uid"], one["reason"]) for one in held] == [(first, "case 12")]
    told = cli("forget", vault, "--study", first, status=1)
    assert "legal hold" in told
    assert "reason" in cli("vault", "hold", vault, "--study", first, status=2)
    cli.json("vault", "hold", vault, "--release", first)

    # Forgotten: no longer listed, no longer held, and due again if it is still at the source.
    (home / "cards").mkdir()
    vault_id = cli.json("vault", "stats", vault)["vault_id"]
    would = cli.json("forget", vault, "--study", first, "--dry-run")
    assert would["dry_run"]
    assert len(cli.studies(vault)) == 2
    # What `serve` kept of it on this machine goes at once; this here cannot even be read.
    cards = home / "cards" / f"{vault_id}.cards"
    cards.write_bytes(b"of a patient")
    cli.json("vault", "forget", vault, "--study", first)
    assert not cards.exists()
    assert cli.studies(vault) == [second]
    assert "4 of 8 instances held" in cli("status")

    # Rules: the newest stays in any case.
    would = cli.json("forget", vault, "--keep-last", "1", "--dry-run")
    assert len(would["kept"]) == 1
    done = cli.json("forget", vault, "--keep-within", "30d", "--keep-last", "1")
    assert [one["snapshot"] for one in done["forgotten"]] == [
        one["snapshot"] for one in would["forgotten"]
    ]
    assert "prune" not in done
    told = cli("vault", "prune", vault, status=1)
    assert "--max-drop" in told
    dry = cli.json("vault", "prune", vault, "--dry-run")
    assert dry["refused"]
    pruned = cli.json("vault", "prune", vault, "--grace", "0", "--max-drop", "100")
    assert pruned["removed"]["packs"] >= 1
    again = cli.json("vault", "prune", vault)
    assert (again["removed"]["packs"], again["condemned"]["packs"]) == (0, 0)
    assert "nothing to prune" in cli("vault", "prune", vault)

    # It is due again, and comes back.
    cli.back_up(source, vault)
    assert sorted(cli.studies(vault)) == sorted([first, second])

    # The recovery key opens it when the passphrase is lost.
    words = "\n".join(" ".join(row) for row in made["recovery_key"])
    cli.env.delenv("DCMVAULT_PASSPHRASE")
    cli("ls", vault, status=5)
    cli.env.setenv("DCMVAULT_RECOVERY_KEY", words)
    assert len(cli.studies(vault)) == 2
    cli.env.setenv("DCMVAULT_RECOVERY_KEY", words.replace("\n", " x ", 1))
    assert "recovery key" in cli("ls", vault, status=5)


def test_a_copy_needs_no_key(cli: Cli, source: Path, tmp_path: Path) -> None:
    vault, target = f"vault:{tmp_path / 'vault'}", f"vault:{tmp_path / 'copy'}"
    cli.json("vault", "init", vault)
    cli.back_up(source, vault)
    cli.env.delenv("DCMVAULT_PASSPHRASE")
    assert cli.json("vault", "copy", vault, target)["objects"] > 0
    assert "up to date" in cli("vault", "copy", vault, target)
    cli.env.setenv("DCMVAULT_PASSPHRASE", _PASSPHRASE)
    assert cli.studies(target) == cli.studies(vault)
    some = f"vault:{tmp_path / 'some'}"
    shown = cli.json("vault", "copy", vault, some, "--snapshot", "latest")
    assert len(shown["snapshots"]) == 1
    assert cli.studies(some) == cli.studies(vault)
    assert "onto itself" in cli("vault", "copy", vault, vault, status=2)
    assert "not empty" in cli("vault", "copy", vault, f"vault:{source}", status=2)


def test_places_that_take_no_vault(cli: Cli, source: Path, tmp_path: Path) -> None:
    before = sorted(source.rglob("*"))
    assert "not empty" in cli("vault", "init", f"vault:{source}", status=2)
    assert sorted(source.rglob("*")) == before
    nowhere = f"vault:{tmp_path / 'no' / 'where'}"
    assert "not there" in cli("vault", "init", nowhere, status=5)
    assert "not a vault" in cli("vault", "init", str(tmp_path / "x"), status=2)
    missing = f"vault:{tmp_path / 'missing'}"
    for command in (("vault", "prune"), ("vault", "stats"), ("vault", "hold"), ("ls",)):
        assert "dcmvault vault init" in cli(*command, missing, status=5)
    failed = cli.process("backup", source, "--to", missing)
    assert failed.returncode == 5
    assert "dcmvault vault init" in failed.stdout
    assert not (tmp_path / "missing").exists()


def test_an_interrupted_making_is_made_again(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    cli.json("vault", "init", f"vault:{folder}")
    old = list((folder / "keys").iterdir())
    for name in ("config", "copies/1/config", "copies/2/config"):
        (folder / name).unlink()
    cli.json("vault", "init", f"vault:{folder}")
    assert len(list((folder / "keys").iterdir())) == 1
    assert not any(path.exists() for path in old)
    assert cli.json("vault", "stats", f"vault:{folder}")["studies"] == 0


def test_without_encryption_and_by_a_key_file(cli: Cli, tmp_path: Path) -> None:
    bare = cli("vault", "init", f"vault:{tmp_path / 'bare'}", "--no-encryption")
    assert "not encrypted" in bare
    key = tmp_path / "vault.key"
    key.write_bytes(b"k" * 20)
    told = cli("vault", "init", f"vault:{tmp_path / 'x'}", "--key-file", key, status=2)
    assert "at least 32" in told
    key.write_bytes(b"k" * 64)
    vault = f"vault:{tmp_path / 'x'}"
    made = cli.json("vault", "init", vault, "--key-file", key, "--no-parity")
    assert [slot["kind"] for slot in made["slots"]] == ["key_file"]
    assert (made["parity"], made["copies"]) == (False, 3)
    assert cli("ls", vault, status=5)
    other = f"vault:{tmp_path / 'y'}"
    told = cli("vault", "init", other, "--no-encryption", "--recovery", status=2)
    assert "no keys" in told


def test_a_passphrase_is_asked_for_on_a_terminal(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    command = [sys.executable, "-m", "dcmvault", "vault", "init", f"vault:{folder}"]
    refused = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "DCMVAULT_PASSPHRASE" in refused.stderr
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, start_new_session=True
    ) as process:
        os.close(terminal)
        shown = b""
        for asked in (b"New passphrase", b"Once more"):
            while asked not in shown:
                shown += os.read(controller, 4096)
            os.write(controller, b"open sesame\n")
        out = process.communicate(timeout=60)[0].decode()
    os.close(controller)
    assert process.returncode == 0, out
    assert "open sesame" not in out + shown.decode()
    environment = {**os.environ, "DCMVAULT_PASSPHRASE": "open sesame"}
    listed = subprocess.run(
        [*command[:3], "ls", f"vault:{folder}"], env=environment, capture_output=True, check=False
    )
    assert listed.returncode == 0
