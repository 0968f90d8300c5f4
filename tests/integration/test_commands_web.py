"""`dcmvault web user` and the first link of a daemon, as their users see them."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from email.message import Message
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any

import pytest
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.daemon_world import GENEROUS_S, DaemonProcess

from dcmvault.cli.main import run


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing: where an answer leads to is what is asked."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None: ...


def _send(link: str, fields: dict[str, str]) -> tuple[int, Message]:
    place = urllib.parse.urlsplit(link)
    body = urllib.parse.urlencode(fields).encode()
    request = urllib.request.Request(link, body, {"Origin": f"{place.scheme}://{place.netloc}"})
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=GENEROUS_S) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


def test_the_first_link_makes_the_first_account_once(
    home: Path, start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault
) -> None:
    daemon = DaemonProcess(start_dcmvault)
    link = daemon.told["first_link"]
    assert link.startswith(f"{daemon.address}/welcome/")
    password = "correct horse battery"
    fields = {"name": "ana", "password": password, "again": password, "language": "pt_BR"}
    status, headers = _send(link, fields)
    assert status == 303
    cookie = next(value for value in headers.get_all("Set-Cookie", []) if "dcmvault=" in value)
    assert "HttpOnly" in cookie
    assert _send(link, {**fields, "name": "mallory"})[0] == 401
    listed = run_dcmvault("web", "user", "list", "--json")
    (account,) = json.loads(listed.stdout)["accounts"]
    assert (account["name"], account["role"], account["language"]) == (
        "ana",
        "administrator",
        "pt-BR",
    )
    daemon.stop()
    again = DaemonProcess(start_dcmvault, token=daemon.token)
    assert again.told["first_link"] is None
    again.stop()


def test_accounts_are_kept_from_the_command_line(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: a new one for each takes a second."""

    def told(*arguments: str, status: int = 0, group: str = "web user") -> dict[str, Any]:
        assert run([*group.split(), *arguments, "--json"]) == status
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    first = told("link")
    assert first["account"] is None
    assert str(first["link"]).startswith("http://127.0.0.1:8765/welcome/")
    told("add", "Ana", "--role", "administrator", "--link")
    told("link", status=2)
    assert told("link", "ana")["account"] == "ana"
    assert told("add", "ana", "--link", status=2)["error"] == {
        "code": "usage",
        "message": "There is an account of this name already.",
        "hint": "",
    }
    told("role", "ana", "viewer", status=2)
    told("disable", "ana", status=2)
    told("remove", "ana", status=2)
    told("add", "bob", status=2)
    told("add", "bob\nx", "--link", status=2)
    told("add", "bob", "--link", "--language", "pt-BR")
    told("role", "bob", "operator")
    told("disable", "bob")
    bob = told("list")["accounts"][1]
    assert (bob["role"], bob["language"], bob["disabled"]) == ("operator", "pt-BR", True)
    told("disable", "bob", "--enable")
    told("remove", "bob")
    told("remove", "bob", status=2)
    events = told("--event", "accounts.changed", group="audit search")["events"]
    commands = [one["details"]["command"] for one in events]
    assert commands.count("web user add") == 5
    assert "web user remove" in commands


def test_the_list_is_for_people(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["web", "user", "list"]) == 0
    assert "dcmvault web user add" in capsys.readouterr().out
    run(["web", "user", "add", "ana", "--link"])
    link = capsys.readouterr().out
    assert link.startswith("http://127.0.0.1:8765/welcome/")
    assert run(["web", "user", "list"]) == 0
    shown = capsys.readouterr().out
    assert "ana" in shown
    assert "None" not in shown


def test_a_link_names_the_port_that_is_served(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault
) -> None:
    """Whatever is configured: the daemon of this test has any port that was free."""
    daemon = DaemonProcess(start_dcmvault)
    served = json.loads(run_dcmvault("web", "user", "link", "--json").stdout)["link"]
    assert served.startswith(f"{daemon.address}/welcome/")
    daemon.stop()
    later = json.loads(run_dcmvault("web", "user", "link", "--json").stdout)["link"]
    assert later.startswith("http://127.0.0.1:8765/welcome/")
