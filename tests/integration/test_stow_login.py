"""Who we are, and who the service is: basic, bearer, OAuth2, TLS in both directions."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from tests.conftest import RunDcmvault, StartOrthanc
from tests.integration.dimse_story import study_files
from tests.integration.story import QUICK_RETRIES, summary_of
from tests.integration.stow_story import put_each, uid_of, web_destination
from tests.integration.tls_world import Authority, self_signed, server_context
from tests.integration.web_peer import Reply, Seen, WebPeer, store_json, web_peer

from dcmvault.dicom.http_connection import HttpRequest
from dcmvault.errors import (
    DcmvaultError,
    DestinationStoppedError,
    DestinationUnreachableError,
    InstanceRefusedError,
    TlsRefusedError,
)
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.destination_suite import ORIGIN

CLIENT, SECRET = "backup client", "s3cret/with: signs&"


@pytest.fixture
def files(tmp_path: Path) -> list[InstanceFile]:
    return study_files(tmp_path / "study", 3)


@pytest.fixture
def secret(tmp_path: Path) -> Callable[[str], str]:
    def keep(value: str) -> str:
        path = tmp_path / f"secret-{len(list(tmp_path.glob('secret-*')))}"
        path.touch(mode=0o600)
        path.write_text(value)
        return f"file:{path}"

    return keep


def _is_held(outcomes: list[Receipt | DcmvaultError]) -> bool:
    return all(isinstance(outcome, Receipt) for outcome in outcomes)


def _guarded(files: list[InstanceFile], allowed: Callable[[str], bool]) -> Callable[[Seen], Reply]:
    """Store what comes from who is allowed by the Authorization header."""

    def answer(seen: Seen) -> Reply:
        if not allowed(seen.headers.get("Authorization", "")):
            return Reply(401, b"", {"WWW-Authenticate": "Bearer"})
        return Reply(200, store_json({uid_of(file): 0 for file in files}))

    return answer


# Basic and bearer.


@pytest.mark.peers
def test_user_and_password_at_orthanc(
    start_orthanc: StartOrthanc, run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    orthanc = start_orthanc(AuthenticationEnabled=True, RegisteredUsers={"backup": "right: é"})
    study_files(tmp_path / "study", 3)
    (home / "config.toml").write_text(
        f"{QUICK_RETRIES}\n[destinations.web]\n"
        f'address = "dicomweb+{orthanc.http_url}/dicom-web"\n'
        'user = "backup"\npassword = "env:WEB_PASSWORD"\n'
    )
    command = ("backup", tmp_path / "study", "--to", "web", "--json")
    wrong = summary_of(run_dcmvault(*command, env={"WEB_PASSWORD": "wrong"}), exit_status=5)
    assert wrong["instances"]["failed"] == 3
    (failure, *_rest) = wrong["failures"]
    assert failure["code"] == "destination_stopped"
    assert "answered 401: not authenticated" in failure["message"]
    right = run_dcmvault(*command, env={"WEB_PASSWORD": "right: é"})
    assert summary_of(right)["instances"]["stored"] == 3


def test_a_secret_that_is_not_there_stops_the_destination() -> None:
    destination = web_destination("https://localhost:9/x", user="u", password="env:NOT_SET")
    with pytest.raises(DestinationStoppedError, match="NOT_SET"):
        destination.open((), ORIGIN)
    (step,) = destination.probe()
    assert (step.name, step.ok) == ("secrets", False)


def test_a_bearer_token(files: list[InstanceFile], secret: Callable[[str], str]) -> None:
    with web_peer(_guarded(files, lambda value: value == "Bearer abc.def")) as peer:
        assert _is_held(put_each(web_destination(peer.url, token=secret("abc.def")), files))
        (stopped, *_over) = put_each(web_destination(peer.url, token=secret("other")), files)
        assert isinstance(stopped, DestinationStoppedError)
        with pytest.raises(DestinationStoppedError, match="no token"):
            web_destination(peer.url, token=secret("a\r\nb: c")).open((), ORIGIN)


def test_no_secret_in_what_is_said(files: list[InstanceFile], secret: Callable[[str], str]) -> None:
    with web_peer(_guarded(files, lambda _value: False)) as peer:
        destination = web_destination(peer.url, user="u", password=secret("hunter2"))
        (stopped, *_over) = put_each(destination, files)
        assert isinstance(stopped, DestinationStoppedError)
        shown = f"{stopped.message}{stopped.hint}{destination.name}{vars(destination)}"
        assert "hunter2" not in shown
        assert base64.b64encode(b"u:hunter2").decode() not in shown
    asked = HttpRequest("GET", "/", {"Authorization": "Basic hunter2"})
    assert "hunter2" not in repr(asked), "also not in what a failure shows of it"


# OAuth2.


@dataclass
class TokenService:
    """Gives tokens to one client: 1, 2, 3 ..., each valid for `life_s`."""

    life_s: object = 300
    given: int = 0
    scopes: list[str] = field(default_factory=list)
    reply: Reply | None = None

    def __call__(self, seen: Seen) -> Reply:
        assert seen.headers["Content-Type"] == "application/x-www-form-urlencoded"
        form = parse_qs(seen.content.decode())
        assert form["grant_type"] == ["client_credentials"]
        who = base64.b64decode(seen.headers["Authorization"].removeprefix("Basic ")).decode()
        if self.reply is not None:
            return self.reply
        if who != "backup+client:s3cret%2Fwith%3A+signs%26":
            return Reply(401, b'{"error": "invalid_client", "error_description": "psst"}')
        self.scopes.append(form.get("scope", [""])[0])
        self.given += 1
        answer = {"access_token": f"T{self.given}", "token_type": "bearer"}
        if self.life_s is not None:
            answer["expires_in"] = self.life_s  # type: ignore[assignment]
        return Reply(200, json.dumps(answer).encode())

    @property
    def header(self) -> str:
        """What is valid now."""
        return f"Bearer T{self.given}"


@pytest.fixture
def tokens() -> TokenService:
    return TokenService()


@pytest.fixture
def services(files: list[InstanceFile], tokens: TokenService) -> Iterator[tuple[WebPeer, WebPeer]]:
    """A DICOMweb service that takes the newest token only, and the service that gives tokens."""
    with ExitStack() as stack:
        guarded = _guarded(files, lambda value: value == tokens.header)
        yield stack.enter_context(web_peer(guarded)), stack.enter_context(web_peer(tokens))


def _oauth2(url: str, secret: str) -> dict[str, Any]:
    return {
        "oauth2_token_url": f"{url}/token?tenant=1",
        "oauth2_client_id": CLIENT,
        "oauth2_client_secret": secret,
        "oauth2_scope": "store search",
    }


def test_a_token_serves_many_and_is_renewed_before_it_ends(
    services: tuple[WebPeer, WebPeer],
    tokens: TokenService,
    files: list[InstanceFile],
    secret: Callable[[str], str],
) -> None:
    web, giving = services
    clock = FakeClock()
    destination = web_destination(web.url, clock=clock, **_oauth2(giving.url, secret(SECRET)))
    assert _is_held(put_each(destination, files))
    assert (tokens.given, tokens.scopes) == (1, ["store search"])
    assert giving.seen[0].query == {"tenant": ["1"]}
    clock.advance(239)
    assert _is_held(put_each(destination, files))
    assert tokens.given == 1
    clock.advance(2)
    assert _is_held(put_each(destination, files))
    assert tokens.given == 2
    assert all(seen.headers["Authorization"] == tokens.header for seen in web.seen[-3:])


def test_a_token_that_is_refused_is_renewed_once(
    services: tuple[WebPeer, WebPeer],
    tokens: TokenService,
    files: list[InstanceFile],
    secret: Callable[[str], str],
) -> None:
    web, giving = services
    destination = web_destination(web.url, **_oauth2(giving.url, secret(SECRET)))
    with destination.open((), ORIGIN) as delivery:
        delivery.put(files[0])
        tokens.given += 1  # the one we have is revoked
        receipt = delivery.put(files[1])
        assert receipt.status == "0000"
        assert tokens.given == 3
    web.answering = _guarded(files, lambda _value: False)
    asked = len(web.seen)
    (stopped, *_over) = put_each(destination, files)
    assert isinstance(stopped, DestinationStoppedError)
    assert len(web.seen) - asked == 2, "once more, not for ever"
    assert tokens.given == 4


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (Reply(401, b'{"error": "invalid_client"}'), DestinationStoppedError, "invalid_client"),
        (Reply(400, b'{"error": "Doe^Jane"}'), DestinationStoppedError, "no reason"),
        (Reply(503, b"<html>"), DestinationUnreachableError, "answered 503"),
        (Reply(200, b"<html>"), DestinationStoppedError, "something else"),
        (Reply(200, b'{"access_token": "a\\nb"}'), DestinationStoppedError, "something else"),
        (
            Reply(200, b'{"access_token": "x", "token_type": "mac"}'),
            DestinationStoppedError,
            "some",
        ),
        (Reply(200, b" " * 70_000), DestinationStoppedError, "more than"),
    ],
)
def test_no_token_is_said(
    services: tuple[WebPeer, WebPeer],
    tokens: TokenService,
    secret: Callable[[str], str],
    reply: Reply,
    kind: type[DcmvaultError],
    says: str,
) -> None:
    web, giving = services
    tokens.reply = reply
    destination = web_destination(web.url, **_oauth2(giving.url, secret(SECRET)))
    with pytest.raises(kind, match=says) as caught:
        destination.open((), ORIGIN)
    assert "Doe" not in caught.value.message
    assert not destination.probe()[-1].ok
    assert [step.name for step in destination.probe()] == ["resolve", "connect", "token"]


@pytest.mark.parametrize("life_s", [None, "soon", -5, 0, True, 1e400, "300", [1]])
def test_a_life_that_makes_no_sense_is_the_usual(
    services: tuple[WebPeer, WebPeer],
    tokens: TokenService,
    files: list[InstanceFile],
    secret: Callable[[str], str],
    life_s: object,
) -> None:
    web, giving = services
    tokens.life_s = life_s
    destination = web_destination(web.url, **_oauth2(giving.url, secret(SECRET)))
    assert _is_held(put_each(destination, files))
    assert tokens.given == 1


# TLS.


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_an_authority_of_ones_own(files: list[InstanceFile], authority: Authority) -> None:
    shown = server_context(authority.issue("service", host="localhost"))
    with web_peer(_guarded(files, lambda _value: True), shown) as peer:
        destination = web_destination(peer.url, tls_ca_file=str(authority.ca_file))
        assert _is_held(put_each(destination, files))
        assert peer.connections == 1, "it is kept, whatever TLS says beside"
        peer.answering = lambda seen: Reply(200, b"[]" if seen.method == "GET" else b"{}")
        steps = destination.probe()
        names = ["resolve", "connect", "tls", "http", "qido", "stow"]
        assert [(step.name, step.ok) for step in steps] == [(name, True) for name in names]
        assert "the certificate of service is valid until" in steps[2].detail


@pytest.mark.parametrize(
    ("host", "days", "trusted", "says"),
    [
        ("localhost", 30, False, "authority that is not trusted"),
        ("elsewhere", 30, True, "another host"),
        ("localhost", -0.1, True, "has expired"),
    ],
)
def test_a_service_that_is_not_who_it_should_be(
    files: list[InstanceFile],
    authority: Authority,
    host: str,
    days: float,
    trusted: bool,
    says: str,
) -> None:
    shown = server_context(authority.issue("service", host=host, ends_days=days))
    with web_peer(_guarded(files, lambda _value: True), shown) as peer:
        options: dict[str, Any] = {"tls_ca_file": str(authority.ca_file)} if trusted else {}
        destination = web_destination(peer.url, **options)
        with pytest.raises(TlsRefusedError, match=says):
            destination.open((), ORIGIN)
        assert [step.ok for step in destination.probe()] == [True, True, False]
        assert not peer.seen


def test_a_pinned_certificate(files: list[InstanceFile], tmp_path: Path) -> None:
    shown, other = (self_signed(tmp_path, name) for name in ("shown", "other"))
    with web_peer(_guarded(files, lambda _value: True), server_context(shown)) as peer:
        pinned = web_destination(peer.url, tls_fingerprint=shown.fingerprint)
        assert _is_held(put_each(pinned, files))
        with pytest.raises(TlsRefusedError):
            web_destination(peer.url, tls_fingerprint=other.fingerprint).open((), ORIGIN)


def test_mutual_tls(
    files: list[InstanceFile], authority: Authority, secret: Callable[[str], str]
) -> None:
    our = authority.issue("client", passphrase="open")
    ours: dict[str, Any] = {
        "tls_certificate_file": str(our.certificate),
        "tls_key_file": str(our.key),
    }
    trust: dict[str, Any] = {"tls_ca_file": str(authority.ca_file)}
    passphrase: dict[str, Any] = {"tls_key_passphrase": secret("open")}
    service = authority.issue("service", host="localhost")
    shown = server_context(service, client_ca=authority.ca_file)
    with web_peer(_guarded(files, lambda _value: True), shown) as peer:
        assert _is_held(put_each(web_destination(peer.url, **trust, **ours, **passphrase), files))
        (refused, *_over) = put_each(web_destination(peer.url, **trust), files)
        assert isinstance(refused, TlsRefusedError)
        assert "certificate" in refused.message
        wrong: dict[str, Any] = {"tls_key_passphrase": secret("wrong")}
        for options in ({}, wrong):
            with pytest.raises(DestinationStoppedError, match="cannot be used"):
                web_destination(peer.url, **trust, **ours, **options).open((), ORIGIN)


@pytest.mark.parametrize("pinned", [True, False])
def test_tls_of_the_service_is_not_that_of_who_gives_tokens(
    files: list[InstanceFile],
    tokens: TokenService,
    secret: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pinned: bool,
) -> None:
    """Each shows its own certificate, and only the service sees ours."""
    known, ours = Authority(tmp_path / "known"), Authority(tmp_path / "ours", "Department CA")
    monkeypatch.setenv("SSL_CERT_FILE", str(known.ca_file))
    service = ours.issue("service", host="localhost")
    our = ours.issue("client")
    options: dict[str, Any] = {
        "tls_certificate_file": str(our.certificate),
        "tls_key_file": str(our.key),
        **(
            {"tls_fingerprint": service.fingerprint}
            if pinned
            else {"tls_ca_file": str(ours.ca_file)}
        ),
    }
    shown = server_context(service, client_ca=ours.ca_file)
    giving_shows = server_context(known.issue("giving", host="localhost"))
    with (
        web_peer(_guarded(files, lambda value: value == tokens.header), shown) as web,
        web_peer(tokens, giving_shows) as giving,
    ):
        destination = web_destination(web.url, **options, **_oauth2(giving.url, secret(SECRET)))
        assert _is_held(put_each(destination, files))
        assert tokens.given == 1
        # The same host and port is the same peer.
        web.answering = lambda seen: (
            tokens(seen)
            if seen.path.endswith("/token")
            else _guarded(files, lambda value: value == tokens.header)(seen)
        )
        destination = web_destination(web.url, **options, **_oauth2(web.url, secret(SECRET)))
        assert _is_held(put_each(destination, files))


def test_https_where_http_is_spoken(files: list[InstanceFile]) -> None:
    with web_peer(_guarded(files, lambda _value: True)) as peer:
        destination = web_destination(peer.url.replace("http:", "https:"))
        with pytest.raises(DestinationUnreachableError, match="TLS"):
            destination.open((), ORIGIN)


def test_a_redirection_is_not_followed(
    files: list[InstanceFile], secret: Callable[[str], str]
) -> None:
    """Whoever can redirect a request must not get the secret."""
    with ExitStack() as stack:
        thief = stack.enter_context(web_peer(lambda _seen: Reply(200)))
        moved = Reply(307, b"", {"Location": f"{thief.url}/studies"})
        peer = stack.enter_context(web_peer(lambda _seen: moved))
        destination = web_destination(peer.url, user="u", password=secret("p"))
        (stopped, *_over) = put_each(destination, files)
        assert isinstance(stopped, DestinationStoppedError)
        assert not isinstance(stopped, InstanceRefusedError)
        assert not destination.probe()[-1].ok
        assert not thief.seen
