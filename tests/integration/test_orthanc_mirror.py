"""An Orthanc is mirrored into a vault, whatever happens to it between two runs."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from scripts.peer_launch import run_again
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault, StartOrthanc
from tests.integration.orthanc_proxy import forward
from tests.integration.story import QUICK_RETRIES, instances, summary_of
from tests.integration.web_peer import Reply, WebPeer, web_peer

from dcmvault.testing.dicom_files import make_study

pytestmark = pytest.mark.peers


@dataclass
class Mirror:
    """An Orthanc behind a proxy that writes down what is asked for, and the vault of its mirror."""

    orthanc: Orthanc
    run: RunDcmvault
    folder: Path
    proxy: WebPeer
    vault: str
    stack: ExitStack
    files: dict[str, bytes] = field(default_factory=dict)

    def store_study(self, number: int) -> list[str]:
        """Store a study of four instances; return its files' identifiers."""
        made = make_study(
            self.folder / f"{number}",
            study_uid=f"1.2.3.{number}",
            key=f"{number}",
            series=2,
            instances=2,
        )
        ids = []
        for one in made:
            ids.append(self.orthanc.store(one.path.read_bytes()))
            self.files[one.sop_instance_uid] = one.path.read_bytes()
        return ids

    def delete_study(self, number: int) -> None:
        query = {"Level": "Study", "Query": {"StudyInstanceUID": f"1.2.3.{number}"}}
        (found,) = self.orthanc.rest("/tools/find", method="POST", body=query)
        self.orthanc.rest(f"/studies/{found}", method="DELETE")

    def restart(self) -> None:
        self.orthanc.process.send_signal(signal.SIGTERM)
        self.orthanc.process.wait(30)
        again = self.stack.enter_context(run_again(self.orthanc))
        assert isinstance(again, Orthanc)
        self.orthanc = again

    def backup(self, exit_status: int = 0) -> dict[str, Any]:
        self.proxy.seen.clear()
        done = self.run(
            "backup", f"orthanc+http://127.0.0.1:{self.proxy.port}", "--to", self.vault, "--json"
        )
        return summary_of(done, exit_status)

    @property
    def asked(self) -> list[str]:
        """What was asked for by the last backup."""
        return [request.path for request in self.proxy.seen]

    @property
    def fetched(self) -> int:
        """How many files were fetched by the last backup."""
        return sum(path.endswith("/attachments/dicom/data") for path in self.asked)

    @property
    def listed(self) -> int:
        """How many studies were listed by the last backup."""
        return sum(re.match(r"/studies/[^/]+/instances\Z", path) is not None for path in self.asked)

    def require_complete(self) -> None:
        """Every file that was ever stored is in the vault, byte for byte."""
        target = self.folder / "restored"
        assert self.run("restore", self.vault, target).returncode == 0
        restored = sorted(p.read_bytes() for p in target.rglob("*") if p.suffix == ".dcm")
        assert restored == sorted(self.files.values())


@pytest.fixture
def mirror(
    start_orthanc: StartOrthanc,
    run_dcmvault: RunDcmvault,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Mirror]:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "correct horse battery staple")
    (home / "config.toml").write_text(QUICK_RETRIES, encoding="utf-8")
    orthanc = start_orthanc(StableAge=1)
    vault = f"vault:{tmp_path / 'vault'}"
    assert run_dcmvault("vault", "init", vault).returncode == 0
    with ExitStack() as stack:
        proxy = stack.enter_context(web_peer(forward(lambda: orthanc.http_url)))
        yield Mirror(orthanc, run_dcmvault, tmp_path, proxy, vault, stack)


