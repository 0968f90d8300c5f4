"""One section class per adapter: its options, their meaning, limits and defaults."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from dcmvault.config.bandwidth import BandwidthSection
from dcmvault.config.secrets import is_reference
from dcmvault.i18n import gettext as _

#: PS3.5 section 6.2, AE: 1 to 16 characters of the default repertoire, no backslash, not blank.
AETitle = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$"),
]


def _tags_without_pixels(text: str) -> str:
    if any(tag[1:5].upper() in ("0028", "7FE0") for tag in text.split()):
        raise ValueError(_("What describes pixels is never coerced."))
    return text


#: Tags of data elements as PS3.6 writes them, "(0010,0020) (0008,0050)".
AttributeTags = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        pattern=r"^(\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\)(\s+|$))*$",
        max_length=4000,
    ),
    AfterValidator(_tags_without_pixels),
]


def _reference_or_nothing(text: str) -> str:
    if text and not is_reference(text):
        raise ValueError(_("What opens it never stands here: write env:NAME or file:PATH."))
    return text


def _fingerprint_or_nothing(text: str) -> str:
    """Make the SHA-256 fingerprint of a certificate canonical: 64 small hexadecimal digits."""
    found = _FINGERPRINT.fullmatch(text.strip())
    if text and found is None:
        raise ValueError(
            _("A SHA-256 fingerprint has 64 hexadecimal digits, with or without colons.")
        )
    return found[1].replace(":", "").lower() if found else ""


#: As tools write it: `sha256:` or not, with colons between two digits or not.
_FINGERPRINT = re.compile(r"(?:sha-?256[:=])?([0-9a-f]{64}|[0-9a-f]{2}(?::[0-9a-f]{2}){31})", re.I)

#: Names of a vault's profiles (`vault.profile`), and `auto`.
VaultProfile = Literal["fast", "balanced", "small", "archive", "auto"]

#: Where a secret is (`env:NAME`, `file:PATH`), never what it is; empty for none.
SecretReference = Annotated[str, AfterValidator(_reference_or_nothing)]

#: The SHA-256 fingerprint of a certificate, 64 hexadecimal digits; empty for none.
Fingerprint = Annotated[str, AfterValidator(_fingerprint_or_nothing)]

#: The registered ports of DICOM without and with TLS (PS3.8 section 9.1, PS3.15 Annex B).
DICOM_PORT, DICOM_TLS_PORT = 104, 2762

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
#: Options of a PACS that mean something with TLS only.
_TLS_OPTIONS = (
    "tls_ca_file",
    "tls_fingerprint",
    "tls_certificate_file",
    "tls_key_file",
    "tls_key_passphrase",
)


class Section(BaseModel):
    """Root of every section: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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

    @model_validator(mode="after")
    def _options_fit_the_place(self) -> Self:
        for option, schemes in _FOR_PLACES.items():
            if getattr(self, option) and self.scheme not in schemes:
                places = ", ".join(f"{scheme}://" for scheme in schemes)
                raise ValueError(
                    _("“%(option)s” is for %(places)s only.") % {"option": option, "places": places}
                )
        if self.object_lock_days and not self.object_lock:
            raise ValueError(
                _("“object_lock_days” needs “object_lock”: say “governance” or “compliance”.")
            )
        return self

    @property
    def scheme(self) -> str:
        """What kind of place it is: one of VAULT_SCHEMES, or empty for a folder."""
        scheme, separator, _rest = self.location.partition("://")
        return scheme if separator and scheme in VAULT_SCHEMES else ""

    @property
    def path(self) -> Path | None:
        """The folder, if the vault is in one of this machine."""
        return None if self.scheme else Path(self.location)

    @property
    def address(self) -> str:
        """The canonical address."""
        return f"vault:{self.location}"


class VaultSourceSection(VaultSection):
    """A vault that is read."""


