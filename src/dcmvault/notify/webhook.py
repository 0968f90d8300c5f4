"""Webhooks: JSON by POST, signed, so that the receiver knows who it is from."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field

from dcmvault.model.notice import Message
from dcmvault.notify.posting import place_of, post
from dcmvault.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class WebhookNotifier:
    """Posts a notice as one JSON object (docs/reference/notifications.md).

    `secret` signs: `Dcmvault-Signature: t=SECONDS,v1=HEX`, an HMAC-SHA256 of `SECONDS.BODY`, so
    that neither the body nor the time can be changed. Nothing is followed to another address.
    """

    url: str = field(repr=False)
    clock: Clock
    secret: str = field(default="", repr=False)
    ca_file: str = ""

    @property
    def name(self) -> str:
        """Say where it goes."""
        return place_of(self.url)

    def send(self, message: Message) -> str:
        """Post it; what the receiver answers in its body is not looked at."""
        body = json.dumps(message.body, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "Dcmvault-Event": message.notice.event.value,
            "Dcmvault-Notice": message.notice.notice_id,
        }
        if self.secret:
            headers["Dcmvault-Signature"] = signature(
                self.secret, int(self.clock.now().timestamp()), body
            )
        answer = post(self.url, body, headers, ca_file=self.ca_file)
        return f"{self.name} took it (HTTP {answer.status})"


def signature(secret: str, at: int, body: bytes) -> str:
    """Sign a body at a time (seconds since 1970)."""
    signed = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={signed.hexdigest()}"
