"""Peers that must not be trusted: each is refused in one clear sentence, and nothing is sent."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault
from tests.integration.dimse_story import kinds_of, study_files
from tests.integration.raw_peer import Asked, raw_peer
from tests.integration.story import QUICK_RETRIES, instances, summary_of
from tests.integration.tls_world import HOST, Authority, Identity, self_signed, server_context

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.errors import ConfigurationError, DestinationUnreachableError, Retry, TlsRefusedError
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.destination_suite import ORIGIN
from dcmvault.testing.peers import SimulatedPacs


@dataclass(frozen=True)
class World:
    """Certificates, made once."""

    hospital: Authority
    good: Identity
    expired: Identity
    not_yet: Identity
    wrong_host: Identity
    stranger: Identity
    own: Identity
    own_expired: Identity
    ours: Identity
    ours_expired: Identity


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("certificates")
    hospital = Authority(folder / "hospital")
    return World(
        hospital=hospital,
        good=hospital.issue("pacs"),
        expired=hospital.issue("expired", starts_days=-9, ends_days=-1),
        not_yet=hospital.issue("not-yet", starts_days=1),
        wrong_host=hospital.issue("wrong-host", host="other.example"),
        stranger=Authority(folder / "elsewhere", "Other CA").issue("stranger"),
        own=self_signed(folder, "own"),
        own_expired=self_signed(folder, "own-expired", ends_days=-1),
        ours=hospital.issue("ours"),
        ours_expired=hospital.issue("ours-expired", starts_days=-9, ends_days=-1),
    )


@contextmanager
def _tls(identity: Identity, **options: object) -> Iterator[int]:
    """A TLS server that accepts any association, and must never be asked to store."""
    asked: list[Asked] = []
    with raw_peer(asked.append, server_context(identity, **options)) as port:  # type: ignore[arg-type]
        yield port
    assert not asked, "something was sent"


@contextmanager
def _answers_with(answer: bytes) -> Iterator[int]:
    """Answers the first bytes of every connection with these, and hangs up."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _address = listening.accept()
                with connection, suppress(OSError):
                    connection.recv(4096)
                    connection.sendall(answer)

    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(20)


@contextmanager
def _plain_pacs() -> Iterator[int]:
    with SimulatedPacs() as pacs:
        yield pacs.port


@contextmanager
def _silent() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server((HOST, 0)) as listening:
        yield listening.getsockname()[1]


#: ServerHello of TLS 1.0, as servers answer that know nothing newer (RFC 5246 section 7.4.1.3).
_OLD_SERVER_HELLO = bytes.fromhex("160301002a020000260301" + "11" * 32 + "00002f000000")
#: An A-ABORT, with which many a DICOM service answers what is no DICOM (PS3.8 section 9.3.8).
_A_ABORT = bytes.fromhex("07000000000400000201")


@dataclass(frozen=True)
class Bad:
    """A peer, what is configured for it, and what is said of it."""

    serve: Callable[[World], AbstractContextManager[int]]
    says: str
    hint: str
    options: Callable[[World], dict[str, str]] = field(default=lambda world: _trusting(world))
    error: type[DestinationUnreachableError] = TlsRefusedError
    step: str = "tls"


def _trusting(world: World) -> dict[str, str]:
    return {"tls_ca_file": str(world.hospital.ca_file)}


def _pinning(identity: str) -> Callable[[World], dict[str, str]]:
    return lambda world: {"tls_fingerprint": getattr(world, identity).fingerprint}


def _showing(identity: str) -> Callable[[World], dict[str, str]]:
    def options(world: World) -> dict[str, str]:
        shown: Identity = getattr(world, identity)
        files = {"tls_certificate_file": str(shown.certificate), "tls_key_file": str(shown.key)}
        return _trusting(world) | files

    return options


_OLD, _TLS_1_2 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2

