"""What a cloud store's errors mean: stop, come back later, or this object only.

Texts of the library below name addresses, which may carry signatures: nothing of them is passed
on but the HTTP status and the store's own error code, and errors are raised without their cause.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from obstore import exceptions

from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    ObjectMissingError,
)

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"})
_EXPIRED = frozenset(
    {"ExpiredToken", "RequestTimeTooSkewed", "InvalidToken", "TokenRefreshRequired"}
)
#: Too many requests, and what the store's own trouble is called (RFC 9110, 15.6; RFC 6585, 4).
_PASSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
#: What is asked where credentials come from: instance metadata (S3), tokens (Azure, GCS).
_CREDENTIALS = re.compile(
    r"performing token request|credential error|/latest/api/token|/latest/meta-data/"
    r"|/metadata/identity/|/computeMetadata/v1/"
)

_RIGHTS = "The credentials need the rights to list, read, write and delete objects there."


@contextlib.contextmanager
def cloud_errors(key: str = "") -> Iterator[None]:
    """Turn what the library says about an object (or, without one, the bucket) into our errors."""
    try:
        yield
    except (FileNotFoundError, exceptions.BaseError) as error:
        raise _meaning(error, key) from None


def bucket_missing() -> DestinationStoppedError:
    """Make the error for a bucket that is not there."""
    return DestinationStoppedError(
        "The bucket or container does not exist.",
        hint="Check its name, region and account; dcmvault does not make buckets.",
    )


def conditions_ignored() -> DestinationStoppedError:
    """Make the error for a store that overwrites what it was told to create only."""
    return DestinationStoppedError(
        "The object store ignores conditions on writing, so two writers could not be kept apart.",
        hint="Use a store that honours If-None-Match and If-Match, or a newer version of it.",
    )


def always_busy() -> DestinationUnreachableError:
    """Make the error for an object that others never stop writing."""
    return DestinationUnreachableError(
        "The object store reports conflicting writes again and again.",
        hint="Try again when fewer writers are at work.",
    )


def _status(text: str) -> int:
    found = _STATUS.search(text)
    return int(found.group(1)) if found else 0


def _meaning(error: Exception, key: str) -> DestinationError:
    text = str(error)
    status = _status(text)
    found = _CODE.search(text)
    code = found.group(1) if found else ""
    said = f" ({f'{status} {code}'.strip()})" if status else ""
    if code in _NO_BUCKET or (status == 404 and not key):
        return bucket_missing()
    if isinstance(error, FileNotFoundError):
        return ObjectMissingError(f"no object {key}")
    is_refusal = isinstance(
        error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
    )
    if _CREDENTIALS.search(text.partition("status code")[0]) and not is_refusal:
        return DestinationStoppedError(
            "No usable credentials for the object store were found.",
            hint="Give them in the configuration, or in the variables that its vendor names.",
        )
    if code in _EXPIRED:
        return DestinationStoppedError(
            f"The object store does not accept the credentials any more{said}.",
            hint="Renew them, and check this machine's clock.",
        )
    if is_refusal or status in (401, 403):
        return DestinationStoppedError(f"The object store refused access{said}.", hint=_RIGHTS)
    if status in _PASSES or not status:
        return _unreachable(text, said)
    return DestinationStoppedError(
        f"The object store refused the request{said}.",
        hint="Check address, region and options of the store.",
    )


def _unreachable(text: str, said: str) -> DestinationUnreachableError:
    if said:
        return DestinationUnreachableError(
            f"The object store cannot answer now{said}.", hint="Try again later."
        )
    if "builder error" in text:
        return DestinationUnreachableError(
            "The object store's address cannot be used.",
            hint="An address without TLS must be given as an endpoint that begins with http://.",
        )
    return DestinationUnreachableError(
        "No connection to the object store.",
        hint="Check network, name, port and certificate of its endpoint.",
    )
