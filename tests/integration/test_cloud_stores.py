"""Cloud stores beyond the suite: large objects, locks, what goes wrong, and how it is told."""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import obstore
import pytest
from obstore.store import AzureStore, GCSStore, S3Store
from scripts.peer_clouds import Azurite, GcsServer, S3Server
from scripts.peer_launch import free_port
from tests.integration.cloud_proxy import Proxy, proxied

from dcmvault.errors import (
    AddressError,
    ConfigurationError,
    DcmvaultError,
    DestinationStoppedError,
    DestinationUnreachableError,
    ObjectExistsError,
    ObjectLockedError,
    ObjectMissingError,
)
from dcmvault.object_stores.cloud import CloudStore
from dcmvault.object_stores.cloud_open import CloudOptions, open_cloud_store
from dcmvault.object_stores.retrying import Backoff, RetryingStore
from dcmvault.ports.object_store import CompareAndSwap, Retention
from dcmvault.testing.clock import FakeClock

pytestmark = pytest.mark.peers

_HTTP: Any = {"client_options": {"allow_http": True}, "retry_config": {"max_retries": 0}}


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    name = f"bucket-{secrets.token_hex(4)}"
    s3_server.make_bucket(name)
    return name


def _s3(server: S3Server, **more: object) -> CloudOptions:
    options: Any = {
        "endpoint": server.address,
        "access_key_id": server.access_key_id,
        "secret_access_key": server.secret_access_key,
        **more,
    }
    found: CloudOptions = options
    return found


def _actions(store: CloudStore) -> list[Callable[[], object]]:
    return [
        lambda: store.put("key", [b"x"]),
        lambda: store.get("key"),
        lambda: store.get("key", 3, 1),
        lambda: store.head("key"),
        lambda: list(store.keys()),
        lambda: store.delete("key"),
        lambda: store.swap("key", None, b"x"),
        lambda: store.swap("key", b"x", b"y"),
    ]


# Large objects. A store that takes them in one request up to 100 kB only.


@pytest.fixture(params=["s3", "azure", "gcs"])
def inner(
    request: pytest.FixtureRequest, s3_server: S3Server, azurite: Azurite, gcs_server: GcsServer
) -> S3Store | AzureStore | GCSStore:
    name = f"large-{secrets.token_hex(4)}"
    if request.param == "s3":
        s3_server.make_bucket(name)
        return S3Store(
            name,
            prefix="some/prefix",
            endpoint=s3_server.address,
            access_key_id="x",
            secret_access_key="y",
            copy_if_not_exists="multipart",
            **_HTTP,
        )
    if request.param == "azure":
        azurite.make_container(name)
        return AzureStore(
            name,
            prefix="some/prefix",
            endpoint=azurite.address,
            account_name=azurite.account_name,
            account_key=azurite.account_key,
            **_HTTP,
        )
    gcs_server.make_bucket(name)
    return GCSStore(
        name, prefix="some/prefix", base_url=gcs_server.address, bearer_token="x", **_HTTP
    )


def _chunks(seed: int = 0) -> Iterator[bytes]:
    for number in range(20):
        yield bytes([number + seed]) * 1_000_000


def test_large_objects_are_create_only_too(inner: S3Store | AzureStore | GCSStore) -> None:
    store = CloudStore(inner, FakeClock(), one_request=100_000)
    assert store.put("packs/large", _chunks()) == 20_000_000
    assert store.get("packs/large") == b"".join(_chunks())
    assert store.put("packs/large", _chunks()) == 20_000_000
    for other in (_chunks(1), [b"x" * 200_000], [b"x"]):
        with pytest.raises(ObjectExistsError):
            store.put("packs/large", other)
    assert store.get("packs/large", 5_000_000, 3) == b"\5\5\5"
    assert list(store.keys()) == ["packs/large"]
    assert [entry["path"] for page in obstore.list(inner) for entry in page] == ["packs/large"]


def test_a_large_object_whose_producer_fails(inner: S3Store | AzureStore | GCSStore) -> None:
    class ProducerError(Exception):
        pass

    def chunks() -> Iterator[bytes]:
        yield from _chunks()
        raise ProducerError

    store = CloudStore(inner, FakeClock(), one_request=100_000)
    with pytest.raises(ProducerError):
        store.put("large", chunks())
    assert store.head("large") is None
    assert list(obstore.list(inner)) == []


def test_what_a_crash_left_is_swept_a_day_later(inner: S3Store | AzureStore | GCSStore) -> None:
    obstore.put(inner, ".staging/left-behind", b"x")
    now = datetime.now(UTC)
    for clock, remains in ((FakeClock(now), True), (FakeClock(now + timedelta(days=2)), False)):
        store = CloudStore(inner, clock, one_request=10)
        store.put("key", [b"x" * 20])
        assert list(store.keys()) == ["key"]
        paths = [entry["path"] for page in obstore.list(inner) for entry in page]
        assert (".staging/left-behind" in paths) == remains