class VaultDestinationSection(VaultSection):
    """A vault that is written to."""

    #: How much time is spent on making it small; `auto` as much as the place leaves.
    profile: VaultProfile = "balanced"
    #: How fast objects are written.
    bandwidth: BandwidthSection = BandwidthSection()


class TlsSection(Section):
    """A peer that may be spoken to over TLS."""

    #: TLS: path of the certificates (PEM) that are trusted; empty: those that the system trusts.
    tls_ca_file: str = ""
    #: TLS: SHA-256 fingerprint of the peer's own certificate. It is trusted as long as it is valid,
    #: whoever signed it and whatever host it names; every other certificate is refused.
    tls_fingerprint: Fingerprint = ""
    #: TLS: path of our certificate (PEM, with its chain), for a peer that asks for one.
    tls_certificate_file: str = ""
    #: TLS: path of the private key (PEM); empty: it is in the file of the certificate.
    tls_key_file: str = ""
    #: TLS: what opens the private key.
    tls_key_passphrase: SecretReference = ""

    def _require_fitting_tls(self, *, speaks_tls: bool, place: str) -> None:
        for option in _TLS_OPTIONS:
            if getattr(self, option) and not speaks_tls:
                raise ValueError(
                    _("“%(option)s” is for %(places)s only.") % {"option": option, "places": place}
                )
        if self.tls_fingerprint and self.tls_ca_file:
            raise ValueError(
                _("Write “tls_fingerprint” or “tls_ca_file”: a pinned certificate needs no other.")
            )
        if (self.tls_key_file or self.tls_key_passphrase) and not self.tls_certificate_file:
            raise ValueError(_("A private key needs its certificate: “tls_certificate_file”."))


