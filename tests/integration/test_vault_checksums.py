"""A vault in S3 is committed where the store's own checksums are what they are to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
from scripts.peer_clouds import S3Server
from tests.integration.cloud_vault_world import (
    ENVIRONMENT,
    back_up,
    evidence,
    make_vault,
    s3_place,
)

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.destinations import build_destination
from dcmvault.destinations.vault import VaultDestination
from dcmvault.model.evidence import Level
from dcmvault.testing.dicom_files import make_study

pytestmark = pytest.mark.peers


def test_the_store_commits_by_its_checksums(
    tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one: unknown, never held. Equal: held. Of other bytes: damaged, though as many."""
    place = s3_place(s3_server)
    for name, value in (ENVIRONMENT | dict(place.environment)).items():
        monkeypatch.setenv(name, value)
    section = place.configured(tmp_path / "home")
    make_vault(section)
    folder = tmp_path / "study"
    make_study(folder, key="commits", instances=2)
    destination = build_destination(section, SystemClock())
    assert isinstance(destination, VaultDestination)
    assert Level.COMMITTED in destination.levels
    back_up(destination, folder)
    bucket = place.location.split("/")[2]
    client: Any = boto3.client(
        "s3",
        endpoint_url=s3_server.address,
        region_name="us-east-1",
        aws_access_key_id=s3_server.access_key_id,
        aws_secret_access_key=s3_server.secret_access_key,
    )
    listed = client.list_objects_v2(Bucket=bucket)["Contents"]
    packs = [one["Key"] for one in listed if "/packs/" in one["Key"]]
    originals = {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in packs}
    # The simulated S3 keeps a checksum only where boto3 announces its algorithm.
    assert evidence(destination, folder, Level.COMMITTED) == {"unknown": 2}
    for key, content in originals.items():
        client.put_object(Bucket=bucket, Key=key, Body=content, ChecksumAlgorithm="SHA256")
    assert evidence(destination, folder, Level.COMMITTED) == {"held": 2}
    for key, content in originals.items():
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        client.put_object(Bucket=bucket, Key=key, Body=flipped, ChecksumAlgorithm="SHA256")
    assert evidence(destination, folder, Level.COMMITTED) == {"damaged": 2}
    assert evidence(destination, folder, Level.COMPLETE) == {"held": 2}


def test_a_store_that_is_sent_no_checksums_cannot_commit(
    tmp_path: Path, s3_server: S3Server
) -> None:
    section = s3_place(s3_server).configured(tmp_path / "home", checksums="when_required")
    destination = build_destination(section, SystemClock())
    assert isinstance(destination, VaultDestination)
    assert Level.COMMITTED not in destination.levels
