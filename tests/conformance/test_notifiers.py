"""Every channel keeps the contract of notifiers, against real servers on loopback."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.notify_world import (
    PASSWORD,
    USER,
    Mailbox,
    WebService,
    closed_port,
    mail_server,
    web_service,
)
from tests.integration.tls_world import Authority, Identity

from dcmvault.errors import NotificationError, NotificationRefusedError
from dcmvault.model.notice import Event, Severity
from dcmvault.notify import mail
from dcmvault.notify.apprise_services import AppriseNotifier
from dcmvault.notify.healthchecks import HealthchecksNotifier
from dcmvault.notify.mail import MailNotifier, MailRelay
from dcmvault.notify.webhook import WebhookNotifier
from dcmvault.ports.notifier import Notifier
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.notifier_suite import NotifierSuite, sample_message
from dcmvault.testing.recording_notifier import RecordingNotifier

SIGNED_WITH = "hmac-key-7"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.issue("mail")


class _OnMail(NotifierSuite):
    secrets = (PASSWORD,)
    box: Mailbox
    server: MailRelay

    def notifier(self, server: MailRelay | None = None) -> Notifier:
        return MailNotifier(
            server or self.server, "dcmvault@example.org", ("a@example.org", "b@example.org")
        )

    def unreachable_notifier(self) -> Notifier:
        return self.notifier(MailRelay("127.0.0.1", closed_port(), "starttls"))

    def refused_notifier(self) -> Notifier:
        self.box.answer = "554 no"
        return self.notifier()

    def taken(self) -> Sequence[bytes]:
        return self.box.taken

    def words_of(self, taken: bytes) -> str:
        text = self.box.mails()[-1].get_body(("plain",))
        assert text is not None
        return str(text.get_content())


class TestMailOverStarttls(_OnMail):
    @pytest.fixture(autouse=True)
    def _peer(self, authority: Authority, identity: Identity) -> Iterator[None]:
        with mail_server(identity) as self.box:
            ca = str(authority.ca_file)
            self.server = MailRelay("127.0.0.1", self.box.port, "starttls", USER, PASSWORD, ca)
            yield

    def test_a_mail_has_text_and_page_and_the_report(self) -> None:
        """A mail program shows one of two, and the report beside it."""
        self.notifier().send(sample_message())
        (taken,) = self.box.mails()
        assert self.box.recipients == ["a@example.org", "b@example.org"]
        assert taken["Subject"] == "nightly: message 1"
        assert taken["Auto-Submitted"] == "auto-generated"
        assert "run_ended.20260131" in taken["Message-ID"]
        kinds = [part.get_content_type() for part in taken.walk()]
        assert kinds == [
            "multipart/mixed",
            "multipart/alternative",
            "text/plain",
            "text/html",
            "text/html",
        ]
        (attached,) = taken.iter_attachments()
        assert attached.get_filename() == "report.html"

    def test_a_wrong_password_is_told_as_such(self) -> None:
        server = MailRelay(
            "127.0.0.1", self.box.port, "starttls", USER, "wrong", self.server.ca_file
        )
        with pytest.raises(NotificationRefusedError, match="refuses the login") as caught:
            self.notifier(server).send(sample_message())
        assert "wrong" not in str(caught.value)

    def test_a_certificate_that_nobody_knows_is_refused_before_the_login(self) -> None:
        server = MailRelay("127.0.0.1", self.box.port, "starttls", USER, PASSWORD)
        with pytest.raises(NotificationRefusedError, match="not trusted"):
            self.notifier(server).send(sample_message())
        assert self.box.taken == []

    def test_a_server_that_is_full_is_tried_later(self) -> None:
        self.box.answer = "452 full"
        with pytest.raises(NotificationError, match="does not take the mail") as caught:
            self.notifier().send(sample_message())
        assert caught.value.code == "notification_unreachable"


class TestMailOverTls(_OnMail):
    @pytest.fixture(autouse=True)
    def _peer(self, authority: Authority, identity: Identity) -> Iterator[None]:
        with mail_server(identity, security="tls") as self.box:
            ca = str(authority.ca_file)
            self.server = MailRelay("127.0.0.1", self.box.port, "tls", USER, PASSWORD, ca)
            yield

    def test_starttls_where_tls_is_spoken_is_told_as_such(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The commonest mistake: each waits for the other's first word."""
        monkeypatch.setattr(mail, "_WAIT_S", 0.3)
        server = MailRelay("127.0.0.1", self.box.port, "starttls")
        with pytest.raises(NotificationError) as caught:
            self.notifier(server).send(sample_message())
        assert "“security”" in caught.value.hint