def test_the_mirror_ends_complete(mirror: Mirror) -> None:
    """Restarts, a cleared log, studies that are deleted and stored again: nothing is missed."""
    for number in (1, 2, 3):
        mirror.store_study(number)
    first = mirror.backup()
    assert instances(first) == {"selected": 12, "stored": 12}
    assert mirror.fetched == 12

    nothing_new = mirror.backup()
    assert instances(nothing_new) == {"already_held": 12}
    assert mirror.fetched == 0
    assert mirror.listed == 0

    mirror.restart()
    mirror.store_study(4)
    after_restart = mirror.backup()
    assert instances(after_restart) == {"selected": 4, "already_held": 12, "stored": 4}
    assert mirror.listed == 1  # the log goes on over a restart
    assert mirror.fetched == 4

    mirror.orthanc.rest("/changes", method="DELETE")
    mirror.store_study(5)
    without_log = mirror.backup()
    assert instances(without_log) == {"selected": 4, "already_held": 16, "stored": 4}
    assert mirror.listed == 5
    assert mirror.fetched == 4

    mirror.delete_study(1)
    mirror.delete_study(2)
    mirror.store_study(2)
    deleted = mirror.backup()
    assert deleted["gone"] == 4
    assert instances(deleted) == {"already_held": 16}

    mirror.store_study(1)
    mirror.delete_study(3)
    mirror.store_study(6)
    returned = mirror.backup()
    assert returned["gone"] == 4
    assert instances(returned) == {"selected": 4, "already_held": 16, "stored": 4}
    mirror.require_complete()


def test_another_database_is_listed_anew(mirror: Mirror) -> None:
    """An Orthanc that lost its database and was filled again is another one."""
    mirror.store_study(1)
    mirror.backup()
    mirror.orthanc.process.kill()
    mirror.orthanc.process.wait(30)
    for path in (mirror.orthanc.folder / "storage").glob("index*"):
        path.unlink()
    mirror.orthanc = mirror.stack.enter_context(run_again(mirror.orthanc))  # type: ignore[assignment]
    for number in (2, 3, 4):
        mirror.store_study(number)
    found = mirror.backup()
    assert found["gone"] == 4
    assert instances(found) == {"selected": 12, "stored": 12}
    assert mirror.listed == 3
    mirror.require_complete()


def test_a_deletion_alone_is_found(mirror: Mirror) -> None:
    """The log says nothing of a deletion; that there is less than was known does."""
    mirror.store_study(1)
    mirror.store_study(2)
    mirror.backup()
    mirror.orthanc.delete(sorted(mirror.files)[0])
    found = mirror.backup()
    assert found["gone"] == 1
    assert instances(found) == {"already_held": 7}
    mirror.require_complete()


def test_a_dead_orthanc_is_no_empty_one(mirror: Mirror) -> None:
    """One that does not answer ends the run, and nothing is concluded."""
    mirror.store_study(1)
    mirror.backup()
    mirror.orthanc.process.kill()
    mirror.orthanc.process.wait(30)
    done = mirror.run("backup", f"orthanc+{mirror.orthanc.http_url}", "--to", mirror.vault)
    assert done.returncode == 1
    assert "nothing listens" in done.stderr


def test_an_orthanc_is_no_copy_of_itself(run_dcmvault: RunDcmvault) -> None:
    """Its DICOMweb plug-in is at the same host and port."""
    source = "orthanc+http://localhost:8042"
    done = run_dcmvault("backup", source, "--to", "dicomweb+http://localhost:8042/dicom-web")
    assert done.returncode == 2
    assert "the same PACS" in done.stderr


def test_the_doctor_tries_an_orthanc(
    orthanc: Orthanc, run_dcmvault: RunDcmvault, home: Path
) -> None:
    """One that can be listed, and one with a password that nobody configured."""
    configured = f'[sources.o]\naddress = "orthanc+{orthanc.http_url}"\n'
    (home / "config.toml").write_text(configured, encoding="utf-8")
    assert "readable" in run_dcmvault("doctor").stdout
    with web_peer(lambda _seen: Reply(401)) as locked:
        address = f'address = "orthanc+http://127.0.0.1:{locked.port}"\n'
        (home / "config.toml").write_text(f"[sources.o]\n{address}", encoding="utf-8")
        assert "wants to know who we are" in run_dcmvault("doctor").stdout


def test_a_password_opens_it(
    start_orthanc: StartOrthanc, run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    orthanc = start_orthanc(AuthenticationEnabled=True, RegisteredUsers={"backup": "secret é"})
    (tmp_path / "password").write_text("secret é", encoding="utf-8")
    (tmp_path / "password").chmod(0o600)
    (home / "config.toml").write_text(
        f'[sources.o]\naddress = "orthanc+{orthanc.http_url}"\nuser = "backup"\n'
        f'password = "file:{tmp_path}/password"\n',
        encoding="utf-8",
    )
    assert "readable" in run_dcmvault("doctor").stdout
