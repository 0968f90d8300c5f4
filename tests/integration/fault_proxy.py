"""A wire between us and a peer that breaks as it is told, at a byte of our choice, once."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

_CHUNK = 16_384
#: Seconds between looks whether the test is over.
_POLL_S = 0.05
_LATENCY_S = 0.05


class WireFault(StrEnum):
    """What happens to the connection; `offset` counts the bytes that we sent before."""

    RESET = "reset"
    FIN = "fin"
    #: Nothing goes through any more, either way; both ends stay connected.
    STALL = "stall"
    #: What the peer says is swallowed from here on; what we say goes through.
    HALF_OPEN = "half-open"
    #: Everything comes in segments of a few bytes.
    SLICES = "slices"
    #: Every piece is late.
    LATENCY = "latency"
    #: One bit of the byte at the offset is another.
    CORRUPTION = "corruption"
    #: Sixteen bytes come twice.
    DUPLICATE = "duplicate"


#: Faults after which the peer may hold something else than what was sent, and say success.
ALTERING = frozenset({WireFault.CORRUPTION, WireFault.DUPLICATE})


@dataclass
class FaultProxy:
    """Hands bytes on to `target`; the fault strikes the first connection that gets so far.

    With `after_negotiation` the offset counts from the peer's first word on.
    """

    target: tuple[str, int]
    #: Seconds for which a connection may stand without a byte: our limit, and five more.
    patience_s: float = 30.0
    fault: WireFault | None = None
    offset: int = 0
    after_negotiation: bool = False
    struck: bool = False
    #: Connections that stood longer than `patience_s` without a byte: somebody waited too long.
    overdue: int = 0
    port: int = 0
    _spared: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(
        self, fault: WireFault, offset: int, *, after_negotiation: bool, connection: int = 1
    ) -> None:
        """Let the fault strike once, from the n-th connection on."""
        self.fault, self.offset, self.after_negotiation = fault, offset, after_negotiation
        self.struck = False
        self.overdue = 0
        self._spared = connection - 1

    def spares(self) -> bool:
        """Say, for each connection once, whether no fault strikes it."""
        with self._lock:
            self._spared -= 1
            return self._spared >= 0

    def strikes(self) -> bool:
        """Say, once, that the fault strikes now."""
        with self._lock:
            if self.struck or self.fault is None:
                return False
            self.struck = True
            return True

    def handle(self, ours: socket.socket) -> None:
        """Carry one connection to its end."""
        try:
            peer = socket.create_connection(self.target, timeout=5)
        except OSError:
            ours.close()
            return
        with ours, peer:
            for connection in (ours, peer):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.settimeout(_POLL_S)
            _Wire(self, ours, peer).carry()

    @contextmanager
    def running(self) -> Iterator[FaultProxy]:
        """Listen on a free port of the loopback."""

        def accept() -> None:
            while True:
                try:
                    connection, _address = listening.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=self.handle, args=(connection,)))
                threads[-1].start()

        threads: list[threading.Thread] = []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
            acceptor = threading.Thread(target=accept)
            acceptor.start()
            try:
                yield self
            finally:
                self._over.set()
                listening.shutdown(socket.SHUT_RDWR)
                acceptor.join(10)
                for thread in threads:
                    thread.join(10)

    @property
    def is_over(self) -> bool:
        """Whether the test is over."""
        return self._over.is_set()


class _Wire:
    """One connection through the proxy, carried by two threads, one for each direction."""

    def __init__(self, proxy: FaultProxy, ours: socket.socket, peer: socket.socket) -> None:
        self._proxy = proxy
        self._ours = ours
        self._peer = peer
        #: Objects of their own to write with: a time-out belongs to the object.
        self._writers = {ours: ours.dup(), peer: peer.dup()}
        self._moved_at = time.monotonic()
        self._ended = threading.Event()
        #: Bytes of ours that were handed on, counted from where the fault counts.
        self._sent = 0
        self._answered = False
        self._active: WireFault | None = None
        self._is_spared = proxy.spares()

    def carry(self) -> None:
        back = threading.Thread(target=self._carry_back)
        back.start()
        self._carry_there()
        self._ended.set()
        back.join(10)
        for writer in self._writers.values():
            writer.close()

    def _carry_there(self) -> None:
        while (data := self._read(self._ours)) is not None:
            if self._suffers(WireFault.STALL, WireFault.FIN):
                continue
            before, after = self._cut(data)
            if not self._hand_on(self._peer, before):
                return
            if after is None:
                continue
            if self._suffers(WireFault.RESET):
                self._reset()
                return
            if self._suffers(WireFault.FIN):
                self._finish()
            elif not self._suffers(WireFault.STALL) and not self._hand_on(self._peer, after):
                return

    def _carry_back(self) -> None:
        while not self._ended.is_set() and (data := self._read(self._peer)) is not None:
            self._answered = True
            if self._suffers(WireFault.STALL, WireFault.HALF_OPEN, WireFault.FIN):
                continue
            if not self._hand_on(self._ours, data):
                break
        if not self._ended.is_set():
            with suppress(OSError):
                self._ours.shutdown(socket.SHUT_RDWR)

    def _cut(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Divide what we said at the fault, if it strikes here, and alter the rest."""
        proxy = self._proxy
        waits = proxy.after_negotiation and not self._answered
        if self._is_spared or self._active is not None or waits:
            return data, None
        place = proxy.offset - self._sent
        self._sent += len(data)
        if place >= len(data) or not proxy.strikes():
            return data, None
        self._active = proxy.fault
        before, after = data[:place], data[place:]
        if proxy.fault is WireFault.CORRUPTION:
            after = bytes([after[0] ^ 0x01]) + after[1:]
        elif proxy.fault is WireFault.DUPLICATE:
            after = after[:16] + after
        return before, after

    def _hand_on(self, to: socket.socket, data: bytes) -> bool:
        step = 7 if self._suffers(WireFault.SLICES) else len(data) or 1
        try:
            writer = self._writers[to]
            writer.settimeout(self._proxy.patience_s)
            for start in range(0, len(data), step):
                if self._suffers(WireFault.LATENCY):
                    time.sleep(_LATENCY_S)
                writer.sendall(data[start : start + step])
        except OSError:
            return False
        return True

    def _read(self, connection: socket.socket) -> bytes | None:
        """Return what came, None at the end of the connection."""
        while not self._proxy.is_over and not self._ended.is_set():
            try:
                data = connection.recv(_CHUNK)
            except TimeoutError:
                if time.monotonic() - self._moved_at > self._proxy.patience_s:
                    self._proxy.overdue += 1
                    return None
                continue
            except OSError:
                return None
            self._moved_at = time.monotonic()
            return data or None
        return None

    def _suffers(self, *faults: WireFault) -> bool:
        return self._active in faults

    def _reset(self) -> None:
        """Make the coming close a reset."""
        for connection in (self._ours, self._peer):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _finish(self) -> None:
        """Say to both that nothing more will come; what they still say is thrown away."""
        for connection in (self._ours, self._peer):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
