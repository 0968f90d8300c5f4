"""A vault in a bucket with Object Lock: what is kept, for how long, and what an intruder can do."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from scripts.peer_clouds import S3Server
from tests.conftest import RunDcmvault
from tests.integration.cloud_proxy import Proxy, proxied
from tests.integration.cloud_vault_world import (
    ENVIRONMENT,
    Place,
    back_up,
    files_below,
    files_in,
    make_vault,
    s3_place,
)

from dcmvault.app.vault_uncover import uncover
from dcmvault.app.wiring.destinations import build_destination
from dcmvault.app.wiring.stores import open_vault_at, open_vault_store
from dcmvault.config.load import load_settings
from dcmvault.config.sections import VaultDestinationSection
from dcmvault.destinations.vault import VaultDestination
from dcmvault.errors import DestinationStoppedError, UsageError, VaultMissingError
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_study
from dcmvault.vault.copying import copy_vault
from dcmvault.vault.prune import PruneRequest, prune
from dcmvault.vault.retention import forget_snapshots, forget_study
from dcmvault.vault.state import present_state

pytestmark = pytest.mark.peers

_AT_ONCE = PruneRequest(grace=timedelta(0), most_dropped=1.0)


class Bucket:
    """The bucket as somebody sees it who has the credentials and no scruples."""

    def __init__(self, server: S3Server, place: Place) -> None:
        self.name = place.location.split("/")[2]
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=server.address,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="y",
        )

    def there(self) -> list[str]:
        """List what is there, without the vault's prefix."""
        listed = self.client.list_objects_v2(Bucket=self.name)
        return [entry["Key"].removeprefix("dicom/vault/") for entry in listed.get("Contents", ())]

    def versions(self) -> list[tuple[str, str]]:
        """List all versions that there are."""
        listed = self.client.list_object_versions(Bucket=self.name)
        return [(entry["Key"], entry["VersionId"]) for entry in listed.get("Versions", ())]

    def retained_until(self, key: str) -> datetime | None:
        """Say until when the store keeps an object."""
        head = self.client.head_object(Bucket=self.name, Key=f"dicom/vault/{key}")
        until: datetime | None = head.get("ObjectLockRetainUntilDate")
        return until

    def delete_everything(self) -> list[str]:
        """Remove every version that the store gives up, then hide the rest; return what stays."""
        for key, version in self.versions():
            with contextlib.suppress(ClientError):
                self.client.delete_object(Bucket=self.name, Key=key, VersionId=version)
        staying = [key for key, _version in self.versions()]
        for key in staying:
            self.client.delete_object(Bucket=self.name, Key=key)
        return [key.removeprefix("dicom/vault/") for key in staying]

    def end_all_locks(self) -> None:
        """Do what time does: locks of the governance mode end at once."""
        soon = datetime.now(UTC) + timedelta(seconds=1)
        for key, version in self.versions():
            head = self.client.head_object(Bucket=self.name, Key=key, VersionId=version)
            if "ObjectLockRetainUntilDate" in head:
                self.client.put_object_retention(
                    Bucket=self.name,
                    Key=key,
                    VersionId=version,
                    Retention={"Mode": "GOVERNANCE", "RetainUntilDate": soon},
                    BypassGovernanceRetention=True,
                )
        time.sleep(2)


@pytest.fixture
def place(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Place:
    found = s3_place(s3_server, object_lock=True)
    for name, value in {**ENVIRONMENT, **found.environment}.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def bucket(s3_server: S3Server, place: Place) -> Bucket:
    return Bucket(s3_server, place)


@pytest.fixture
def section(place: Place, home: Path) -> VaultDestinationSection:
    return place.configured(home, object_lock="governance", object_lock_days=30)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime.now(UTC))


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    make_study(tmp_path / "studies" / "one", key="lock one")
    return tmp_path / "studies"


def _destination(section: VaultDestinationSection, clock: FakeClock) -> VaultDestination:
    destination = build_destination(section, clock)
    assert isinstance(destination, VaultDestination)
    return destination


