"""S3 Object Lock: objects that nobody can remove before a date. Needs boto3.

Locks hold for versions of objects, and a bucket with locks keeps versions: removing an object
without naming its version would only hide it, and free nothing. So objects are removed here
version by version, which is where the store says no.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from obstore.store import ObjectStore as Bucket

from dcmvault.errors import DestinationStoppedError, ObjectLockedError, ObjectMissingError
from dcmvault.object_stores.keys import check_key
from dcmvault.object_stores.s3_checksums import S3Store
from dcmvault.object_stores.s3_errors import boto_errors
from dcmvault.ports.clock import Clock

#: `governance` can be lifted by whoever has a special right, `compliance` by nobody at all.
LockMode = Literal["governance", "compliance"]


class _Version(NamedTuple):
    """One version of an object, or a marker that hides all before it."""

    path: str
    version_id: str
    is_marker: bool


class LockingCloudStore(S3Store):
    """An S3Store in a bucket of S3 that was made with Object Lock: it offers Retention.

    `keep_for` is how long what is needed is to be retained.
    `delete` removes every version of an object.
    """

    def __init__(
        self,
        bucket: Bucket,
        clock: Clock,
        client: Callable[[], Any],
        *,
        name: str,
        prefix: str,
        mode: LockMode,
        keep_for: timedelta,
    ) -> None:
        super().__init__(bucket, clock, client, name=name, prefix=prefix)
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
        with boto_errors(key):
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
                with boto_errors(key):
                    self._client.copy_object(Bucket=self._name, Key=first.path, CopySource=source)
            except DestinationStoppedError:
                return False
        return True

    def _remove(self, key: str, version: str) -> None:
        with boto_errors(key):
            self._client.delete_object(Bucket=self._name, Key=self._prefix + key, VersionId=version)

    def _versions(self, key: str) -> list[str]:
        """List the versions of an object, the newest first."""
        path = self._prefix + key
        return [version.version_id for version in self._listed(path) if version.path == path]

    def _listed(self, prefix: str) -> Iterator[_Version]:
        with boto_errors(prefix):
            pages: Iterable[Any] = self._client.get_paginator("list_object_versions").paginate(
                Bucket=self._name, Prefix=prefix
            )
            for page in pages:
                for kind in ("Versions", "DeleteMarkers"):
                    for entry in page.get(kind, ()):
                        yield _Version(entry["Key"], entry["VersionId"], kind == "DeleteMarkers")

    def _version_retained_until(self, key: str, version: str = "") -> datetime | None:
        which = {"VersionId": version} if version else {}
        with boto_errors(key):
            answer = self._client.head_object(Bucket=self._name, Key=self._prefix + key, **which)
        until: datetime | None = answer.get("ObjectLockRetainUntilDate")
        return until
