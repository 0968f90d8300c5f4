"""Syslog messages (RFC 5424) on their way to a collector: over TLS (RFC 5425), TCP, or UDP (5426).

A stream is acknowledged by its end: we end our side, and the collector ends its own when it has
read everything. If it is lost before, everything on it counts as not sent.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dcmvault.dicom.tls import TlsClient, TlsOptions
from dcmvault.errors import CollectorError, DestinationError

#: Facility 10 (security and authorization), severity 5 (notice): RFC 5424 section 6.2.1.
_PRIORITY = 10 * 8 + 5
#: PS3.15 section A.6.
_MESSAGE_ID = "DICOM+RFC3881"
_BOM = b"\xef\xbb\xbf"
_NO_WORD = re.compile("[^!-~]")
#: What an IPv4 datagram can carry.
_LONGEST_DATAGRAM = 65_507


class Transport(StrEnum):
    """How messages travel."""

    TLS = "tls"
    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class Collector:
    """Where messages go."""

    transport: Transport
    host: str
    port: int
    timeout_s: float = 5.0
    tls: TlsOptions | None = None

    @property
    def name(self) -> str:
        """How it is called in messages."""
        return f"{self.transport}://{self.host}:{self.port}"

    def send(self, messages: Sequence[bytes]) -> int:
        """Send messages in order; return how many arrived, as far as that can be known.

        CollectorError where none did. Of datagrams only a refusal that comes back is noticed.
        """
        if not messages:
            return 0
        if self.transport is Transport.UDP:
            return self._datagrams(messages)
        framed = b"".join(b"%d %b" % (len(message), message) for message in messages)
        try:
            with self._connected() as stream:
                stream.sendall(framed)
                self._ended(stream)
        except OSError as error:
            raise self._error(error) from error
        except DestinationError as error:
            raise CollectorError(error.message, hint=error.hint) from error
        return len(messages)

    def _connected(self) -> socket.socket:
        stream = socket.create_connection((self.host, self.port), self.timeout_s)
        if self.transport is Transport.TCP:
            return stream
        client = TlsClient(self.tls or TlsOptions())
        return client.handshake(stream, self.host, self.name, self.timeout_s)

    def _ended(self, stream: socket.socket) -> None:
        """End our side, and wait until the collector ended its own: then it has read all."""
        stream.settimeout(self.timeout_s)
        plain = stream
        if isinstance(stream, ssl.SSLSocket):
            # Some collectors end the connection without a word of TLS.
            with suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError):
                plain = stream.unwrap()
        with suppress(OSError):
            plain.shutdown(socket.SHUT_WR)
        ends_at = time.monotonic() + self.timeout_s
        try:
            while plain.recv(4096):
                if time.monotonic() > ends_at:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        finally:
            plain.close()

    def _datagrams(self, messages: Sequence[bytes]) -> int:
        """Send datagrams; a refusal that comes back at once counts the one before as lost."""
        try:
            family, kind, protocol, _name, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_DGRAM
            )[0]
            with socket.socket(family, kind, protocol) as datagrams:
                datagrams.settimeout(self.timeout_s)
                datagrams.connect(address)
                for number, message in enumerate(messages):
                    try:
                        datagrams.send(message[:_LONGEST_DATAGRAM])
                        self._refused(datagrams)
                    except OSError as error:
                        if not number:
                            raise self._error(error) from error
                        return number
        except OSError as error:
            raise self._error(error) from error
        return len(messages)

    def _refused(self, datagrams: socket.socket) -> None:
        if number := datagrams.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, os.strerror(number))

    def _error(self, error: OSError) -> CollectorError:
        reason = error.strerror or type(error).__name__
        return CollectorError(
            f"the audit collector {self.name} took nothing: {reason}",
            hint="What waits is sent when it is back; `dcmvault audit forward` tries now.",
        )


def syslog_message(xml: bytes, host: str, at: datetime) -> bytes:
    """Frame a message as RFC 5424 has it; `at` is when it happened."""
    head = " ".join(
        (
            f"<{_PRIORITY}>1",
            at.isoformat(timespec="milliseconds"),
            _NO_WORD.sub("_", host)[:255] or "-",
            "dcmvault",
            str(os.getpid()),
            _MESSAGE_ID,
            "-",
        )
    )
    return head.encode("ascii") + b" " + _BOM + xml