class DimseDestinationSection(TlsSection):
    """A PACS reached by DIMSE (C-ECHO, C-FIND, C-STORE)."""

    kind: Literal["dimse"] = "dimse"
    host: str = Field(min_length=1)
    port: int = Field(default=DICOM_PORT, ge=1, le=65_535)
    #: TLS stands between TCP and DICOM: the address begins with `dicoms:`.
    tls: bool = False
    called_ae_title: AETitle = "ANY-SCP"
    calling_ae_title: AETitle = "DCMVAULT"
    #: Associations open at once, at most.
    max_associations: int = Field(default=4, ge=1, le=32)
    #: What lies between: how many associations to begin with (6, 3 or 2; empty: 2), until what was
    #: measured says more.
    network: Literal["", "ethernet", "wifi", "cellular"] = ""
    #: User identity for a peer that wants one. Over a connection without TLS everybody can read it.
    user: str = Field(default="", max_length=1000)
    #: The passcode that goes with the user.
    password: SecretReference = ""
    #: Seconds until a TCP connection must stand, and again as many until TLS must.
    connect_timeout_s: float = Field(default=10.0, gt=0, le=600)
    #: Seconds until an A-ASSOCIATE must be answered.
    association_timeout_s: float = Field(default=30.0, gt=0, le=600)
    #: Seconds without an answer to a DIMSE request until the association is given up.
    dimse_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    #: C-STORE requests on their way at once on each association, where the peer agrees; 1: it is
    #: not asked, for some equipment drops the connection then.
    async_window: int = Field(default=1, ge=1, le=64)
    #: Whether what the peer refuses in its transfer syntax is sent in another, without loss.
    transcode: Literal["lossless", "never"] = "lossless"
    #: Attributes that the peer writes itself: what differs in them only still is proven.
    coerced: AttributeTags = ""
    #: How fast instances are sent, by all associations together.
    bandwidth: BandwidthSection = BandwidthSection()

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        self._require_fitting_tls(speaks_tls=self.tls, place="dicoms://")
        if self.password and not self.user:
            raise ValueError(_("A password needs its “user”."))
        return self

    @property
    def coerced_tags(self) -> frozenset[int]:
        """The attributes that the peer writes itself, as numbers."""
        return frozenset(int(tag[1:5] + tag[6:10], 16) for tag in self.coerced.split())

    @property
    def address(self) -> str:
        """The canonical address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        called, calling = (
            quote(self.called_ae_title, safe=""),
            quote(self.calling_ae_title, safe=""),
        )
        scheme = "dicoms" if self.tls else "dicom"
        return f"{scheme}://{called}@{host}:{self.port}?calling={calling}"


class StowDestinationSection(TlsSection):
    """A DICOMweb service (STOW-RS, QIDO-RS)."""

    kind: Literal["stow"] = "stow"
    #: `https://HOST:PORT/ROOT`, canonical as `config.addresses` makes it.
    url: str = Field(min_length=1)
    #: Connections open at once for delivery, at most.
    max_connections: int = Field(default=4, ge=1, le=32)
    #: Seconds until a TCP connection must stand, and again as many until TLS must.
    connect_timeout_s: float = Field(default=10.0, gt=0, le=600)
    #: Seconds without progress until a request is given up, and for its answer.
    response_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    #: How fast instances are sent, over all connections together.
    bandwidth: BandwidthSection = BandwidthSection()
    #: HTTP without TLS to another machine: all that is sent, also secrets, can be read on the way.
    allow_plain_http: bool = False
    #: Basic authentication: the user.
    user: str = ""
    #: Basic authentication: the password.
    password: SecretReference = ""
    #: Bearer authentication: the token.
    token: SecretReference = ""
    #: OAuth2 client credentials: URL of the service that gives tokens.
    oauth2_token_url: str = ""
    #: OAuth2 client credentials: the client's id.
    oauth2_client_id: str = ""
    #: OAuth2 client credentials: the client's secret.
    oauth2_client_secret: SecretReference = ""
    #: OAuth2 client credentials: what the token is to allow; empty: what is usual for the client.
    oauth2_scope: str = ""

    @model_validator(mode="after")
    def _is_safe_and_whole(self) -> Self:
        ways = [_is_private_way(url) for url in (self.url, self.oauth2_token_url) if url]
        if not (self.allow_plain_http or all(ways)):
            raise ValueError(
                _(
                    "HTTP without TLS goes to this machine only: write https, or say "
                    "allow_plain_http = true in the configuration."
                )
            )
        is_tls = self.url.startswith("https:")
        self._require_fitting_tls(speaks_tls=is_tls, place="dicomweb+https://")
        if bool(self.user) != bool(self.password):
            raise ValueError(_("“user” and “password” go together."))
        oauth2 = (self.oauth2_token_url, self.oauth2_client_id, self.oauth2_client_secret)
        if any((*oauth2, self.oauth2_scope)) and not all(oauth2):
            raise ValueError(
                _("OAuth2 needs oauth2_token_url, oauth2_client_id and oauth2_client_secret.")
            )
        if sum(map(bool, (self.user, self.token, self.oauth2_token_url))) > 1:
            raise ValueError(
                _("There is one way to log in: a user, a token, or OAuth2, not several.")
            )
        return self

    @property
    def address(self) -> str:
        """The canonical address."""
        return f"dicomweb+{self.url}"


#: RFC 3986: what is no graphic sign of ASCII is written otherwise.
_IN_A_URL = re.compile(r"[!-~]+\Z")
_HOST = re.compile(r"[0-9A-Za-z._:%-]+\Z")


def _is_private_way(url: str) -> bool:
    """Say whether nobody else can read on the way: TLS, or it does not leave this machine."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(_("A URL cannot be read.")) from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise ValueError(_("A URL begins with https:// and a host, without a user."))
    if not _IN_A_URL.match(url) or not _HOST.match(host):
        raise ValueError(_("A URL has neither spaces nor letters beyond ASCII (xn-- in a host)."))
    if parts.scheme == "https" or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


SourceSection = Annotated[
    FolderSourceSection | HorosSourceSection | VaultSourceSection, Field(discriminator="kind")
]
DestinationSection = Annotated[
    FolderDestinationSection
    | DimseDestinationSection
    | StowDestinationSection
    | VaultDestinationSection,
    Field(discriminator="kind"),
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
