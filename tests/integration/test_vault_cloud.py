"""Vaults in S3, Azure, Google and on an SFTP host, from the command line to the last byte."""

from __future__ import annotations

import base64
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from scripts.peer_clouds import Azurite, S3Server
from scripts.peer_processes import Sshd
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.cloud_proxy import Proxy, proxied
from tests.integration.cloud_vault_world import (
    ENVIRONMENT,
    Place,
    azure_place,
    back_up,
    evidence,
    files_below,
    files_in,
    gcs_place,
    make_vault,
    s3_place,
    sftp_place,
)
from tests.integration.story import instances, summary_of

from dcmvault.app import vault_making
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.destinations import build_destination
from dcmvault.app.wiring.stores import open_vault_at, open_vault_store
from dcmvault.config.load import load_settings
from dcmvault.config.sections import VaultDestinationSection
from dcmvault.destinations.vault import VaultDestination
from dcmvault.errors import VaultBusyError, VaultDamagedError
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.snapshot import Origin
from dcmvault.testing.dicom_files import make_study
from dcmvault.vault.blob import BlobType
from dcmvault.vault.lease import hold_lease
from dcmvault.vault.pack import pack_key
from dcmvault.vault.prune import PruneRequest, prune
from dcmvault.vault.retention import forget_snapshots, forget_study
from dcmvault.vault.state import present_state

pytestmark = pytest.mark.peers


