"""From an address to a store in the cloud: `s3://`, `az://` and `gs://BUCKET/PREFIX`.

The libraries are extras and slow to import, so that they are imported when a store is opened.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from dcmvault.errors import AddressError, ConfigurationError
from dcmvault.object_stores.keys import is_valid_key
from dcmvault.ports.clock import Clock

if TYPE_CHECKING:
    from obstore.store import ClientConfig
    from obstore.store import ObjectStore as Bucket

    from dcmvault.object_stores.cloud import CloudStore

_ADDRESS = re.compile(r"(s3|az|gs)://([A-Za-z0-9][A-Za-z0-9._-]{1,221})(?:/(.*))?\Z")
#: Our options, and what the library calls them.
_NAMES = {
    "s3": {
        "endpoint": "endpoint",
        "region": "region",
        "access_key_id": "access_key_id",
        "secret_access_key": "secret_access_key",
        "session_token": "session_token",
    },
    "az": {
        "endpoint": "endpoint",
        "account_name": "account_name",
        "account_key": "account_key",
        "sas_token": "sas_key",
    },
    "gs": {
        "endpoint": "base_url",
        "service_account_key": "service_account_key",
        "bearer_token": "bearer_token",
    },
}
#: A request may take this long: a pack of 32 MiB at half a megabit per second.
_TIMEOUT_S = 600.0
_CONNECT_S = 10.0
_LOCK_DAYS = 30
#: Connections that boto3 keeps: as many as objects are retained at once.
_LOCK_CONNECTIONS = 16


class CloudOptions(TypedDict, total=False):
    """How to reach a store; what is left out comes from the variables that its vendor names.

    S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL.
    Azure: AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN.
    GCS: GOOGLE_APPLICATION_CREDENTIALS, GOOGLE_SERVICE_ACCOUNT_KEY. Where there is none of
    these, the identity of the machine in the vendor's cloud is asked for.
    """

    #: Address of the service, for others than the vendor's own; `http://` does without TLS.
    endpoint: str
    #: S3: region of the bucket (us-east-1 if nothing says otherwise).
    region: str
    access_key_id: str
    secret_access_key: str
    session_token: str
    #: Azure: the storage account and its key, or a shared access signature.
    account_name: str
    account_key: str
    sas_token: str
    #: GCS: a service account's key (the JSON itself), or a token that was got elsewhere.
    service_account_key: str
    bearer_token: str
    #: S3: send a SHA-256 that the store checks and keeps, or only what S3 itself insists on.
    #: Some stores that speak like S3 refuse checksums.
    checksums: Literal["always", "when_required"]
    #: S3: offer retention, in this mode; needs boto3.
    object_lock: Literal["governance", "compliance"]
    #: With `object_lock`: days for which what is needed is retained, 30 if not said.
    object_lock_days: int
    #: Seconds that one request may take.
    timeout_s: float


def open_cloud_store(url: str, clock: Clock, **options: Unpack[CloudOptions]) -> CloudStore:
    """Open the objects under a prefix of a bucket; nothing is asked of it yet.

    With `object_lock` the store offers Retention. Raises AddressError, and ConfigurationError
    for options that do not fit or an extra that is not installed.
    """
    found = _ADDRESS.match(url)
    prefix = (found.group(3) or "").strip("/") if found else ""
    if found is None or (prefix and not is_valid_key(prefix)):
        raise AddressError(
            "This is no address of a bucket.",
            hint="Write s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or gs://BUCKET/PREFIX.",
        )
    scheme, name = found.group(1), found.group(2)
    if "object_lock" in options and scheme != "s3":
        raise ConfigurationError("Object Lock is offered for S3 only.")
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415 (an extra)

        from dcmvault.object_stores.cloud import CloudStore  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError as error:
        raise _not_installed("cloud") from error
    try:
        bucket = _open_bucket(scheme, name, prefix, options)
    except (BaseError, ValueError):
        raise ConfigurationError(
            "The object store cannot be opened with these options.",
            hint="Check its credentials, and for Azure the name of the account.",
        ) from None  # the text below may hold credentials
    if "object_lock" in options:
        return _locking(bucket, clock, name, prefix, options)
    if scheme == "s3" and options.get("checksums", "always") == "always":
        from dcmvault.object_stores.s3_checksums import S3Store  # noqa: PLC0415 (an extra)

        return S3Store(
            bucket,
            clock,
            lambda: _boto_client(options),
            name=name,
            prefix=f"{prefix}/" if prefix else "",
        )
    return CloudStore(bucket, clock)


def _open_bucket(scheme: str, name: str, prefix: str, options: CloudOptions) -> Bucket:
    from obstore import store  # noqa: PLC0415 (an extra)

    client: ClientConfig = {
        "timeout": timedelta(seconds=options.get("timeout_s", _TIMEOUT_S)),
        "connect_timeout": timedelta(seconds=_CONNECT_S),
        "allow_http": options.get("endpoint", "").startswith("http://"),
    }
    arguments: dict[str, Any] = {
        "prefix": prefix or None,
        "client_options": client,
        # Whoever wants to try again wraps the store: a write that is repeated unseen below could
        # meet itself.
        "retry_config": {"max_retries": 0},
        **{theirs: options[ours] for ours, theirs in _NAMES[scheme].items() if ours in options},  # type: ignore[literal-required]
    }
    if scheme == "az":
        return store.AzureStore(name, **arguments)
    if scheme == "gs":
        return store.GCSStore(name, **arguments)
    if options.get("checksums", "always") == "always":
        arguments["checksum_algorithm"] = "SHA256"
    # Bulk deletion is what S3-compatible stores lack most.
    return store.S3Store(
        name, copy_if_not_exists="multipart", disable_bulk_delete=True, **arguments
    )


def _locking(
    bucket: Bucket, clock: Clock, name: str, prefix: str, options: CloudOptions
) -> CloudStore:
    client = _boto_client(options)
    from dcmvault.object_stores.s3_lock import LockingCloudStore  # noqa: PLC0415 (an extra)

    return LockingCloudStore(
        bucket,
        clock,
        lambda: client,
        name=name,
        prefix=f"{prefix}/" if prefix else "",
        mode=options["object_lock"],
        keep_for=timedelta(days=options.get("object_lock_days", _LOCK_DAYS)),
    )


def _boto_client(options: CloudOptions) -> Any:
    """Make boto3's client; ConfigurationError where it is not installed."""
    try:
        import boto3  # noqa: PLC0415 (an extra)
        from botocore.config import Config  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError as error:
        raise _not_installed("s3-lock") from error
    environment = os.environ
    return boto3.client(
        "s3",
        endpoint_url=options.get("endpoint"),
        region_name=options.get("region")
        or environment.get("AWS_REGION")
        or environment.get("AWS_DEFAULT_REGION", "us-east-1"),
        aws_access_key_id=options.get("access_key_id"),
        aws_secret_access_key=options.get("secret_access_key"),
        aws_session_token=options.get("session_token"),
        config=Config(
            connect_timeout=_CONNECT_S,
            read_timeout=60,
            max_pool_connections=_LOCK_CONNECTIONS,
            retries={"total_max_attempts": 1},
            # Since 1.36 boto3 sends checksums that stores that speak like S3 may refuse.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if "endpoint" in options else "auto"},
        ),
    )


def _not_installed(extra: str) -> ConfigurationError:
    return ConfigurationError(
        "A part of dcmvault that this object store needs is not installed.",
        hint=f"Install it: pip install 'dcmvault[{extra}]'",
    )
