"""A daemon as its users see it: a process, its API and its events."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.conftest import StartDcmvault

#: Seconds that nothing here takes, however busy the machine is.
GENEROUS_S = 90.0


class DaemonProcess:
    """A daemon that said that it runs; the token is remembered from the first start."""

    def __init__(self, start: StartDcmvault, *, token: str = "") -> None:
        self.process: subprocess.Popen[str] = start("serve", "--web-port", "0", "--json")
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()
        self.told: dict[str, Any] = json.loads(line)
        self.token = token or self.told["token"]
        self.address: str = self.told["address"]

    def ask(
        self, path: str, body: Mapping[str, object] | None = None, token: str | None = None
    ) -> tuple[int, Any]:
        """Send GET, or POST with a body; return the status and what was answered."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        headers["Authorization"] = f"Bearer {self.token if token is None else token}"
        request = urllib.request.Request(self.address + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=GENEROUS_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def get(self, path: str) -> Any:
        """Return what is answered with 200."""
        status, answer = self.ask(path)
        assert status == 200, answer
        return answer

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Return what is answered with success."""
        status, answer = self.ask(path, body or {})
        assert status in (200, 202), answer
        return answer

    def listen(self, topics: str = "", last_id: str = "") -> Events:
        """Open a stream of events."""
        return Events(self.address, self.token, topics, last_id)

    def wait_for(self, path: str, is_so: Callable[[Any], bool]) -> Any:
        """Ask until the answer is as wanted."""
        deadline = time.monotonic() + GENEROUS_S
        while not is_so(answer := self.get(path)):
            assert time.monotonic() < deadline, answer
            time.sleep(0.05)
        return answer

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> list[dict[str, Any]]:
        """End it in order; return the events that it still wrote."""
        self.process.terminate()
        out, errors = self.process.communicate(timeout=GENEROUS_S)
        assert (self.process.returncode, errors) == (0, ""), errors
        return [json.loads(line) for line in out.splitlines()]


class Events:
    """A client of the stream of events."""

    def __init__(self, address: str, token: str, topics: str = "", last_id: str = "") -> None:
        place = urlsplit(address)
        assert place.hostname is not None
        self._connection = HTTPConnection(place.hostname, place.port, timeout=GENEROUS_S)
        headers = {"Authorization": f"Bearer {token}"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        self._connection.request("GET", f"/api/events?topics={topics}", headers=headers)
        self.answer: HTTPResponse = self._connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        self.last_id = last_id

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Give each event as (topic, data), until the stream ends."""
        topic = ""
        while line := self.answer.readline():
            name, _colon, value = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                self.last_id = value
            elif name == "event":
                topic = value
            elif name == "data":
                yield topic, json.loads(value)

    def close(self) -> None:
        """Go away."""
        self.answer.close()
        self._connection.close()

    def wait_for(self, topic: str, is_so: Callable[[Any], bool]) -> Any:
        """Return the next event that is as wanted."""
        with closing(self):
            for one, data in self:
                if one == topic and is_so(data):
                    return data
        raise AssertionError("the stream ended")


def configure(home: Path, *, destination: str, plans: Mapping[str, tuple[Path, str]]) -> None:
    """Write a configuration: one destination, and plans by name, each (folder, priority)."""
    lines = ["[retry]", "wait_s = 0", "[destinations.there]", f'address = "{destination}"']
    for name, (folder, priority) in plans.items():
        lines += [
            f"[plans.{name}]",
            f'sources = ["{folder}"]',
            'destinations = ["there"]',
            f'priority = "{priority}"',
        ]
    (home / "config.toml").write_text("\n".join(lines) + "\n")
