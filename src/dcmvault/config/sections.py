"""One section class per adapter: its options, their meaning, limits and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from dcmvault.config.bandwidth import BandwidthSection
from dcmvault.config.listener_section import ListenerSourceSection
from dcmvault.config.options import SecretReference, Section
from dcmvault.config.peer_sections import (
    DicomwebSourceSection,
    DimseDestinationSection,
    DimseSourceSection,
    OrthancSourceSection,
    StowDestinationSection,
)
from dcmvault.config.plugin_sections import PluginDestinationSection, PluginSourceSection
from dcmvault.i18n import gettext as _

#: Names of a vault's profiles (`vault.profile`), and `auto`.
VaultProfile = Literal["fast", "balanced", "small", "archive", "auto"]

#: Kinds of places that a vault can be in, beside a folder, as their addresses begin.
VAULT_SCHEMES = ("s3", "az", "gs", "sftp")
#: Which places an option of a vault is for; options that are not named here are for all.
_FOR_PLACES = {
    "endpoint": ("s3", "az", "gs"),
    "region": ("s3",),
    "account": ("az",),
    "access_key": ("s3",),
    "secret_key": ("s3", "az", "gs"),
    "object_lock": ("s3",),
    "object_lock_days": ("s3",),
    "ssh_key_file": ("sftp",),
    "ssh_password": ("sftp",),
    "known_hosts": ("sftp",),
}


class FolderSourceSection(Section):
    """A folder tree with DICOM files in it."""

    kind: Literal["folder"] = "folder"
    path: Path
    #: Entries that are not DICOM are backed up too (as opaque files).
    include_other_files: bool = False

    @property
    def address(self) -> str:
        """The canonical address."""
        return str(self.path)


class HorosSourceSection(Section):
    """An OsiriX or Horos library: the folder that contains `Database.sql`."""

    kind: Literal["horos"] = "horos"
    path: Path
    #: Files per sub-folder of DATABASE.noindex (the application's DefaultFolderSizeForDB).
    folder_size: int = Field(default=10_000, gt=0)

    @property
    def address(self) -> str:
        """The canonical address."""
        return f"horos:{self.path}"


class FolderDestinationSection(Section):
    """A plain folder that takes Part 10 files byte for byte under hashed names."""

    kind: Literal["folder"] = "folder"
    path: Path
    #: How fast copies are written.
    bandwidth: BandwidthSection = BandwidthSection()

    @property
    def address(self) -> str:
        """The canonical address."""
        return str(self.path)


class VaultSection(Section):
    """A vault: where it is, what opens it, and how its place lets us in."""

    kind: Literal["vault"] = "vault"
    #: An absolute path, or `s3://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`, `gs://BUCKET/PREFIX`,
    #: `sftp://USER@HOST:PORT/PATH`; canonical as `config.addresses` makes it.
    location: str = Field(min_length=1)
    #: Opens the vault. With none of the three the environment's DCMVAULT_PASSPHRASE does.
    passphrase: SecretReference = ""
    #: Opens the vault: path of a key file.
    key_file: str = ""
    #: Opens the vault: path of an age identity file.
    identity_file: str = ""
    #: S3, Azure, Google: URL of the service where it is not the provider's own.
    endpoint: str = ""
    #: S3: the bucket's region.
    region: str = ""
    #: Azure: the storage account.
    account: str = ""
    #: S3: access key id. Without it the provider's usual environment and files are asked.
    access_key: SecretReference = ""
    #: S3: secret access key. Azure: account key. Google: the service account's JSON.
    secret_key: SecretReference = ""
    #: S3: whether a SHA-256 is sent with every object; `when_required` for services that refuse it.
    checksums: Literal["always", "when_required"] = "always"
    #: S3: the bucket has Object Lock, and objects are retained in this mode; empty: they are not.
    object_lock: Literal["", "governance", "compliance"] = ""
    #: S3: days for which an object is retained; renewed when half of them are over. 0: 30 days.
    object_lock_days: int = Field(default=0, ge=0, le=36_500)
    #: SFTP: path of the private key; empty: the agent and the usual files.
    ssh_key_file: str = ""
    #: SFTP: the password, or the passphrase of the private key.
    ssh_password: SecretReference = ""
    #: SFTP: path of the file of known hosts; empty: ~/.ssh/known_hosts.
    known_hosts: str = ""
    #: A place that a plug-in reaches: its options, as the plug-in has them.
    store: Mapping[str, str | int | float | bool] = Field(default={})

    @model_validator(mode="after")
    def _options_fit_the_place(self) -> Self:
        for option, schemes in _FOR_PLACES.items():
            if getattr(self, option) and self.scheme not in schemes:
                places = ", ".join(f"{scheme}://" for scheme in schemes)
                raise ValueError(
                    _("“%(option)s” is for %(places)s only.") % {"option": option, "places": places}
                )
        if self.store and (not self.scheme or self.scheme in VAULT_SCHEMES):
            raise ValueError(_("“store” is for places that a plug-in reaches."))
        if self.object_lock_days and not self.object_lock:
            raise ValueError(
                _("“object_lock_days” needs “object_lock”: say “governance” or “compliance”.")
            )
        return self

    @property
    def scheme(self) -> str:
        """What kind of place it is: of VAULT_SCHEMES, or a plug-in's; empty for a folder."""
        scheme, separator, _rest = self.location.partition("://")
        return scheme if separator and scheme.isalnum() else ""

    @property
    def path(self) -> Path | None:
        """The folder, if the vault is in one of this machine."""
        return None if self.scheme else Path(self.location)

    @property
    def address(self) -> str:
        """The canonical address."""
        return f"vault:{self.location}"


