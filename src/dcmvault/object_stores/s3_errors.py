"""What boto3's errors mean: it asks of S3 what obstore cannot. Needs boto3."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from botocore import exceptions as boto

from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    ObjectMissingError,
)
from dcmvault.object_stores.cloud_errors import bucket_missing

_MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "404"})
_NO_LOCKS = frozenset({"ObjectLockConfigurationNotFoundError", "InvalidRequest"})
_DENIED = frozenset({"AccessDenied", "Forbidden", "403"})


def _code(error: boto.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def boto_errors(key: str) -> Iterator[None]:
    """Raise what boto3 raises as what it means for an object."""
    try:
        yield
    except (boto.ClientError, boto.BotoCoreError) as error:
        raise _meaning(error, key) from None


def _meaning(error: Exception, key: str) -> DestinationError:
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return DestinationStoppedError(
            "No usable credentials for the object store were found.",
            hint="Give them in the configuration, or in the variables that its vendor names.",
        )
    if not isinstance(error, boto.ClientError):
        return DestinationUnreachableError(
            "No connection to the object store.",
            hint="Check network, name, port and certificate of its endpoint.",
        )
    code = _code(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _MISSING:
        return ObjectMissingError(f"no object {key}")
    if code == "NoSuchBucket":
        return bucket_missing()
    if code in _NO_LOCKS:
        return DestinationStoppedError(
            "The bucket has no Object Lock, so nothing in it can be retained.",
            hint="Object Lock is switched on when a bucket is made; use one that has it.",
        )
    if code in _DENIED:
        return DestinationStoppedError(
            f"The object store refused access ({status} {code}).",
            hint="Retention needs the rights to read and set it, and to list and delete versions.",
        )
    if status >= 500 or status == 429 or code == "SlowDown":
        return DestinationUnreachableError(
            f"The object store cannot answer now ({status} {code}).", hint="Try again later."
        )
    return DestinationStoppedError(
        f"The object store refused the request ({status} {code}).",
        hint="Check address, region and options of the store.",
    )