# What goes wrong.


def test_a_missing_bucket_is_not_an_empty_one(s3_server: S3Server, azurite: Azurite) -> None:
    stores = [
        open_cloud_store("s3://no-such-bucket/x", FakeClock(), **_s3(s3_server)),
        open_cloud_store(
            "az://no-such-container/x",
            FakeClock(),
            endpoint=azurite.address,
            account_name=azurite.account_name,
            account_key=azurite.account_key,
        ),
    ]
    for store in stores:
        for action in _actions(store):
            with pytest.raises(DestinationStoppedError, match="does not exist"):
                action()


def test_refused_access_says_so_without_secrets(
    s3_server: S3Server, azurite: Azurite, bucket: str
) -> None:
    s3_server.set_policy(
        bucket,
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [f"arn:aws:s3:::{bucket}/*"],
        },
    )
    secret = "c2VjcmV0c2VjcmV0c2VjcmV0"
    stores: list[CloudStore] = [
        open_cloud_store(
            f"s3://{bucket}/x", FakeClock(), **_s3(s3_server, secret_access_key=secret)
        ),
        open_cloud_store(
            "az://container",
            FakeClock(),
            endpoint=azurite.address,
            account_name=azurite.account_name,
            account_key=secret,
        ),
        open_cloud_store(
            "az://container",
            FakeClock(),
            endpoint=azurite.address,
            account_name=azurite.account_name,
            sas_token=f"sv=2021-12-02&se=2040-01-01&sig={secret}",
        ),
    ]
    for store in stores:
        for action in _actions(store)[:2]:
            with pytest.raises(DestinationStoppedError, match="refused access") as caught:
                action()
            assert caught.value.hint
            _assert_tells_nothing(caught.value, secret)


def test_no_connection(s3_server: S3Server, azurite: Azurite) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    secret = "c2VjcmV0c2VjcmV0c2VjcmV0"
    stores = [
        open_cloud_store(
            "s3://bucket", FakeClock(), **_s3(s3_server, endpoint=nobody, session_token=secret)
        ),
        open_cloud_store(
            "az://container",
            FakeClock(),
            endpoint=nobody,
            account_name="a",
            sas_token=f"sig={secret}",
        ),
        open_cloud_store("gs://bucket", FakeClock(), endpoint=nobody, bearer_token=secret),
    ]
    for store in stores:
        for action in _actions(store):
            with pytest.raises(DestinationUnreachableError) as caught:
                action()
            _assert_tells_nothing(caught.value, secret)


def test_a_server_that_never_answers(s3_server: S3Server) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = _s3(s3_server, endpoint=endpoint, timeout_s=0.2)
        store = open_cloud_store("s3://bucket", FakeClock(), **options)
        with pytest.raises(DestinationUnreachableError):
            store.put("key", [b"x"])


def test_no_credentials(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    store = open_cloud_store("s3://bucket", FakeClock(), endpoint=s3_server.address)
    with pytest.raises(DestinationStoppedError, match="No usable credentials"):
        store.put("key", [b"x"])


def _assert_tells_nothing(error: BaseException, secret: str) -> None:
    seen: BaseException | None = error
    while seen is not None:
        assert secret not in str(seen)
        assert not isinstance(seen, DcmvaultError) or secret not in seen.hint
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


# Through a proxy that interferes.


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    with proxied(s3_server.address) as running:
        yield running


@pytest.fixture
def through(s3_server: S3Server, bucket: str, proxy: Proxy) -> CloudStore:
    return open_cloud_store(f"s3://{bucket}/p", FakeClock(), **_s3(s3_server, endpoint=proxy.url))


def test_a_busy_store_is_come_back_to(through: CloudStore, proxy: Proxy) -> None:
    proxy.refuse = {"PUT": [503, 500, 429]}
    with pytest.raises(DestinationUnreachableError, match="503 SlowDown"):
        through.put("key", [b"x"])
    clock = FakeClock()
    store = RetryingStore(through, clock.advance, Backoff(first_s=1, jitter=0))
    assert store.put("key", [b"x"]) == 1
    assert clock.monotonic() == 3
    assert through.get("key") == b"x"


def test_lost_answers_of_a_put_and_a_swap(through: CloudStore, proxy: Proxy) -> None:
    store = RetryingStore(through, FakeClock().advance)
    assert isinstance(store, CompareAndSwap)
    proxy.lose = ["PUT"]
    assert store.put("key", [b"content"]) == 7
    proxy.lose = ["PUT"]
    assert store.swap("lease", None, b"one") is True
    proxy.lose = ["PUT"]
    assert store.swap("lease", b"one", b"two") is True
    assert store.swap("lease", b"one", b"three") is False
    assert proxy.lose == []
    assert store.get("lease") == b"two"


def test_a_store_that_ignores_conditions_is_found_out(through: CloudStore, proxy: Proxy) -> None:
    proxy.stripped = frozenset({"if-none-match", "if-match"})
    with pytest.raises(DestinationStoppedError, match="ignores conditions"):
        through.swap("lease", None, b"one")


def test_checksums_only_where_wanted(
    s3_server: S3Server, bucket: str, proxy: Proxy, through: CloudStore
) -> None:
    through.put("with", [b"x"])
    options = _s3(s3_server, endpoint=proxy.url, checksums="when_required")
    open_cloud_store(f"s3://{bucket}/p", FakeClock(), **options).put("without", [b"x"])
    (_, first), (_, second) = proxy.requests
    # SHA-256 of "x", in base64.
    assert first["x-amz-checksum-sha256"] == "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE="
    assert not [name for name in second if "checksum" in name]


# Object Lock.


@pytest.fixture
def locked_bucket(s3_server: S3Server) -> str:
    name = f"locked-{secrets.token_hex(4)}"
    s3_server.make_bucket(name, object_lock=True)
    return name


def _client(server: S3Server) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.address,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
    )


