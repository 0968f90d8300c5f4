"""Acknowledging at once what comes over TCP, where the system can be asked to.

A peer that waits for an acknowledgement before it sends the last, small segment of a message
(Nagle) else waits for our delayed one, 40 ms. Linux alone knows the option; elsewhere nothing is
asked for.
"""

from __future__ import annotations

import socket

#: None where the system has no such option.
QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)


def acknowledge_at_once(connection: socket.socket) -> None:
    """Ask for it until the next receive: tcp(7), the option does not stick."""
    if QUICK_ACK is not None:
        connection.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