@pytest.fixture(params=["s3", "azure", "gcs", "sftp"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place of each kind; what opens it stands in the environment."""
    found: Place
    match request.param:
        case "s3":
            found = s3_place(request.getfixturevalue("s3_server"))
        case "azure":
            found = azure_place(request.getfixturevalue("azurite"))
        case "gcs":
            found = gcs_place(request.getfixturevalue("gcs_server"))
        case _:
            found = sftp_place(request.getfixturevalue("sshd"))
    _put_into_environment(found, monkeypatch)
    return found


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Small studies of several kinds."""
    folder = tmp_path / "studies"
    for number, modality in enumerate(("CT", "CR", "SR")):
        make_study(folder / f"study{number}", key=f"cloud {number}", modality=modality)
    return folder


def _put_into_environment(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ENVIRONMENT, **place.environment}.items():
        monkeypatch.setenv(name, value)


def _destination(section: VaultDestinationSection) -> VaultDestination:
    destination = build_destination(section, SystemClock())
    assert isinstance(destination, VaultDestination)
    return destination


def test_the_whole_way(
    place: Place,
    studies: Path,
    home: Path,
    run_dcmvault: RunDcmvault,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    section = place.configured(home)
    vault_making.make_vault(
        load_settings(home / "config.toml"), "cloud", vault_making.MakingRequest()
    )
    summary = summary_of(run_dcmvault("backup", studies, "--to", "cloud", "--json"))
    assert instances(summary) == {"selected": 9, "stored": 9}
    assert list((home / "cache").glob("??/*"))

    # Another machine, which knows nothing yet.
    other = tmp_path / "other"
    place.configured(other)
    monkeypatch.setenv("DCMVAULT_HOME", str(other))
    again = summary_of(
        run_dcmvault("backup", studies, "--to", "cloud", "--verify", "proven", "--json")
    )
    assert again["bytes"]["transferred"] == 0
    assert again["level"] == "proven"
    restored = tmp_path / "restored"
    assert run_dcmvault("restore", "cloud", restored).returncode == 0
    assert files_below(restored) == files_below(studies)

    # Where the place is safe itself, there is one copy of all but what every other needs.
    keys = list(open_vault_store(section, SystemClock()).keys())
    tops = {key.partition("/")[0] for key in keys}
    assert ("parity" in tops) == ("ballast" in tops) == place.redundant
    copied = {key.split("/")[2] for key in keys if key.startswith("copies/")}
    assert copied >= {"config", "keys"}
    assert ("snapshots" in copied) == place.redundant


def test_evidence_and_what_is_new(place: Place, studies: Path, home: Path) -> None:
    section = place.configured(home)
    make_vault(section, redundant=place.redundant)
    destination = _destination(section)
    assert back_up(destination, studies) is not None
    assert back_up(destination, studies) is None
    for fresh in (destination, _destination(section)):
        for level in (Level.COMPLETE, Level.PROVEN):
            assert evidence(fresh, studies, level) == {"held": 9}
    make_study(studies / "more", key="cloud more")
    assert evidence(destination, studies, Level.COMPLETE) == {"held": 9, "missing": 3}
    # A pack goes behind everybody's back: the one that has all files.
    vault = open_vault_at(section, SystemClock())
    state = present_state(vault)
    record = next(one for uid in state.studies() for one in state.records(uid))
    letter, blob = record.blob_ids()[0]
    vault.store.delete(pack_key(vault.index.places(BlobType(letter), blob)[0].pack))
    assert evidence(destination, studies, Level.COMPLETE) == {"missing": 12}
    with pytest.raises(VaultDamagedError):  # its records were in the same pack
        evidence(_destination(section), studies, Level.COMPLETE)


def test_a_vault_without_encryption(place: Place, studies: Path, home: Path) -> None:
    section = place.configured(home, passphrase="")
    make_vault(section, redundant=place.redundant, encrypted=False)
    back_up(_destination(section), studies)
    assert files_in(section) == files_below(studies)
    opening = next(step for step in _destination(section).probe() if step.name == "key")
    assert opening.detail == "it is not encrypted"


def test_pruning_takes_the_lease(place: Place, studies: Path, home: Path) -> None:
    section = place.configured(home)
    make_vault(section, redundant=place.redundant)
    destination = _destination(section)
    back_up(destination, studies)
    made = make_study(studies / "gone", key="cloud gone")
    snapshot = back_up(destination, studies)
    assert snapshot is not None
    vault = open_vault_at(section, SystemClock())
    forget_study(vault, made[0].study_instance_uid)
    forget_snapshots(vault, [snapshot])
    request = PruneRequest(grace=timedelta(0), most_dropped=1.0)
    with hold_lease(vault.store, vault.clock, "check of a test"):
        lease = next(step for step in destination.probe() if step.name == "lease")
        assert "check of a test" in lease.detail
        with pytest.raises(VaultBusyError, match="check of a test"):
            prune(open_vault_at(section, SystemClock()), request)
        # Writers need no lease.
        make_study(studies / "more", key="cloud more")
        assert back_up(destination, studies / "more") is not None
    done = prune(open_vault_at(section, SystemClock()), request)
    assert done.removed_packs > 0
    assert done.locked_packs == 0
    for path in (studies / "gone").rglob("*.dcm"):
        path.unlink()
    left = files_in(section)
    expected = files_below(studies)
    assert {name: left[name] for name in expected if "more" not in name} == {
        name: content for name, content in expected.items() if "more" not in name
    }


def test_two_writers_at_once(place: Place, home: Path, tmp_path: Path) -> None:
    section = place.configured(home)
    make_vault(section, redundant=place.redundant)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        make_study(folder / folder.name, key=f"cloud {folder.name}")
        make_study(folder / "both", key="cloud both")
    with ThreadPoolExecutor() as pool:
        names = list(pool.map(lambda folder: back_up(_destination(section), folder), folders))
    assert any(names)
    expected = {**files_below(folders[0]), **files_below(folders[1])}
    assert files_in(section) == expected
    # Whoever comes next has one head, whether there were two or not.
    make_study(folders[0] / "third", key="cloud third")
    back_up(_destination(section), folders[0])
    assert len(present_state(open_vault_at(section, SystemClock())).links) == 1


def test_probes_of_a_place(place: Place, home: Path, tmp_path: Path) -> None:
    section = place.configured(home)
    steps = _destination(section).probe()
    assert [(step.name, step.ok) for step in steps] == [("place", True), ("vault", False)]
    assert "there is no vault" in steps[-1].detail
    make_vault(section, redundant=place.redundant)
    steps = _destination(section).probe()
    assert [step.name for step in steps] == ["place", "vault", "key", "write", "lease"]
    assert all(step.ok for step in steps)
    wrong = tmp_path / "wrong"
    wrong.write_text("something else")
    wrong.chmod(0o600)
    other = place.configured(home, passphrase=f"file:{wrong}")
    steps = _destination(other).probe()
    assert [(step.name, step.ok) for step in steps][-1] == ("key", False)


# What goes wrong.


def _echo(run_dcmvault: RunDcmvault, *secrets: str) -> str:
    """Try the destination; return what is said, which never has a secret."""
    done = run_dcmvault("node", "echo", "cloud")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    for secret in secrets:
        assert secret not in said
    return said


def test_a_bucket_that_refuses(
    s3_server: S3Server, home: Path, monkeypatch: pytest.MonkeyPatch, run_dcmvault: RunDcmvault
) -> None:
    place = s3_place(s3_server)
    _put_into_environment(place, monkeypatch)
    make_vault(place.configured(home))
    bucket = place.location.split("/")[2]
    refused = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "*"}
    s3_server.set_policy(bucket, refused)
    monkeypatch.setenv("CLOUD_SECRET", "a-secret-of-s3")
    said = _echo(run_dcmvault, "a-secret-of-s3")
    assert "refused access" in said


def test_an_account_key_that_is_not_right(
    azurite: Azurite, home: Path, monkeypatch: pytest.MonkeyPatch, run_dcmvault: RunDcmvault
) -> None:
    place = azure_place(azurite)
    _put_into_environment(place, monkeypatch)
    make_vault(place.configured(home))
    secret = base64.b64encode(b"x" * 64).decode()
    monkeypatch.setenv("CLOUD_SECRET", secret)
    assert "refused access" in _echo(run_dcmvault, secret)
    place.configured(home, address="vault:az://surely-not-there/vault")
    monkeypatch.setenv("CLOUD_SECRET", azurite.account_key)
    assert "does not exist" in _echo(run_dcmvault, azurite.account_key)


def test_hosts_and_keys_that_sftp_does_not_know(
    sshd: Sshd,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_dcmvault: RunDcmvault,
) -> None:
    place = sftp_place(sshd)
    _put_into_environment(place, monkeypatch)
    nobody = tmp_path / "known_hosts"
    nobody.touch()
    place.configured(home, known_hosts=str(nobody))
    assert "is not in known_hosts" in _echo(run_dcmvault)
    key = tmp_path / "another_key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30
    )
    place.configured(home, ssh_key_file=str(key))
    done = run_dcmvault("backup", tmp_path, "--to", "cloud", "--json")
    assert done.returncode == 5, done.stderr
    assert place.location.split("/")[3] in place.location


@contextmanager
def _proxied_place(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Place, Proxy]]:
    with proxied(server.address) as proxy:
        place = s3_place(server, endpoint=proxy.url)
        _put_into_environment(place, monkeypatch)
        yield place, proxy


