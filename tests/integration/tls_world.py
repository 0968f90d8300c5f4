"""Certificates good and bad, and what servers show of them."""

from __future__ import annotations

import ipaddress
import ssl
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, each in a PEM file."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256 with colons, as `openssl x509 -fingerprint -sha256` writes it."""
        loaded = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return loaded.fingerprint(SHA256()).hex(":").upper()


class Authority:
    """Issues certificates; its own lies in `ca_file`."""

    def __init__(self, folder: Path, name: str = "Hospital CA") -> None:
        self._folder = folder
        self._key = _new_key()
        self._name = _name(name)
        extensions = [x509.BasicConstraints(ca=True, path_length=None)]
        identity = _write(folder / "authority", self._name, self._key, self._sign, extensions)
        self.ca_file = identity.certificate

    def issue(
        self,
        common_name: str,
        *,
        host: str = HOST,
        starts_days: float = -1,
        ends_days: float = 365,
        passphrase: str = "",
    ) -> Identity:
        """Issue a certificate for a host name or address, valid between days counted from now."""
        return _write(
            self._folder / common_name,
            _name(common_name),
            _new_key(),
            self._sign,
            [x509.SubjectAlternativeName([_general_name(host)])],
            days=(starts_days, ends_days),
            passphrase=passphrase,
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.issuer_name(self._name).sign(self._key, SHA256())


def self_signed(folder: Path, common_name: str, *, ends_days: float = 365) -> Identity:
    """Make a certificate that signs itself, and names no host."""
    key, name = _new_key(), _name(common_name)
    return _write(
        folder / common_name,
        name,
        key,
        lambda builder: builder.issuer_name(name).sign(key, SHA256()),
        days=(-10, ends_days),
    )


def _write(
    folder: Path,
    subject: x509.Name,
    key: rsa.RSAPrivateKey,
    sign: Callable[[x509.CertificateBuilder], x509.Certificate],
    extensions: Sequence[x509.ExtensionType] = (),
    *,
    days: tuple[float, float] = (-1, 365),
    passphrase: str = "",
) -> Identity:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )
    for extension in extensions:
        is_critical = isinstance(extension, x509.BasicConstraints)
        builder = builder.add_extension(extension, critical=is_critical)
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    folder.mkdir(parents=True)
    made = Identity(folder / "certificate.pem", folder / "key.pem")
    made.certificate.write_bytes(sign(builder).public_bytes(Encoding.PEM))
    made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return made


def server_context(
    identity: Identity,
    *,
    client_ca: Path | None = None,
    newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
    ciphers: str = "",
) -> ssl.SSLContext:
    """Make what a server shows; with `client_ca` it wants a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if ciphers:
        context.set_ciphers(ciphers)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        if newest is ssl.TLSVersion.TLSv1_1:
            context.minimum_version = newest
            context.set_ciphers("ALL:@SECLEVEL=0")
        context.maximum_version = newest
    context.load_cert_chain(identity.certificate, identity.key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