def test_a_server_that_never_ends_its_greeting_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps every wait within its limit, and the channel silent for ever."""
    monkeypatch.setattr(mail, "_LONGEST_S", 0.5)
    sent = 0

    def greet(listening: socket.socket) -> None:
        nonlocal sent
        with suppress(OSError), listening.accept()[0] as connection:
            while sent < 200:
                connection.sendall(b"2")
                sent += 1
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=greet, args=(listening,))
        server.start()
        relay = MailRelay("127.0.0.1", listening.getsockname()[1], "starttls")
        with pytest.raises(NotificationError) as caught:
            MailNotifier(relay, "a@example.org", ("b@example.org",)).send(sample_message())
        server.join()
    assert caught.value.code == "notification_unreachable"
    assert sent < 200


def test_certificates_that_cannot_be_read_are_told_as_such(tmp_path: Path) -> None:
    """And not as a server that says nothing, or speaks no TLS."""
    (tmp_path / "no-pem").write_text("none")
    for name in ("missing", "no-pem"):
        relay = MailRelay("127.0.0.1", 1, "tls", ca_file=str(tmp_path / name))
        with pytest.raises(NotificationRefusedError, match="tls_ca_file"):
            MailNotifier(relay, "a@example.org", ("b@example.org",)).send(sample_message())


def test_a_digest_that_says_something_is_wrong_is_no_ping_of_success() -> None:
    """The check would be green, and the digest says that studies have no copy."""
    with web_service() as service:
        notifier = HealthchecksNotifier(f"{service.url}/uuid")
        digest = sample_message(event=Event.DIGEST)
        for severity in (Severity.INFO, Severity.WARNING):
            notice = replace(digest.notice, run_id="", severity=severity, facts={})
            notifier.send(replace(digest, notice=notice))
        assert [one.path.rpartition("/")[2] for one in service.taken] == ["0", "1"]


def test_what_is_no_url_of_a_service_is_not_quoted() -> None:
    """People paste the bare token: it is as secret as the URL."""
    for url in ("tGzv3JOkF0XG5Qx2TlKWIA", "token: tGzv3JOkF0XG5Qx2TlKWIA"):
        notifier = AppriseNotifier(url)
        assert notifier.name == "apprise"
        with pytest.raises(NotificationRefusedError) as caught:
            notifier.send(sample_message())
        assert "tGzv3" not in f"{caught.value} {caught.value.hint}"


def test_a_plan_may_be_named_in_any_letters() -> None:
    """Its name is in the name of the notice, which is that of the mail."""
    notifier = MailNotifier(MailRelay("127.0.0.1", 25, "none"), "a@example.org", ("b@example.org",))
    names: set[str] = set()
    for plan in ("Diário", "a>b c", "x" * 900, "é" * 300):
        notice = replace(sample_message().notice, notice_id=f"overdue:{plan}:2026-01-31T10:00:00")
        mails = [notifier.written(replace(sample_message(), notice=notice)) for _twice in "12"]
        first, second = (mail.as_bytes() for mail in mails)
        assert all(len(line) < 998 for line in first.splitlines())
        names |= {mail["Message-ID"] for mail in mails}
        assert b"overdue" in first or len(plan) > 200
        assert mails[0]["Message-ID"] == mails[1]["Message-ID"], second
    assert len(names) == 4
    assert all(name.isascii() and " " not in name for name in names)


def test_mail_for_a_server_without_tls_is_never_sent_in_the_clear() -> None:
    with mail_server(login=False) as box:
        notifier = MailNotifier(
            MailRelay("127.0.0.1", box.port, "starttls"), "a@example.org", ("b@example.org",)
        )
        with pytest.raises(NotificationRefusedError, match="STARTTLS"):
            notifier.send(sample_message())
        assert box.taken == []


class _OnWeb(NotifierSuite):
    secrets = ("T0KEN-in-the-path", SIGNED_WITH)
    service: WebService

    @pytest.fixture(autouse=True)
    def _peer(self, authority: Authority, identity: Identity) -> Iterator[None]:
        self.ca = str(authority.ca_file)
        with web_service(identity) as self.service:
            yield

    def made(self, url: str) -> Notifier:
        raise NotImplementedError

    def notifier(self) -> Notifier:
        return self.made(self.service.url)

    def unreachable_notifier(self) -> Notifier:
        return self.made(f"https://127.0.0.1:{closed_port()}/T0KEN-in-the-path")

    def refused_notifier(self) -> Notifier:
        self.service.status = 403
        return self.notifier()

    def taken(self) -> Sequence[bytes]:
        return [one.body for one in self.service.taken]

    def test_a_busy_service_is_tried_later(self) -> None:
        self.service.status = 503
        with pytest.raises(NotificationError) as caught:
            self.notifier().send(sample_message())
        assert caught.value.code == "notification_unreachable"

    def test_no_redirection_is_followed(self) -> None:
        """What is sent may be secret, and the new place is nobody's choice."""
        with web_service() as other:
            self.service.status, self.service.location = 307, other.url
            with pytest.raises(NotificationRefusedError, match="another one"):
                self.notifier().send(sample_message())
            assert other.taken == []

    def test_a_certificate_that_nobody_knows_is_refused(self) -> None:
        self.ca = ""
        with pytest.raises(NotificationRefusedError):
            self.notifier().send(sample_message())
        assert self.service.taken == []


