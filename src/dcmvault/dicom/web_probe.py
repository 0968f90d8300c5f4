"""The way to a DICOMweb service tried step by step."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from dcmvault.dicom.channel import connect, resolve, secure
from dcmvault.dicom.dicomweb import DicomwebConnection
from dcmvault.dicom.http_connection import HttpAnswer, HttpConnection, HttpPeer
from dcmvault.dicom.http_login import FixedLogin
from dcmvault.dicom.http_status import http_status
from dcmvault.dicom.peer_tls import describe_tls, expiry_warning
from dcmvault.dicom.qido import require_search_answer
from dcmvault.dicom.status import StatusKind
from dcmvault.dicom.tls import TlsFacts, facts_of
from dcmvault.dicom.web_access import WebAccess
from dcmvault.errors import DestinationError
from dcmvault.model.probe import ProbeStep
from dcmvault.ports.clock import Clock

_T = TypeVar("_T")


@dataclass(slots=True)
class WebProbe:
    """Tries one service; `access` looks up its secrets and certificates."""

    access: Callable[[], WebAccess]
    clock: Clock
    #: Whether it is to be sent to, and not only read.
    stores: bool = True
    #: Hears of each step when it ended.
    tell: Callable[[ProbeStep], None] = lambda _step: None
    _steps: list[ProbeStep] = field(default_factory=list)

    def run(self) -> tuple[ProbeStep, ...]:
        """Try every step; stop after the first that fails."""
        with suppress(DestinationError):  # the failed step says it
            self._try_all()
        return tuple(self._steps)

    def _try_all(self) -> None:
        access = self._quietly("secrets", self.access)
        peer = access.peer
        addresses = self._step("resolve", lambda: resolve(peer), lambda found: str(found[0][1][0]))
        plain = self._step(
            "connect", lambda: connect(peer, addresses), lambda _: f"port {peer.port}"
        )
        connection = plain
        if peer.tls is not None:
            connection = self._secure(peer, plain)
        with access.service(HttpConnection(peer, connection)) as service:
            if not isinstance(access.login, FixedLogin):
                self._step("token", access.login.header, lambda _: "a token was given")
            answer = self._step(
                "http", lambda: _first_answer(service), lambda got: f"HTTP {got.status}"
            )
            self._step(
                "qido",
                lambda: require_search_answer(service, answer),
                lambda _: "it can be searched",
            )
            if self.stores:
                self._step("stow", service.store_nothing, lambda _: "it takes requests to store")

    def _secure(self, peer: HttpPeer, plain: socket.socket) -> socket.socket:
        def attempt() -> tuple[socket.socket, TlsFacts]:
            secured = secure(peer, plain)
            assert isinstance(secured, ssl.SSLSocket)
            try:
                return secured, facts_of(secured, peer.name)
            except BaseException:
                secured.close()
                raise

        now = self.clock.now()
        secured, _facts = self._step(
            "tls",
            attempt,
            lambda done: describe_tls(done[1], now),
            lambda done: expiry_warning(done[1], now),
        )
        return secured

    def _step(
        self,
        name: str,
        attempt: Callable[[], _T],
        describe: Callable[[_T], str],
        warn: Callable[[_T], str] = lambda _result: "",
    ) -> _T:
        started = self.clock.monotonic()
        result = self._quietly(name, attempt)
        duration_s = self.clock.monotonic() - started
        self._add(ProbeStep(name, True, describe(result), duration_s, warn(result)))
        return result

    def _add(self, step: ProbeStep) -> None:
        self._steps.append(step)
        self.tell(step)

    def _quietly(self, name: str, attempt: Callable[[], _T]) -> _T:
        """Make an attempt that is a step only when it fails."""
        started = self.clock.monotonic()
        try:
            return attempt()
        except DestinationError as error:
            duration_s = self.clock.monotonic() - started
            self._add(ProbeStep(name, False, error.message, duration_s, error.hint))
            raise


def _first_answer(service: DicomwebConnection) -> HttpAnswer:
    """Ask anything; who is not let in, or sent elsewhere, or met by a failure, is told here."""
    answer = service.search("/studies", [("limit", "1")])
    kind = http_status(answer.status).kind
    if kind is StatusKind.RETRY_LATER or answer.status in (401, 403) or 300 <= answer.status < 400:
        raise service.failure(answer.status)
    return answer
