"""A port on which a peer calls back: who waits for the associations that stand can do so."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from dcmvault.dicom.callback_port import CallbackPort
from dcmvault.dicom.channel import Channel, Peer

_PATIENCE_S = 30.0


def test_an_association_whose_thread_has_just_been_made_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine a thread may begin long after it was made."""
    made = threading.Event()
    served = threading.Event()
    start = threading.Thread.start

    def begins_late(thread: threading.Thread) -> None:
        if getattr(thread, "_target", None) == port._serve:
            made.set()
            time.sleep(0.3)
        start(thread)

    def serve(_peer: Peer, _channel: Channel) -> None:
        served.set()

    with CallbackPort("US", ("127.0.0.1", 0), ["127.0.0.1"], 5.0, serve, "a call") as port:
        monkeypatch.setattr(threading.Thread, "start", begins_late)
        with socket.create_connection(("127.0.0.1", port.port)):
            assert made.wait(_PATIENCE_S)
            port.await_ends(_PATIENCE_S)
            assert served.is_set()