class VaultSourceSection(VaultSection):
    """A vault that is read: as it is now, or one of its snapshots."""

    #: A snapshot as `dcmvault snapshots` shows it, or `latest`; empty: the present.
    snapshot: str = ""

    @property
    def address(self) -> str:
        """The canonical address; a “#” in the location is followed by another one."""
        marked = self.snapshot or "#" in self.location
        return f"vault:{self.location}#{self.snapshot}" if marked else f"vault:{self.location}"


class VaultDestinationSection(VaultSection):
    """A vault that is written to."""

    #: How much time is spent on making it small; `auto` as much as the place leaves.
    profile: VaultProfile = "balanced"
    #: How fast objects are written.
    bandwidth: BandwidthSection = BandwidthSection()


def _kind_of(value: object) -> str:
    """Return the kind of a section, or of a table that is to become one."""
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", "")
    return str(kind)


SourceSection = Annotated[
    Annotated[FolderSourceSection, Tag("folder")]
    | Annotated[HorosSourceSection, Tag("horos")]
    | Annotated[DimseSourceSection, Tag("dimse")]
    | Annotated[DicomwebSourceSection, Tag("dicomweb")]
    | Annotated[OrthancSourceSection, Tag("orthanc")]
    | Annotated[VaultSourceSection, Tag("vault")]
    | Annotated[ListenerSourceSection, Tag("listener")]
    | Annotated[PluginSourceSection, Tag("plugin")],
    Discriminator(_kind_of),
]
DestinationSection = Annotated[
    Annotated[FolderDestinationSection, Tag("folder")]
    | Annotated[DimseDestinationSection, Tag("dimse")]
    | Annotated[StowDestinationSection, Tag("stow")]
    | Annotated[VaultDestinationSection, Tag("vault")]
    | Annotated[PluginDestinationSection, Tag("plugin")],
    Discriminator(_kind_of),
]


class RetrySection(Section):
    """How often and how long a refused instance is tried again (per instance, in one run)."""

    #: Attempts in all, the first one included.
    attempts: int = Field(default=3, ge=1, le=20)
    #: Seconds before the second attempt; each further wait is twice the one before.
    wait_s: float = Field(default=5.0, ge=0, le=300)
    #: Waits vary by this share, so that many instances do not come back at once.
    jitter: float = Field(default=0.2, ge=0, le=0.5)
    #: No wait is longer (seconds).
    longest_wait_s: float = Field(default=300.0, ge=0, le=3600)