def test_a_locked_object_says_until_when(s3_server: S3Server, locked_bucket: str) -> None:
    store = open_cloud_store(
        f"s3://{locked_bucket}/vault", FakeClock(), **_s3(s3_server, object_lock="governance")
    )
    assert isinstance(store, Retention)
    store.put("packs/a", [b"pack"])
    store.retain("packs/a", datetime(2040, 2, 3, 4, 5, tzinfo=UTC))
    store.retain("packs/a", datetime(2039, 1, 1, tzinfo=UTC))
    with pytest.raises(ObjectLockedError, match="until 2040-02-03 04:05 UTC"):
        store.delete("packs/a")
    held = _client(s3_server).head_object(Bucket=locked_bucket, Key="vault/packs/a")
    assert held["ObjectLockMode"] == "GOVERNANCE"
    assert held["ObjectLockRetainUntilDate"].year == 2040


def test_removing_frees_every_version(s3_server: S3Server, locked_bucket: str) -> None:
    store = open_cloud_store(
        f"s3://{locked_bucket}/vault", FakeClock(), **_s3(s3_server, object_lock="compliance")
    )
    for expected, new in ((None, b"one"), (b"one", b"two"), (b"two", b"three")):
        assert store.swap("lease", expected, new)
    store.put("lease-not", [b"x"])
    store.delete("lease")
    left = _client(s3_server).list_object_versions(Bucket=locked_bucket)
    assert [entry["Key"] for entry in left["Versions"]] == ["vault/lease-not"]
    assert "DeleteMarkers" not in left
    with pytest.raises(ObjectMissingError):
        store.delete("lease")


def test_retention_where_the_bucket_has_no_locks(s3_server: S3Server, bucket: str) -> None:
    store = open_cloud_store(
        f"s3://{bucket}", FakeClock(), **_s3(s3_server, object_lock="governance")
    )
    assert isinstance(store, Retention)
    store.put("key", [b"x"])
    with pytest.raises(DestinationStoppedError, match="has no Object Lock"):
        store.retain("key", datetime(2040, 1, 1, tzinfo=UTC))
    store.delete("key")
    assert list(store.keys()) == []


# Addresses and options.


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///key", "http://bucket/x", "s3://bucket/a b", "s3://bucket/../x", "gs:b", ""],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(AddressError):
        open_cloud_store(url, FakeClock())


def test_options_that_do_not_fit() -> None:
    with pytest.raises(ConfigurationError, match="S3 only"):
        open_cloud_store("gs://bucket", FakeClock(), object_lock="governance")
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        open_cloud_store("az://container", FakeClock())
    with pytest.raises(ConfigurationError, match="cannot be opened") as caught:
        open_cloud_store("gs://bucket", FakeClock(), service_account_key='{"secret": "word"}')
    _assert_tells_nothing(caught.value, "word")


def test_what_is_not_given_comes_from_the_environment(
    s3_server: S3Server, azurite: Azurite, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = f"container-{secrets.token_hex(4)}"
    azurite.make_container(container)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", azurite.account_name)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", azurite.account_key)
    for url, endpoint in (
        (f"s3://{bucket}/p/", s3_server.address),
        (f"az://{container}", azurite.address),
    ):
        store = open_cloud_store(url, FakeClock(), endpoint=endpoint)
        store.put("key", [b"x"])
        assert list(store.keys()) == ["key"]


@pytest.mark.parametrize(("missing", "extra"), [("obstore", "cloud"), ("boto3", "s3-lock")])
def test_an_extra_that_is_not_installed(
    missing: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "dcmvault.object_stores.cloud", raising=False)
    with pytest.raises(ConfigurationError) as caught:
        open_cloud_store("s3://bucket", FakeClock(), object_lock="governance")
    assert f"dcmvault[{extra}]" in caught.value.hint