class TestWebhook(_OnWeb):
    def made(self, url: str) -> Notifier:
        return WebhookNotifier(url, FakeClock(), SIGNED_WITH, self.ca)

    def test_it_is_signed_as_documented(self) -> None:
        """The receiver computes the same from the key, the time and the body."""
        self.notifier().send(sample_message())
        (one,) = self.service.taken
        at, signed = (
            part.partition("=")[2] for part in one.headers["Dcmvault-Signature"].split(",")
        )
        expected = hmac.new(SIGNED_WITH.encode(), f"{at}.".encode() + one.body, hashlib.sha256)
        assert signed == expected.hexdigest()
        assert one.headers["Dcmvault-Event"] == "run_incomplete"
        assert json.loads(one.body)["id"] == one.headers["Dcmvault-Notice"]


class TestHealthchecks(_OnWeb):
    def made(self, url: str) -> Notifier:
        return HealthchecksNotifier(url, self.ca)

    def test_pings_say_start_success_and_how_it_failed(self) -> None:
        notifier = self.notifier()
        for event in (Event.RUN_STARTED, Event.RUN_OK, Event.RUN_INCOMPLETE, Event.OVERDUE):
            message = sample_message(event=event)
            if event is Event.RUN_OK:
                message.notice.facts["plan_exit_status"] = 0  # type: ignore[index]
            notifier.send(message)
        paths = [one.path.partition("?") for one in self.service.taken]
        ends = [path[0].rpartition("T0KEN-in-the-path")[2] for path in paths]
        assert ends == ["/start", "", "/3", "/fail"]
        assert len({path[2] for path in paths}) == 1, "begin and end of a run share a name"

    def test_a_success_of_one_source_is_none_of_the_plan(self) -> None:
        """Another source of the plan failed: the check must not turn green."""
        self.notifier().send(sample_message(event=Event.RUN_OK))
        assert self.service.taken[0].path.partition("?")[0].endswith("/3")

    def test_an_unknown_check_is_told_though_it_is_answered_with_200(self) -> None:
        self.service.answer = b"OK (not found)"
        with pytest.raises(NotificationRefusedError, match="does not know this check"):
            self.notifier().send(sample_message())


class TestApprise(NotifierSuite):
    secrets = ("T0KEN-in-the-path",)

    @pytest.fixture(autouse=True)
    def _peer(self, tmp_path: Path) -> Iterator[None]:
        with web_service() as self.service:
            yield

    def notifier(self) -> Notifier:
        return AppriseNotifier(self.service.url.replace("http://", "json://"))

    def unreachable_notifier(self) -> Notifier:
        return AppriseNotifier(f"json://127.0.0.1:{closed_port()}/T0KEN-in-the-path")

    def refused_notifier(self) -> Notifier:
        return AppriseNotifier("nonsense://T0KEN-in-the-path")

    def taken(self) -> Sequence[bytes]:
        return [one.body for one in self.service.taken]

    def words_of(self, taken: bytes) -> str:
        return str(json.loads(taken)["message"])


class TestRecording(NotifierSuite):
    @pytest.fixture(autouse=True)
    def _memory(self) -> None:
        self.kept = RecordingNotifier()

    def notifier(self) -> Notifier:
        return self.kept

    def unreachable_notifier(self) -> Notifier:
        return RecordingNotifier(is_down=True)

    def refused_notifier(self) -> Notifier:
        return RecordingNotifier(refuses=True)

    def taken(self) -> Sequence[bytes]:
        return self.kept.bodies()