def test_what_snapshots_need_is_retained_and_nothing_else(
    section: VaultDestinationSection, bucket: Bucket, clock: FakeClock, studies: Path
) -> None:
    make_vault(section, clock=clock)
    destination = _destination(section, clock)
    assert back_up(destination, studies, snapshot=False) is None
    flushed = [key for key in bucket.there() if key.startswith(("packs/", "journal/"))]
    assert [bucket.retained_until(key) for key in flushed] == [None, None]
    make_study(studies / "two", key="lock two")
    assert back_up(destination, studies) is not None
    end = clock.now() + timedelta(days=30)
    retained = {key: bucket.retained_until(key) for key in bucket.there()}
    for key, until in retained.items():
        assert until is not None, key
        assert abs(until - end) < timedelta(minutes=1)
    # What was put together is gone, and so is what named it.
    assert not retained.keys() & set(flushed)
    kinds = {key.partition("/")[0] for key in retained}
    assert kinds == {
        "README.txt",
        "config",
        "copies",
        "index",
        "keys",
        "packs",
        "rescue",
        "snapshots",
    }


def test_locks_are_renewed_in_time_and_not_in_every_run(
    s3_server: S3Server,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    clock: FakeClock,
    studies: Path,
) -> None:
    with proxied(s3_server.address) as proxy:
        place = s3_place(s3_server, endpoint=proxy.url, object_lock=True)
        for name, value in {**ENVIRONMENT, **place.environment}.items():
            monkeypatch.setenv(name, value)
        section = place.configured(home, object_lock="compliance", object_lock_days=30)
        bucket = Bucket(s3_server, place)
        make_vault(section, clock=clock)
        destination = _destination(section, clock)
        back_up(destination, studies)
        old = _packs(bucket)
        _retentions(proxy)

        clock.advance(14 * 86_400)
        make_study(studies / "two", key="lock two")
        back_up(destination, studies)
        new = _packs(bucket) - old
        # The new ones alone: pack, index, snapshot.
        assert _retentions(proxy) == len(new) + 2
        ends = {key: bucket.retained_until(key) for key in old | new}
        assert max(map(_time, (ends[key] for key in old))) < min(
            map(_time, (ends[key] for key in new))
        )
        assert back_up(destination, studies) is None
        assert _retentions(proxy) == 0

        clock.advance(2 * 86_400)
        assert back_up(destination, studies) is not None  # nothing new but time
        assert back_up(destination, studies) is None
        for key in bucket.there():
            if not key.startswith("journal/"):
                assert _time(bucket.retained_until(key)) > clock.now() + timedelta(days=29), key
        assert files_in(section, clock) == files_below(studies)


def _time(until: datetime | None) -> datetime:
    assert until is not None
    return until


def _packs(bucket: Bucket) -> set[str]:
    return {key for key in bucket.there() if key.startswith("packs/")}


def _retentions(proxy: Proxy) -> int:
    count = sum("?retention" in target for target in proxy.targets)
    proxy.targets.clear()
    return count


def test_a_prune_leaves_what_is_locked_to_a_later_one(
    section: VaultDestinationSection, bucket: Bucket, clock: FakeClock, studies: Path
) -> None:
    make_vault(section, clock=clock)
    destination = _destination(section, clock)
    back_up(destination, studies)
    kept = _packs(bucket)
    made = make_study(studies / "two", key="lock two")
    snapshot = back_up(destination, studies)
    garbage = _packs(bucket) - kept
    clock.advance(60)
    vault = open_vault_at(section, clock)
    forget_study(vault, made[0].study_instance_uid)
    assert snapshot is not None
    forget_snapshots(vault, [snapshot])
    left = files_below(studies / "one")
    for _turn in range(2):
        clock.advance(60)
        done = prune(open_vault_at(section, clock), _AT_ONCE)
        assert done.removed_packs == 0
        assert done.locked_packs == len(garbage)
        assert done.locked_snapshots == 1
        assert done.notes == []
        assert garbage <= _packs(bucket)
        assert list(files_in(section, clock).values()) == list(left.values())
    clock.advance(60)
    # What was forgotten comes again: it is stored anew, since its old pack is condemned.
    assert back_up(destination, studies) is not None
    assert files_in(section, clock) == files_below(studies)

    bucket.end_all_locks()
    clock.advance(60)
    done = prune(open_vault_at(section, clock), _AT_ONCE)
    assert done.removed_packs == len(garbage)
    assert done.removed_snapshots == 1
    assert done.locked_packs == done.locked_snapshots == 0
    assert not garbage & _packs(bucket)
    assert files_in(section, clock) == files_below(studies)


