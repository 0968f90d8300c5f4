"""Packs checked: every byte against the name; every blob opened, decoded, compared with its id."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Iterator, Sequence

from dcmvault.errors import (
    DestinationError,
    ObjectMissingError,
    VaultDamagedError,
    VaultFormatError,
)
from dcmvault.vault.blob import BlobRow, BlobType
from dcmvault.vault.check_objects import KeylessVault, Verdict
from dcmvault.vault.codec import decode
from dcmvault.vault.crypto import Sealer, read_header
from dcmvault.vault.findings import Blob, Finding, Trouble
from dcmvault.vault.pack import Rows, blob_rows, footer_length, pack_key, read_footer
from dcmvault.vault.parity import HEAD_BYTES, fits_pack
from dcmvault.vault.repository import Vault
from dcmvault.vault.sound_packs import parity_keys, sound_pack

_END_BYTES = 8


class PackCheck:
    """Reads whole packs. Safe for several threads; each holds one pack and one blob."""

    def __init__(self, vault: Vault | KeylessVault) -> None:
        self._vault = vault
        self._contents = PackContents(vault) if isinstance(vault, Vault) else None

    def read(self, name: bytes) -> Verdict:
        """Read a pack; nothing is found where it is gone."""
        key = pack_key(name)
        try:
            data = self._vault.objects.read_copy(key)
        except ObjectMissingError:
            return Verdict()
        size = len(data or b"")
        if data is None or hashlib.sha256(data).digest() != name:
            return self._damaged(name, data or b"", size)
        findings = self._parity(name, data)
        closed: frozenset[Blob] = frozenset()
        try:
            if self._contents is None:
                read_header(data, b"P", self._vault.config.vault_id)
            else:
                closed = self._contents.closed(data, self._contents.rows(name, data))
        except (VaultDamagedError, VaultFormatError) as error:
            findings.append(Finding(Trouble.UNREADABLE, key, f"{key}: {error.message}"))
            closed = self._contents.listed(name) if self._contents is not None else closed
        else:
            if closed:
                message = f"{key}: {len(closed)} parts do not open, though its bytes are right"
                findings.append(Finding(Trouble.UNREADABLE, key, message))
        return Verdict(findings, size, closed)

    def _damaged(self, name: bytes, data: bytes, size: int) -> Verdict:
        key = pack_key(name)
        right = sound_pack(self._vault.store, self._vault.objects, name)
        closed: frozenset[Blob] = frozenset()
        if self._contents is not None:
            rows = self._contents.rows_of_damaged(name, right)
            closed = self._contents.closed(data, rows)
        message = f"{key} is damaged: its bytes are not those that were stored"
        finding = Finding(Trouble.DAMAGED, key, message, right is not None)
        return Verdict([finding], size, closed, right)

    def _parity(self, name: bytes, data: bytes) -> list[Finding]:
        if not self._vault.config.parity:
            return []
        findings = []
        for key in parity_keys(self._vault.store, name):
            try:
                head = self._vault.store.get(key, 0, HEAD_BYTES)
            except DestinationError:  # found when the parity object is read itself
                continue
            if not fits_pack(head, data):
                message = f"{key} is not the parity of its pack"
                findings.append(Finding(Trouble.DAMAGED, key, message, mendable=True))
        return findings


class PackContents:
    """Looks at the blobs of packs whose bytes are at hand."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def rows(self, name: bytes, data: bytes) -> Sequence[BlobRow]:
        """Return a pack's own table; VaultDamagedError if an index has another one."""
        rows = blob_rows(self.rows_in(data))
        listed = self._vault.index.pack(name)
        if listed is not None and blob_rows(listed.rows) != rows:
            raise VaultDamagedError("an index says other things of it than it says itself")
        return rows

    def rows_of_damaged(self, name: bytes, right: bytes | None) -> Sequence[BlobRow]:
        """Return what a damaged pack should have, as far as an index or its right bytes say."""
        listed = self._vault.index.pack(name)
        if listed is not None:
            return blob_rows(listed.rows)
        try:
            return blob_rows(self.rows_in(right)) if right is not None else []
        except (VaultDamagedError, VaultFormatError):
            return []

    def listed(self, name: bytes) -> frozenset[Blob]:
        """Return what an index says is in a pack."""
        return frozenset((row.type, row.id) for row in self.rows_of_damaged(name, None))

    def closed(self, data: bytes, rows: Sequence[BlobRow]) -> frozenset[Blob]:
        """Return the blobs that do not open, decode, or have another content than their id says."""
        right = {(row.type, row.id) for row, _encoding, _content in self.sound(data, rows)}
        return frozenset((row.type, row.id) for row in rows) - right

    def sound(
        self, data: bytes, rows: Sequence[BlobRow], kinds: Collection[BlobType] = tuple(BlobType)
    ) -> Iterator[tuple[BlobRow, bytes, bytes]]:
        """Yield (row, encoding, content) of the blobs that are right, whatever the rest is."""
        try:
            header = self._vault.sealing.read_header(b"P", data)
            sealer = Sealer(header, self._vault.sealing.key_of(header))
        except (VaultDamagedError, VaultFormatError):
            return
        view = memoryview(data)
        for number, row in enumerate(rows):
            if row.type not in kinds:
                continue
            sealed = view[row.offset : row.offset + row.length]
            try:
                encoding = sealer.open(number, row.type.letter, row.id, sealed)
                content = decode(encoding, row.content_length)
            except VaultDamagedError:
                continue
            if self._vault.blob_id(row.type, content) == row.id:
                yield row, encoding, content

    def rows_in(self, data: bytes) -> Rows:
        """Return a pack's own table, given all its bytes; VaultDamagedError if it does not open."""
        sealing = self._vault.sealing
        header = sealing.read_header(b"P", data)
        try:
            length = footer_length(data[-_END_BYTES:], len(data))
        except struct.error:
            raise VaultDamagedError("a pack does not end as packs do") from None
        return read_footer(header, sealing.key_of(header), data[len(data) - length :])
