"""S3 Object Lock: objects that nobody can remove before a date. Needs boto3.

Locks hold for versions of objects, and a bucket with locks keeps versions: removing an object
without naming its version would only hide it, and free nothing. So objects are removed here
version by version, which is where the store says no.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from botocore import exceptions as boto
from obstore.store import ObjectStore as Bucket

from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    ObjectLockedError,
    ObjectMissingError,
)
from dcmvault.object_stores.cloud import CloudStore
from dcmvault.object_stores.cloud_errors import bucket_missing
from dcmvault.object_stores.keys import check_key
from dcmvault.ports.clock import Clock

#: `governance` can be lifted by whoever has a special right, `compliance` by nobody at all.
LockMode = Literal["governance", "compliance"]

_MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "404"})
_NO_LOCKS = frozenset({"ObjectLockConfigurationNotFoundError", "InvalidRequest"})
_DENIED = frozenset({"AccessDenied", "Forbidden", "403"})


class _Version(NamedTuple):
    """One version of an object, or a marker that hides all before it."""

    path: str
    version_id: str
    is_marker: bool


class LockingCloudStore(CloudStore):
    """A CloudStore in a bucket of S3 that was made with Object Lock: it offers Retention.

    `client` is boto3's for S3, `name` the bucket's, and `prefix` what stands before each key
    (empty, or with a slash at its end). `keep_for` is how long what is needed is to be retained.
    `delete` removes every version of an object.
    """

    def __init__(
        self,
        bucket: Bucket,
        clock: Clock,
        client: Any,
        *,
        name: str,
        prefix: str,
        mode: LockMode,
        keep_for: timedelta,
    ) -> None:
        super().__init__(bucket, clock)
        self._client = client
        self._name = name
        self._prefix = prefix
        self._mode = mode.upper()
        self._keep_for = keep_for

    def keep_until(self) -> datetime:
        """Return until when what is needed now is to be kept."""
        return self._clock.now() + self._keep_for

    def retained_until(self, key: str) -> datetime | None:
        """Return until when the present version of an object is retained."""
        check_key(key)
        try:
            return self._version_retained_until(key)
        except ObjectMissingError:
            return None

    def retain(self, key: str, until: datetime) -> None:
        """Keep the present version of an object until then."""
        check_key(key)
        if until.utcoffset() is None:
            message = "retention needs an aware datetime"
            raise ValueError(message)
        holds = self._version_retained_until(key)
        if holds is not None and holds >= until:
            return
        with _boto_errors(key):
            self._client.put_object_retention(
                Bucket=self._name,
                Key=self._prefix + key,
                Retention={"Mode": self._mode, "RetainUntilDate": until.astimezone(UTC)},
            )

    def delete(self, key: str) -> None:
        """Remove all versions of an object; ObjectLockedError while the store keeps one."""
        if self.head(key) is None:
            raise ObjectMissingError(f"no object {key}")
        for version in self._versions(key):
            try:
                self._remove(key, version)
            except DestinationStoppedError:
                until = self._version_retained_until(key, version)
                if until is None or until <= self._clock.now():
                    raise
                raise ObjectLockedError(
                    f"the store keeps {key} until {until:%Y-%m-%d %H:%M} UTC",
                    hint="Its retention ends then; until that nobody should be able to remove it.",
                ) from None

    def uncover(self, changing: Collection[str]) -> Iterator[tuple[str, bool]]:
        """Make the first version of each object the present one again; give what was covered.

        Whoever may write but not break locks can hide an object behind a delete marker, or put
        other bytes on top. Markers and later versions are removed; what is locked itself is
        covered by a copy of the first version (False in the answer: that failed, too). Objects
        of one version, and `changing` ones, which have many, are left alone.
        """
        every: dict[str, list[_Version]] = {}
        for version in self._listed(self._prefix):
            every.setdefault(version.path, []).append(version)
        for path, versions in sorted(every.items()):
            key = path.removeprefix(self._prefix)
            contents = [one for one in versions if not one.is_marker]
            if len(versions) > 1 and contents and key not in changing:
                # They are listed from the newest to the oldest.
                yield key, self._uncover(key, contents[-1], versions)

    def _uncover(self, key: str, first: _Version, versions: list[_Version]) -> bool:
        is_covered = False
        for version in versions:
            if version is not first:
                try:
                    self._remove(key, version.version_id)
                except DestinationStoppedError:
                    is_covered = True
        if is_covered:
            source = {"Bucket": self._name, "Key": first.path, "VersionId": first.version_id}
            try:
                with _boto_errors(key):
                    self._client.copy_object(Bucket=self._name, Key=first.path, CopySource=source)
            except DestinationStoppedError:
                return False
        return True

    def _remove(self, key: str, version: str) -> None:
        with _boto_errors(key):
            self._client.delete_object(Bucket=self._name, Key=self._prefix + key, VersionId=version)

    def _versions(self, key: str) -> list[str]:
        """List the versions of an object, the newest first."""
        path = self._prefix + key
        return [version.version_id for version in self._listed(path) if version.path == path]

    def _listed(self, prefix: str) -> Iterator[_Version]:
        with _boto_errors(prefix):
            pages: Iterable[Any] = self._client.get_paginator("list_object_versions").paginate(
                Bucket=self._name, Prefix=prefix
            )
            for page in pages:
                for kind in ("Versions", "DeleteMarkers"):
                    for entry in page.get(kind, ()):
                        yield _Version(entry["Key"], entry["VersionId"], kind == "DeleteMarkers")

    def _version_retained_until(self, key: str, version: str = "") -> datetime | None:
        which = {"VersionId": version} if version else {}
        with _boto_errors(key):
            answer = self._client.head_object(Bucket=self._name, Key=self._prefix + key, **which)
        until: datetime | None = answer.get("ObjectLockRetainUntilDate")
        return until


def _code(error: boto.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def _boto_errors(key: str) -> Iterator[None]:
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