BAD = {
    "expired": Bad(lambda w: _tls(w.expired), "its certificate has expired", "renewed"),
    "not yet valid": Bad(lambda w: _tls(w.not_yet), "is not valid yet", "clock"),
    "wrong host": Bad(
        lambda w: _tls(w.wrong_host), f"for another host than {HOST}", "name in its certificate"
    ),
    "unknown CA": Bad(
        lambda w: _tls(w.stranger), "by an authority that is not trusted", "tls_ca_file"
    ),
    "system CAs": Bad(
        lambda w: _tls(w.good),
        "by an authority that is not trusted",
        "tls_ca_file",
        options=lambda _world: {},
    ),
    "self-signed": Bad(lambda w: _tls(w.own), "is signed by itself", "tls_fingerprint"),
    "TLS 1.1 only": Bad(
        lambda w: _tls(w.good, newest=_OLD), "no longer safe", "Enable TLS 1.2 or 1.3"
    ),
    "TLS 1.0 only": Bad(
        lambda _w: _answers_with(_OLD_SERVER_HELLO), "no longer safe", "Enable TLS 1.2 or 1.3"
    ),
    "no safe cipher": Bad(
        lambda w: _tls(w.good, newest=_TLS_1_2, ciphers="AES256-SHA"),
        "none of the safe ciphers",
        "BCP 195",
    ),
    "other pin": Bad(
        lambda w: _tls(w.own), "is not the pinned one", "tls_fingerprint", _pinning("good")
    ),
    "pin expired": Bad(
        lambda w: _tls(w.own_expired), "has expired", "renewed", _pinning("own_expired")
    ),
    "no TLS, answers": Bad(
        lambda _w: _answers_with(_A_ABORT), "does not speak TLS on this port", "dicom://"
    ),
    "no TLS, hangs up": Bad(
        lambda _w: _plain_pacs(),
        "ended the connection instead of answering by TLS",
        "dicom://",
        error=DestinationUnreachableError,
    ),
    "no TLS, silent": Bad(
        lambda _w: _silent(),
        "no TLS within 1 s",
        "dicom://",
        error=DestinationUnreachableError,
    ),
    "certificate wanted, TLS 1.2": Bad(
        lambda w: _tls(w.good, client_ca=w.hospital.ca_file, newest=_TLS_1_2),
        "it wants a certificate from us",
        "tls_certificate_file",
    ),
    "certificate wanted, TLS 1.3": Bad(
        lambda w: _tls(w.good, client_ca=w.hospital.ca_file),
        "it wants a certificate from us",
        "tls_certificate_file",
        step="associate",
    ),
    "our certificate is a stranger's": Bad(
        lambda w: _tls(w.good, client_ca=w.hospital.ca_file, newest=_TLS_1_2),
        "it refuses our certificate: its authority is not known there",
        "Register our certificate",
        _showing("stranger"),
    ),
    "our certificate has expired": Bad(
        lambda w: _tls(w.good, client_ca=w.hospital.ca_file),
        "it refuses our certificate: it has expired",
        "check its dates",
        _showing("ours_expired"),
        step="associate",
    ),
}
each_bad = pytest.mark.parametrize("bad", BAD.values(), ids=BAD)


def _section(port: int, options: dict[str, str]) -> DimseDestinationSection:
    return DimseDestinationSection.model_validate(
        {"host": HOST, "port": port, "tls": True, "connect_timeout_s": 1, **options}
    )


@each_bad
def test_a_bad_server_is_refused_by_the_right_error(world: World, bad: Bad, tmp_path: Path) -> None:
    files = study_files(tmp_path, 1)
    with bad.serve(world) as port:
        destination = DimseDestination(_section(port, bad.options(world)), FakeClock())
        with pytest.raises(DestinationUnreachableError) as raised:
            destination.open(kinds_of(files), ORIGIN)
    assert type(raised.value) is bad.error
    assert raised.value.exit_status == 5
    expected = Retry.OPERATOR if bad.error is TlsRefusedError else Retry.LATER
    assert raised.value.retry is expected
    message = raised.value.message
    assert message.startswith(f"ANY-SCP at {HOST}:{port}: ")
    assert bad.says in message
    assert bad.hint in raised.value.hint
    assert "_" not in message.replace("tls_", ""), "no code of OpenSSL instead of words"