def test_the_store_goes_away_in_the_middle(
    s3_server: S3Server,
    studies: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_dcmvault: RunDcmvault,
) -> None:
    with _proxied_place(s3_server, monkeypatch) as (place, proxy):
        section = place.configured(home)
        make_vault(section)
        # Packs are taken, and then nobody answers any more; the vault cannot say what it has.
        proxy.down_for = ("/journal/", "/index/", "/snapshots/")
        summary = summary_of(run_dcmvault("backup", studies, "--to", "cloud", "--json"), 5)
        assert instances(summary) == {"selected": 9, "failed": 9}
        assert {failure["code"] for failure in summary["failures"]} == {"unreachable"}
        assert files_in(section) == {}
        # What has no snapshot yet is held nevertheless; the next run takes the snapshot.
        proxy.down_for = ("/snapshots/",)
        summary = summary_of(run_dcmvault("backup", studies, "--to", "cloud", "--json"), 5)
        assert instances(summary) == {"selected": 9, "stored": 9}
        assert summary["destinations"][0]["snapshot_failure"]["code"] == "unreachable"
        proxy.down_for = ()
        summary = summary_of(run_dcmvault("backup", studies, "--to", "cloud", "--json"))
        assert instances(summary) == {"already_held": 9}
        assert summary["destinations"][0]["snapshot"] is not None
        assert files_in(section) == files_below(studies)


def test_requests_of_a_small_backup(
    s3_server: S3Server, studies: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _proxied_place(s3_server, monkeypatch) as (place, proxy):
        section = place.configured(home)
        make_vault(section)
        counts = []
        for turn in ("first", "nothing new", "more"):
            if turn == "more":
                make_study(studies / "more", key="cloud more")
            proxy.targets.clear()
            destination = _destination(section)
            if turn == "nothing new":  # then no file is read, and no delivery opened
                assert destination.take_snapshot(Origin(RunId("run"), "source"), None) is None
            else:
                back_up(destination, studies)
                evidence(destination, studies / "study0", Level.COMPLETE)
            counts.append(len(proxy.targets))
        # 41, 11 and 53 with writers that look for a prune before and after they wrote; a few more
        # where an answer is late and asked for again. Each is a round trip, and some cost money.
        assert counts[0] <= 48, counts
        assert counts[1] <= 16, counts
        assert counts[2] <= 60, counts


def test_credentials_that_may_not_delete(
    s3_server: S3Server, studies: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = s3_place(s3_server)
    _put_into_environment(place, monkeypatch)
    section = place.configured(home)
    make_vault(section)
    refused = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject*", "Resource": "*"}
    s3_server.set_policy(place.location.split("/")[2], refused)
    assert back_up(_destination(section), studies) is not None
    assert back_up(_destination(section), studies) is None
    make_study(studies / "more", key="cloud more")
    assert back_up(_destination(section), studies) is not None
    assert files_in(section) == files_below(studies)
    left = list(open_vault_store(section, SystemClock()).keys("journal/"))
    assert len(left) == 2


def test_an_interrupt_ends_waiting_for_a_store(
    s3_server: S3Server,
    studies: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    start_dcmvault: StartDcmvault,
) -> None:
    with _proxied_place(s3_server, monkeypatch) as (place, proxy):
        place.configured(home)
        config = home / "config.toml"
        config.write_text(config.read_text().replace("wait_s = 0.05", "wait_s = 300"))
        proxy.down_for = ("/",)
        process = start_dcmvault("backup", studies, "--to", "cloud")
        while not proxy.targets:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=40)  # the wait itself would last for a minute
        assert process.returncode == 130
