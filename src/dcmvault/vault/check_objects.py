"""Single objects checked: are their bytes what their names promise, do they open and make sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dcmvault.errors import ObjectMissingError, VaultDamagedError, VaultFormatError
from dcmvault.ports.object_store import ObjectStore
from dcmvault.vault.config import CONFIG_KEY, VaultConfig, digest_of
from dcmvault.vault.copies import RedundantObjects, is_sound
from dcmvault.vault.crypto import read_header
from dcmvault.vault.findings import Blob, Finding, Trouble
from dcmvault.vault.index import Addition
from dcmvault.vault.initialise import BALLAST_KEY, README_KEY
from dcmvault.vault.inventory import name_of
from dcmvault.vault.key_objects import KEYS_PREFIX, check_generation, generation_of
from dcmvault.vault.lease import LEASE_KEY
from dcmvault.vault.ledger import condemned_packs
from dcmvault.vault.parity import check_parity
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import read_link, read_state
from dcmvault.vault.sound_packs import sound_pack

#: What can be written anew although no copy of it is left. What indexes and journals say, the
#: packs themselves say, too.
_REPLACEABLE = (
    *(CONFIG_KEY, README_KEY, LEASE_KEY, BALLAST_KEY),
    *("rescue/", "condemned/", "index/", "journal/"),
)
_SEALED = {"index": b"I", "journal": b"J", "condemned": b"C"}


@dataclass(frozen=True, slots=True)
class KeylessVault:
    """A vault without its secrets: what can be checked by anybody who can read the store."""

    store: ObjectStore
    config: VaultConfig
    #: SHA-256 of the object `config`.
    config_sha256: bytes
    objects: RedundantObjects


class Verdict(NamedTuple):
    """What came of reading one object."""

    findings: Sequence[Finding] = ()
    bytes_read: int = 0
    #: Of packs: blobs that do not open there.
    closed: frozenset[Blob] = frozenset()
    #: Of packs that are damaged and can be mended: their right bytes.
    right: bytes | None = None


class ObjectCheck:
    """Reads objects with all their copies. Safe for several threads; holds one object in each."""

    def __init__(self, vault: Vault | KeylessVault) -> None:
        self._vault = vault
        self._objects = vault.objects
        if isinstance(vault, KeylessVault):
            self._config_sha256 = vault.config_sha256
        else:
            self._config_sha256 = vault.sealing.ring.config_sha256

    def read(self, key: str) -> Verdict:
        """Read every copy of an object that is no pack.

        Nothing is found where there is no copy at all: somebody removed it meanwhile.
        """
        right: bytes | None = None
        wrong: list[tuple[str, Trouble]] = []
        size = 0
        for place in self._objects.places(key):
            try:
                data = self._objects.read_copy(place)
            except ObjectMissingError:
                wrong.append((place, Trouble.MISSING))
                continue
            size += len(data or b"")
            if data is None or not self._is_right(key, data, right):
                wrong.append((place, Trouble.DAMAGED))
            elif right is None:
                right = data
        if all(trouble is Trouble.MISSING for _place, trouble in wrong) and right is None:
            return Verdict()
        mendable = not wrong or right is not None or self._is_mendable(key)
        findings = [
            Finding(trouble, key, _of_copy(place, trouble), mendable) for place, trouble in wrong
        ]
        if right is not None:
            findings += self._content(key, right)
        return Verdict(findings, size)

    def _is_right(self, key: str, data: bytes, other: bytes | None) -> bool:
        if key == CONFIG_KEY:
            return digest_of(data) == self._config_sha256
        if key == BALLAST_KEY:
            return len(data) == self._vault.config.ballast == data.count(0)
        if key == README_KEY and other is not None:
            return data == other
        return is_sound(key, data)

    def _is_mendable(self, key: str) -> bool:
        """Say whether an object of which no copy is right can be set right."""
        if key.startswith(_REPLACEABLE):
            return True
        if key.startswith("parity/"):
            return sound_pack(self._vault.store, self._objects, name_of(key)) is not None
        try:
            self._objects.get(key)  # of three damaged copies the majority may be right
        except (ObjectMissingError, VaultDamagedError):
            return False
        return True

    def _content(self, key: str, data: bytes) -> list[Finding]:
        try:
            self._understand(key, data)
        except (VaultDamagedError, VaultFormatError) as error:
            mendable = key.startswith(_REPLACEABLE) or key.startswith("parity/")
            return [Finding(Trouble.UNREADABLE, key, f"{key}: {error.message}", mendable)]
        return []

    def _understand(self, key: str, data: bytes) -> None:
        """Read what an object says, as far as its keys are there."""
        config = self._vault.config
        if key.startswith(KEYS_PREFIX):
            if check_generation(data, config) != generation_of(key):
                raise VaultDamagedError("a generation of keys has a name that is not its own")
        elif key.startswith("parity/"):
            check_parity(data)
        elif key.startswith("snapshots/"):
            name = key.removeprefix("snapshots/")
            read_link(name, data, config.vault_id, config.verify_key)
            if isinstance(self._vault, Vault):
                header = self._vault.sealing.read_header(b"S", data)
                read_state(data, header, self._vault.sealing.key_of(header))
        elif (kind := _SEALED.get(key.partition("/")[0])) is not None:
            header = read_header(data, kind, config.vault_id)
            if isinstance(self._vault, Vault):
                body = self._vault.sealing.open(kind, data)
                _ = condemned_packs(body) if kind == b"C" else Addition.decode(body)


def _of_copy(place: str, trouble: Trouble) -> str:
    if trouble is Trouble.MISSING:
        return f"{place} is missing"
    return f"{place} is damaged: its bytes are not those that were stored"