def _configure(home: Path, port: int, options: dict[str, str]) -> None:
    lines = [
        "[destinations.pacs]",
        f'address = "dicoms://PACS@{HOST}:{port}"',
        "connect_timeout_s = 1.0",
        *(f'{key} = "{value}"' for key, value in options.items()),
    ]
    (home / "config.toml").write_text(QUICK_RETRIES + "\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "expired",
        "not yet valid",
        "wrong host",
        "unknown CA",
        "self-signed",
        "TLS 1.1 only",
        "other pin",
        "no TLS, hangs up",
        "certificate wanted, TLS 1.3",
    ],
)
def test_node_echo_says_so_at_the_right_step(
    world: World, name: str, run_dcmvault: RunDcmvault, home: Path
) -> None:
    bad = BAD[name]
    with bad.serve(world) as port:
        _configure(home, port, bad.options(world))
        answer = summary_of(run_dcmvault("node", "echo", "pacs", "--json"), 5)
    failed = answer["steps"][-1]
    assert (failed["name"], failed["ok"]) == (bad.step, False)
    assert bad.says in failed["detail"]
    assert bad.hint in failed["hint"]


def test_a_backup_ends_with_the_sentence_and_sends_nothing(
    world: World, run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    study_files(tmp_path / "studies", 3)
    with _tls(world.own) as port:
        _configure(home, port, {"tls_fingerprint": world.good.fingerprint})
        done = run_dcmvault("backup", tmp_path / "studies", "--to", "pacs", "--json")
        summary = summary_of(done, 5)
        assert instances(summary) == {"selected": 3, "failed": 3}
        for failure in summary["failures"]:
            assert failure["code"] == "tls_refused"
            assert "is not the pinned one; it is " in failure["message"]
            assert world.own.fingerprint.lower() in failure["message"]
        portuguese = run_dcmvault("--lang", "pt-BR", "node", "echo", "pacs")
    assert portuguese.returncode == 5
    assert "o certificado dele não é o que foi fixado" in portuguese.stdout
    assert "confira a impressão digital no PACS" in " ".join(portuguese.stdout.split())


@pytest.mark.parametrize(
    ("options", "says", "hint"),
    [
        ({"tls_ca_file": "{folder}/none.pem"}, "(tls_ca_file) cannot be used", "No such file"),
        ({"tls_ca_file": "{folder}/text.pem"}, "(tls_ca_file) cannot be used", "not PEM"),
        (
            {"tls_certificate_file": "{ours}/certificate.pem", "tls_key_file": "{good}/key.pem"},
            "our certificate or its private key",
            "the key belongs to another certificate",
        ),
        (
            {
                "tls_certificate_file": "{locked}/certificate.pem",
                "tls_key_file": "{locked}/key.pem",
            },
            "our certificate or its private key",
            "passphrase of the key",
        ),
        (
            {
                "tls_certificate_file": "{locked}/certificate.pem",
                "tls_key_file": "{locked}/key.pem",
                "tls_key_passphrase": "env:KEY_WORD",
            },
            "our certificate or its private key",
            "passphrase of the key",
        ),
        (
            {
                "tls_certificate_file": "{locked}/certificate.pem",
                "tls_key_passphrase": "env:NOT_SET_ANYWHERE",
            },
            "NOT_SET_ANYWHERE",
            "Set it",
        ),
    ],
)
def test_files_that_cannot_be_used_are_told_before_anything_is_connected(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: dict[str, str],
    says: str,
    hint: str,
) -> None:
    monkeypatch.setenv("KEY_WORD", "not the word")
    (tmp_path / "text.pem").write_text("no certificate")
    locked = Authority(tmp_path / "ca").issue("locked", passphrase="the word")
    places = {
        "folder": tmp_path,
        "ours": world.ours.certificate.parent,
        "good": world.good.certificate.parent,
        "locked": locked.certificate.parent,
    }
    named = {key: value.format(**places) for key, value in options.items()}
    with pytest.raises(ConfigurationError) as raised:
        DimseDestination(_section(1, named), FakeClock())
    assert says in raised.value.message
    assert hint in raised.value.hint
    assert str(tmp_path) not in raised.value.message
    assert "the word" not in raised.value.hint


def test_the_command_line_names_a_file_that_cannot_be_used(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    study_files(tmp_path / "studies", 1)
    _configure(home, 1, {"tls_ca_file": str(tmp_path / "none.pem")})
    done = run_dcmvault("backup", tmp_path / "studies", "--to", "pacs", "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["code"] == "configuration"
    checks = summary_of(run_dcmvault("doctor", "--json"), 1)["checks"]
    (pacs,) = (check for check in checks if check["name"] == "destination pacs")
    assert not pacs["ok"]
    assert "tls_ca_file" in pacs["detail"]