def test_an_intruder_hides_but_does_not_remove(
    place: Place, home: Path, bucket: Bucket, clock: FakeClock, studies: Path
) -> None:
    section = place.configured(home, object_lock="compliance")
    make_vault(section, clock=clock)
    destination = _destination(section, clock)
    back_up(destination, studies)
    expected = files_below(studies)
    # In the middle of the next run, before its snapshot:
    make_study(studies / "two", key="lock two")
    back_up(destination, studies, snapshot=False)
    staying = bucket.delete_everything()
    assert {key.partition("/")[0] for key in staying} >= {"config", "keys", "packs", "snapshots"}
    with pytest.raises(VaultMissingError):
        open_vault_at(section, clock)
    # ... and puts other bytes on top of some, locked for ever.
    covered = [key for key in staying if key.startswith(("packs/", "keys/"))]
    for key in covered:
        bucket.client.put_object(
            Bucket=bucket.name,
            Key=f"dicom/vault/{key}",
            Body=b"pay",
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=datetime(2099, 1, 1, tzinfo=UTC),
        )

    done = uncover(load_settings(home / "config.toml"), "cloud")
    assert set(done.objects) == set(staying)
    assert done.failed == ()
    assert files_in(section, clock) == expected
    assert present_state(open_vault_at(section, clock)).links
    # The next backup stores what was lost of the run that had no snapshot yet.
    assert back_up(_destination(section, clock), studies) is not None
    assert files_in(section, clock) == files_below(studies)


def test_uncovering_where_there_is_nothing_to_uncover(
    place: Place, home: Path, section: VaultDestinationSection, clock: FakeClock
) -> None:
    make_vault(section, clock=clock)
    settings = load_settings(home / "config.toml")
    assert uncover(settings, "cloud").objects == ()
    place.configured(home)
    with pytest.raises(UsageError, match="no bucket with Object Lock"):
        uncover(load_settings(home / "config.toml"), "cloud")


def test_a_bucket_without_locks_is_refused_before_there_is_a_vault(
    s3_server: S3Server, home: Path, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    place = s3_place(s3_server)
    for name, value in {**ENVIRONMENT, **place.environment}.items():
        monkeypatch.setenv(name, value)
    section = place.configured(home, object_lock="governance")
    with pytest.raises(DestinationStoppedError, match="has no Object Lock"):
        make_vault(section, clock=clock)
    make_vault(place.configured(home), clock=clock)


def test_a_copy_is_retained_where_it_is(
    section: VaultDestinationSection,
    bucket: Bucket,
    clock: FakeClock,
    studies: Path,
    tmp_path: Path,
) -> None:
    here = VaultDestinationSection(
        location=str(tmp_path / "here"), passphrase="env:CLOUD_PASSPHRASE"
    )
    make_vault(here, clock=clock)
    back_up(_destination(here, clock), studies)
    source, target = open_vault_store(here, clock), open_vault_store(section, clock)

    def shortest() -> datetime:
        """Say until when the whole copy is retained."""
        kinds = ("packs", "index", "snapshots", "keys", "copies", "config")
        keys = [key for key in bucket.there() if key.startswith(kinds)]
        return min(_time(bucket.retained_until(key)) for key in keys)

    copy_vault(source, target, clock)
    clock.advance(10 * 86_400)
    make_study(studies / "two", key="lock two")
    back_up(_destination(here, clock), studies)
    copy_vault(source, target, clock)
    assert shortest() < clock.now() + timedelta(days=21)  # too early to renew
    clock.advance(6 * 86_400)
    copy_vault(source, target, clock)
    assert shortest() > clock.now() + timedelta(days=29)
    # The copy is written to by itself: what its snapshots promise is not true of this store.
    clock.advance(16 * 86_400)
    assert back_up(_destination(section, clock), studies) is not None
    assert shortest() > clock.now() + timedelta(days=29)
    assert files_in(section, clock) == files_below(studies)


def test_safe_to_delete_asks_the_store_whether_copies_are_locked(
    section: VaultDestinationSection,
    bucket: Bucket,
    studies: Path,
    home: Path,
    run_dcmvault: RunDcmvault,
) -> None:
    """What snapshots promise counts as far as the store keeps it, and as long."""
    make_vault(section)
    with (home / "config.toml").open("a") as file:
        file.write("[safe_to_delete]\ncopies = 1\nlevel = 'complete'\nmin_age_days = 0\n")
        file.write("immutable = 1\n")
    assert run_dcmvault("backup", studies, "--to", "cloud").returncode == 0

    def reasons() -> list[str]:
        answer = json.loads(run_dcmvault("safe-to-delete", studies, "--json").stdout)
        return [
            reason["code"]
            for verdict in answer["sources"][0]["verdicts"]
            for reason in verdict["not_yet"]
        ]

    assert reasons() == []
    bucket.end_all_locks()
    assert reasons() == ["not_immutable"]
