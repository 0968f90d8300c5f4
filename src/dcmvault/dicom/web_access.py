"""How a service on the web is reached: its section with secrets and certificates looked up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from dcmvault.config import secrets
from dcmvault.config.peer_sections import WebPeerSection
from dcmvault.dicom.dicomweb import DicomwebConnection
from dcmvault.dicom.http_connection import HttpConnection, HttpPeer
from dcmvault.dicom.http_login import (
    ClientCredentialsLogin,
    FixedLogin,
    Login,
    basic_login,
    bearer_login,
)
from dcmvault.dicom.peer_tls import tls_client
from dcmvault.dicom.tls import TlsClient, TlsOptions
from dcmvault.errors import ConfigurationError, DestinationStoppedError


@dataclass(frozen=True, slots=True)
class WebAccess:
    """All that a connection to the service needs; shared by all of them."""

    peer: HttpPeer
    root: str
    login: Login

    def service(self, connection: HttpConnection | None = None) -> DicomwebConnection:
        """Make a connection, or use one that stands; nothing is sent yet."""
        return DicomwebConnection(connection or HttpConnection(self.peer), self.root, self.login)


class LookedUpAccess:
    """Access to a service that is looked up when it is first spoken to. Safe for threads."""

    def __init__(self, section: WebPeerSection, monotonic: Callable[[], float]) -> None:
        """Look nothing up yet; `monotonic` gives seconds."""
        self._section = section
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._access: WebAccess | None = None

    def __call__(self) -> WebAccess:
        """Return it; raises as `look_up_access`."""
        with self._lock:
            if self._access is None:
                self._access = look_up_access(self._section, self._monotonic)
            return self._access


def look_up_access(section: WebPeerSection, monotonic: Callable[[], float]) -> WebAccess:
    """Look up secrets and certificates; `monotonic` gives seconds.

    Raises DestinationStoppedError where one of them cannot be had.
    """
    try:
        peer, target = _peer(section, section.url, lambda: tls_client(section))
        return WebAccess(peer, target.rstrip("/"), _login(section, peer, monotonic))
    except ConfigurationError as error:
        raise DestinationStoppedError(error.message, hint=error.hint) from error


def _peer(
    section: WebPeerSection, url: str, make_tls: Callable[[], TlsClient]
) -> tuple[HttpPeer, str]:
    """Take a URL apart: who is connected to, and what is asked for there."""
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    peer = HttpPeer(
        host=parts.hostname or "",
        port=parts.port or (443 if is_tls else 80),
        tls=make_tls() if is_tls else None,
        connect_timeout_s=section.connect_timeout_s,
        response_timeout_s=section.response_timeout_s,
    )
    return peer, parts.path + (f"?{parts.query}" if parts.query else "")


def _login(section: WebPeerSection, service: HttpPeer, monotonic: Callable[[], float]) -> Login:
    if section.user:
        return basic_login(section.user, _secret(section.password))
    if section.token:
        return bearer_login(_secret(section.token))
    if section.oauth2_token_url:
        # Pin, authorities and our certificate are between us and the service, and nobody else.
        peer, target = _peer(section, section.oauth2_token_url, lambda: TlsClient(TlsOptions()))
        both_tls = peer.tls is not None and service.tls is not None
        if both_tls and (peer.host, peer.port) == (service.host, service.port):
            peer = service
        return ClientCredentialsLogin(
            peer,
            target or "/",
            section.oauth2_client_id,
            _secret(section.oauth2_client_secret),
            section.oauth2_scope,
            monotonic,
        )
    return FixedLogin()


def _secret(reference: str) -> str:
    return secrets.resolve(reference) if reference else ""
