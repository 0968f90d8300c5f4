"""TLS below DICOM: what we trust and show, a handshake with a limit, and what it led to.

PS3.15 Annex B, the profiles of BCP 195 (RFC 8996 and 9325): TLS 1.2 at least, forward secrecy and
authenticated encryption only, no compression, no renegotiation. The peer's certificate is checked
with the host name, or is the one that was pinned. Revocation lists are not asked for.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from dcmvault.dicom.tls_failures import (
    Attempt,
    certificate_refusal,
    explain_handshake,
    pin_refusal,
    validity_refusal,
    words_of,
)
from dcmvault.errors import ConfigurationError, TlsRefusedError

#: RFC 9325 section 4.2, and ephemeral Diffie-Hellman as older DICOM equipment has it; TLS 1.3 has
#: none but such.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"
#: Bytes that are encrypted and sent at once: four records.
_AT_ONCE = 64 * 1024


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Paths of PEM files, and what opens the key; empty for none.

    `fingerprint` is the SHA-256 of the peer's certificate (64 small hexadecimal digits) and stands
    for all checks but that of its dates.
    """

    ca_file: str = ""
    fingerprint: str = ""
    certificate_file: str = ""
    key_file: str = ""
    key_passphrase: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What a handshake led to: protocol, cipher, and whose certificate is valid until when."""

    protocol: str
    cipher: str
    common_name: str
    expires_at: datetime


class TlsClient:
    """Makes TLS connections to one peer. Safe for several threads."""

    def __init__(self, options: TlsOptions) -> None:
        """Read the files; ConfigurationError for one that cannot be used."""
        self._fingerprint = options.fingerprint
        self._shows_certificate = bool(options.certificate_file)
        self._context = _context(options)

    def handshake(
        self, connection: socket.socket, host: str, name: str, timeout_s: float
    ) -> ssl.SSLSocket:
        """Make TLS of a connection within `timeout_s`; it is closed if that fails.

        `name` is how messages call the peer. Raises TlsRefusedError where nothing but a person
        helps, DestinationUnreachableError otherwise.
        """
        attempt = Attempt(name, host, timeout_s, shows_certificate=self._shows_certificate)
        try:
            connection.settimeout(timeout_s)
            secured = self._context.wrap_socket(
                connection, server_hostname=host.rstrip("."), do_handshake_on_connect=False
            )
        except OSError as error:
            connection.close()
            raise explain_handshake(attempt, error, agreed=False) from error
        try:
            secured.do_handshake()
            self._check_pinned(secured, attempt)
        except OSError as error:
            # A cipher is agreed on before anybody's certificate is looked at.
            refusal = explain_handshake(attempt, error, agreed=secured.cipher() is not None)
            secured.close()
            raise refusal from error
        except BaseException:
            secured.close()
            raise
        return secured

    def refusal(self, name: str, error: OSError) -> TlsRefusedError | None:
        """Return what to raise when the peer refuses our certificate after the handshake, or None.

        With TLS 1.3 that is when we hear of it, mostly instead of an answer to the first PDU.
        """
        attempt = Attempt(name, "", 0.0, shows_certificate=self._shows_certificate)
        return certificate_refusal(attempt, error)

    def _check_pinned(self, secured: ssl.SSLSocket, attempt: Attempt) -> None:
        if not self._fingerprint:
            return
        encoded = secured.getpeercert(binary_form=True) or b""
        shown = hashlib.sha256(encoded).hexdigest()
        if not hmac.compare_digest(shown, self._fingerprint):
            raise pin_refusal(attempt, shown)
        certificate = _read(encoded, attempt)
        now = datetime.now(UTC)
        if not certificate.valid_from <= now <= certificate.expires_at:
            raise validity_refusal(attempt, is_over=now > certificate.expires_at)


class TlsAcceptor:
    """Makes TLS of connections that peers opened. Safe for several threads.

    With a `ca_file` each peer must show a certificate that it signs.
    """

    def __init__(self, options: TlsOptions) -> None:
        """Read the files; ConfigurationError for one that cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _restrict(context)
        if options.ca_file:
            context.verify_mode = ssl.CERT_REQUIRED
            _trust(context, options.ca_file)
        _show(context, options)
        self._context = context

    def secured(self, connection: socket.socket) -> ssl.SSLSocket:
        """Return what stands for a connection from now on; its handshake is still to be done."""
        return self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )


