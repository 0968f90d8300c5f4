"""What a browser carries from the login page to the provider and back, so that nothing is kept.

It is encrypted with a key that lives as long as the process: a browser neither reads nor makes one,
and however many logins are begun, none of them takes the place of another.
"""

from __future__ import annotations

import json
import secrets
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import asdict, dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dcmvault.ports.clock import Clock

#: How long somebody may take at the provider (seconds).
LASTS_S = 600.0
_NONCE_BYTES = 12
_SECRET_BYTES = 32
#: Characters of a ticket: cookies have no more than 4096 bytes.
_LONGEST = 3000
#: Tickets that were used are remembered until they would have expired; so many, at most.
_MOST_USED = 50_000


@dataclass(frozen=True, slots=True)
class Ticket:
    """One login that was begun in one browser."""

    #: What the provider gives back to show which request it answers (RFC 6749 section 10.12).
    state: str = field(repr=False)
    #: What the ID token must repeat (OpenID Connect Core 1.0, section 15.5.2).
    nonce: str = field(repr=False)
    #: What only this browser's request can be redeemed with (RFC 7636).
    verifier: str = field(repr=False)
    #: Where the person wanted to go.
    where: str
    #: Seconds of the clock that never runs backwards.
    begun_at: float


class TicketDesk:
    """Gives out tickets, and takes each of them once. Safe for several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seal = AESGCM(AESGCM.generate_key(bit_length=256))
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()

    def give(self, where: str) -> tuple[Ticket, str]:
        """Make a ticket; return it, and what the browser carries."""
        state, nonce, verifier = (secrets.token_urlsafe(_SECRET_BYTES) for _one in range(3))
        ticket = Ticket(state, nonce, verifier, where, self._clock.monotonic())
        sealed = self._sealed(ticket)
        if len(sealed) > _LONGEST:
            ticket = Ticket(state, nonce, verifier, "/", ticket.begun_at)
            sealed = self._sealed(ticket)
        return ticket, sealed

    def is_ours(self, carried: str) -> bool:
        """Say whether a browser carries something that was given to it."""
        return self._opened(carried) is not None

    def take(self, carried: str, state: str) -> Ticket | None:
        """Use up the ticket that a browser carries; None unless it is the one of this state."""
        ticket = self._opened(carried)
        if ticket is None:
            return None
        now = self._clock.monotonic()
        expected, shown = ticket.state.encode(), state.encode("utf-8", "replace")
        if now - ticket.begun_at >= LASTS_S or not secrets.compare_digest(expected, shown):
            return None
        with self._lock:
            # In the order of time.
            for used, at in list(self._used.items()):
                if now - at < LASTS_S and len(self._used) < _MOST_USED:
                    break
                del self._used[used]
            if ticket.state in self._used:
                return None
            self._used[ticket.state] = now
        return ticket

    def _sealed(self, ticket: Ticket) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._seal.encrypt(nonce, json.dumps(asdict(ticket)).encode(), None)
        # Without “=”, which cookies have in quotes.
        return urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode("ascii")

    def _opened(self, carried: str) -> Ticket | None:
        if not carried or len(carried) > _LONGEST:
            return None
        try:
            raw = urlsafe_b64decode(carried.encode("ascii") + b"==")
            opened = self._seal.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None)
        except (ValueError, InvalidTag):
            return None
        return Ticket(**json.loads(opened))
