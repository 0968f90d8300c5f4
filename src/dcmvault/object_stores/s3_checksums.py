"""S3 with checksums: what the store compared with the bytes it got, and keeps beside an object."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from functools import cached_property
from typing import Any

from obstore.store import ObjectStore as Bucket

from dcmvault.object_stores.cloud import CloudStore
from dcmvault.object_stores.keys import check_key
from dcmvault.ports.clock import Clock


class S3Store(CloudStore):
    """A CloudStore in a bucket of S3, to which a SHA-256 is sent with every object.

    `client` makes boto3's for S3 when it is needed, `name` is the bucket's, and `prefix` what
    stands before each key (empty, or with a slash at its end).
    """

    def __init__(
        self, bucket: Bucket, clock: Clock, client: Callable[[], Any], *, name: str, prefix: str
    ) -> None:
        super().__init__(bucket, clock)
        self._make_client = client
        self._name = name
        self._prefix = prefix

    @cached_property
    def _client(self) -> Any:
        return self._make_client()

    def sha256(self, key: str) -> bytes | None:
        """Return the SHA-256 that the store has of an object.

        None for one that was made of parts: what S3 has then is no checksum of its bytes.
        Raises ConfigurationError where boto3 is not installed.
        """
        check_key(key)
        client = self._client
        from dcmvault.object_stores.s3_errors import boto_errors  # noqa: PLC0415 (an extra)

        with boto_errors(key):
            answer = client.head_object(
                Bucket=self._name, Key=self._prefix + key, ChecksumMode="ENABLED"
            )
        try:
            digest = base64.b64decode(answer.get("ChecksumSHA256", ""), validate=True)
        except binascii.Error:
            return None
        return digest if len(digest) == 32 else None