def facts_of(secured: ssl.SSLSocket, name: str) -> TlsFacts:
    """Describe a connection after its handshake; TlsRefusedError for an unreadable certificate."""
    certificate = _read(secured.getpeercert(binary_form=True) or b"", Attempt(name, "", 0.0))
    return TlsFacts(
        protocol=(secured.version() or "").replace("TLSv", "TLS "),
        cipher=(secured.cipher() or ("",))[0],
        common_name=certificate.common_name,
        expires_at=certificate.expires_at,
    )


def send_joined(secured: ssl.SSLSocket, buffers: Sequence[memoryview]) -> int:
    """Send what comes first of several buffers, a few whole records; return how many bytes.

    As `socket.sendmsg`, which TLS has not. All of it must be taken within the socket's timeout.
    """
    joined = bytearray()
    for buffer in buffers:
        joined += buffer[: _AT_ONCE - len(joined)]
        if len(joined) == _AT_ONCE:
            break
    return secured.send(joined)


def has_data(secured: ssl.SSLSocket) -> bool:
    """Say whether data or the end of the connection came; a byte of data is taken away by that.

    That the socket is readable says nothing: session tickets and key updates come at any time.
    """
    secured.settimeout(0)
    try:
        secured.recv(1)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    except OSError:
        return True
    return True


def last_word(secured: ssl.SSLSocket, error: OSError) -> OSError:
    """Return the alert that a peer sent before it hung up on our sending, else the error itself."""
    secured.settimeout(0)
    try:
        secured.recv(1)
    except ssl.SSLError as said:
        return said if "ALERT" in (said.reason or "") else error
    except OSError:
        return error
    return error


def say_goodbye(secured: ssl.SSLSocket) -> None:
    """Tell the peer that nothing more comes (close_notify), without waiting for it to say so."""
    with suppress(OSError, ValueError):
        secured.settimeout(0)
        secured.unwrap()


def hang_up(connection: socket.socket) -> None:
    """Wake up whoever waits for a connection in another thread; harmless when it ended.

    Only what is below TLS is ended: without its TLS, who still reads would take what is encrypted
    for what was said.
    """
    with suppress(OSError):  # it ended by itself
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class _Certificate:
    common_name: str
    valid_from: datetime
    expires_at: datetime


def _read(encoded: bytes, attempt: Attempt) -> _Certificate:
    try:
        found = x509.load_der_x509_certificate(encoded)
        names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        common_name = str(names[0].value) if names else found.subject.rfc4514_string()
        return _Certificate(
            common_name or "–", found.not_valid_before_utc, found.not_valid_after_utc
        )
    except ValueError as error:
        raise TlsRefusedError(
            f"{attempt.name}: its certificate cannot be read",
            hint="Have the peer's certificate made anew.",
        ) from error


def _context(options: TlsOptions) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    if options.fingerprint:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.ca_file:
        _trust(context, options.ca_file)
    else:
        context.load_default_certs()
    if options.certificate_file:
        _show(context, options)
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Who trusts an intermediate authority, or one certificate, need not trust its root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _trust(context: ssl.SSLContext, ca_file: str) -> None:
    try:
        context.load_verify_locations(Path(ca_file).expanduser())
    except OSError as error:
        raise ConfigurationError(
            "the file of trusted certificates (tls_ca_file) cannot be used",
            hint=f"{ca_file}: {_reason(error)}",
        ) from error


def _show(context: ssl.SSLContext, options: TlsOptions) -> None:
    key = Path(options.key_file).expanduser() if options.key_file else None
    try:
        context.load_cert_chain(
            Path(options.certificate_file).expanduser(),
            key,
            # Always given: without it OpenSSL would ask at the terminal.
            password=options.key_passphrase,
        )
    except OSError as error:
        files = " · ".join(filter(None, (options.certificate_file, options.key_file)))
        raise ConfigurationError(
            "our certificate or its private key (tls_certificate_file, tls_key_file) cannot be"
            " used",
            hint=f"{files}: {_reason(error)}",
        ) from error


def _reason(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return words_of(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key belongs to another certificate"
    # What reads PEM files has one error for most of its troubles.
    if error.reason in {"NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE", None}:
        return "not PEM, or the passphrase of the key (tls_key_passphrase) is wrong"
    return words_of(error)
