"""What tests of vaults elsewhere share: places on real servers, as a configuration names them."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from scripts.peer_clouds import Azurite, GcsServer, S3Server
from scripts.peer_processes import Sshd

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.stores import open_vault_at, open_vault_store
from dcmvault.config.load import load_settings
from dcmvault.config.sections import FolderSourceSection, VaultDestinationSection
from dcmvault.destinations.vault import VaultDestination
from dcmvault.dicom.part10 import scan
from dcmvault.model.evidence import ExpectedInstance, ExpectedStudy, Level
from dcmvault.model.identifiers import RunId, VersionId
from dcmvault.model.instance import InstanceFile, InstanceIdentity
from dcmvault.model.snapshot import Origin
from dcmvault.ports.clock import Clock
from dcmvault.sources.folder import FolderSource
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.rebuild import rebuild_file
from dcmvault.vault.repository import Vault
from dcmvault.vault.slots import Argon2Cost, Passphrase
from dcmvault.vault.state import present_state

PASSPHRASE = "a long walk in the rain"
_CHEAP = Argon2Cost(iterations=1, lanes=1, memory_kib=64)
#: The environment of every command here.
ENVIRONMENT = {"CLOUD_PASSPHRASE": PASSPHRASE}


@dataclass(frozen=True)
class Place:
    """Where a vault is, as a configuration says it."""

    location: str
    options: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Whether vaults are made with parity and triplicates there.
    redundant: bool = False

    def configured(self, home: Path, **more: object) -> VaultDestinationSection:
        """Write the configuration of a state folder in which the vault is `cloud`."""
        home.mkdir(exist_ok=True)
        options = {
            "address": f"vault:{self.location}",
            "passphrase": "env:CLOUD_PASSPHRASE",
            **self.options,
            **more,
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
        retry = "[retry]\nattempts = 2\nwait_s = 0.05\n"
        text = "\n".join([retry, "[destinations.cloud]", *lines, ""])
        (home / "config.toml").write_text(text)
        section = load_settings(home / "config.toml").destination("cloud").section
        assert isinstance(section, VaultDestinationSection)
        return section


def s3_place(server: S3Server, *, endpoint: str = "", object_lock: bool = False) -> Place:
    """Make a bucket."""
    bucket = f"vault-{secrets.token_hex(4)}"
    server.make_bucket(bucket, object_lock=object_lock)
    return Place(
        f"s3://{bucket}/dicom/vault",
        {
            "endpoint": endpoint or server.address,
            "region": "us-east-1",
            "access_key": "env:CLOUD_ID",
            "secret_key": "env:CLOUD_SECRET",
        },
        {"CLOUD_ID": server.access_key_id, "CLOUD_SECRET": server.secret_access_key},
    )


def azure_place(server: Azurite) -> Place:
    """Make a container."""
    container = f"vault-{secrets.token_hex(4)}"
    server.make_container(container)
    return Place(
        f"az://{container}/dicom/vault",
        {
            "endpoint": server.address,
            "account": server.account_name,
            "secret_key": "env:CLOUD_SECRET",
        },
        {"CLOUD_SECRET": server.account_key},
    )


def gcs_place(server: GcsServer) -> Place:
    """Make a bucket. The emulator needs no token, which its kind of key file can say."""
    bucket = f"vault-{secrets.token_hex(4)}"
    server.make_bucket(bucket)
    account = {
        "gcs_base_url": server.address,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    return Place(
        f"gs://{bucket}/dicom/vault",
        {"endpoint": server.address, "secret_key": "env:CLOUD_SECRET"},
        {"CLOUD_SECRET": json.dumps(account)},
    )


def sftp_place(server: Sshd) -> Place:
    """Name a folder that is not there yet."""
    folder = server.storage / f"vault-{secrets.token_hex(4)}"
    return Place(
        f"{server.address}{folder}",
        {"ssh_key_file": str(server.private_key), "known_hosts": str(server.known_hosts)},
        redundant=True,
    )


def make_vault(
    section: VaultDestinationSection,
    *,
    redundant: bool = False,
    encrypted: bool = True,
    clock: Clock | None = None,
) -> Vault:
    """Make the vault of a section, with a passphrase that costs little."""
    clock = clock or SystemClock()
    applicants: Sequence[tuple[Passphrase, str]] = [(Passphrase(PASSPHRASE), "test")]
    return init_vault(
        open_vault_store(section, clock),
        applicants if encrypted else [],
        clock,
        encrypted=encrypted,
        redundant=redundant,
        cost=_CHEAP,
    )


def files_in(section: VaultDestinationSection, clock: Clock | None = None) -> dict[str, bytes]:
    """Read every file of a vault back, by its locator."""
    vault = open_vault_at(section, clock or SystemClock())
    state = present_state(vault)
    return {
        record.locator: b"".join(rebuild_file(record, vault.read_blob))
        for uid in state.studies()
        for record in state.records(uid)
    }


def files_below(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder, by the locator that a source gives it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def back_up(destination: VaultDestination, folder: Path, *, snapshot: bool = True) -> str | None:
    """Back a folder up without engine and catalogue; return the name of the snapshot."""
    source = FolderSource(FolderSourceSection(path=folder))
    origin = Origin(RunId(f"run-{secrets.token_hex(4)}"), source.name)
    with destination.open((), origin) as delivery:
        for study in source.studies():
            for file in source.read(source.entries(study)):
                assert isinstance(file, InstanceFile)
                delivery.put(replace(file, header=scan(file.path)))
        delivery.flush()
    ref = destination.take_snapshot(origin, None) if snapshot else None
    return None if ref is None else ref.snapshot_id


def evidence(destination: VaultDestination, folder: Path, level: Level) -> dict[str, int]:
    """Ask for evidence of every file of a folder; return how many files have which finding."""
    studies: dict[str, list[ExpectedInstance]] = {}
    for number, path in enumerate(sorted(folder.rglob("*.dcm"))):
        header = scan(path)
        identity = InstanceIdentity(
            header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
        )
        content = path.read_bytes()
        digest = hashlib.sha256(content).digest()
        studies.setdefault(header.study_instance_uid, []).append(
            ExpectedInstance(VersionId(number), identity, len(content), digest)
        )
    found: Counter[str] = Counter()
    for uid, expected in studies.items():
        verification = destination.verify(ExpectedStudy(uid, tuple(expected)), level)
        found.update(finding.value for finding in verification.findings.values())
    return dict(found)
