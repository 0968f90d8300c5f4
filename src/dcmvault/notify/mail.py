"""Mail by SMTP: text and HTML in one message, the report attached, TLS with a checked host name."""

from __future__ import annotations

import hashlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from dcmvault.errors import (
    NotificationPartlyTakenError,
    NotificationRefusedError,
    NotificationUnreachableError,
)
from dcmvault.model.notice import Message, Severity

#: Seconds for each word of the server.
_WAIT_S = 15.0
#: Seconds for a whole conversation.
_LONGEST_S = 90.0
_PERMANENT = range(500, 600)
#: Characters that fit in one line of a header.
_LONGEST_IDENTIFIER = 200


@dataclass(frozen=True, slots=True)
class MailRelay:
    """Where mail is handed in, and who we are there."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    user: str = ""
    password: str = field(default="", repr=False)
    #: Path of the certificates (PEM) that sign the server's; empty: the system's.
    ca_file: str = ""


class _Limited(smtplib.SMTP):
    """A conversation that ends: each word has its time, and so have all together."""

    _limit: threading.Timer | None = None

    def connect(self, *place: Any, **more: Any) -> tuple[int, bytes]:
        """Connect and hear the greeting, which may come byte by byte for ever."""
        self._limit = threading.Timer(_LONGEST_S, _hang_up, [self])
        self._limit.daemon = True
        self._limit.start()
        try:
            return super().connect(*place, **more)
        except BaseException:
            self._limit.cancel()
            raise

    def close(self) -> None:
        """Close; also called where the conversation fails."""
        if self._limit is not None:
            self._limit.cancel()
        super().close()


class _OverTls(_Limited, smtplib.SMTP_SSL):
    """TLS from the first byte."""


@dataclass(frozen=True, slots=True)
class MailNotifier:
    """Hands messages in at one server, for the same people. One connection for each message."""

    server: MailRelay
    sender: str
    recipients: tuple[str, ...]

    @property
    def name(self) -> str:
        """Say where it goes."""
        return f"{', '.join(self.recipients)} ({self.server.host}:{self.server.port})"

    def send(self, message: Message) -> str:
        """Hand it in; returned means that the server is responsible for it (RFC 5321 6.1)."""
        mail = self.written(message)
        with self._said_plainly(), self._connected() as connection:
            refused = connection.send_message(mail, to_addrs=message.only_for or self.recipients)
        if refused:
            raise _partly_taken(self.server.host, {who: code for who, (code, _) in refused.items()})
        return f"{self.server.host} took it"

    def written(self, message: Message) -> EmailMessage:
        """Write the mail (RFC 5322), the same each time for the same message."""
        notice = message.notice
        mail = EmailMessage()
        mail["From"] = Address("dcmvault", addr_spec=self.sender)
        mail["To"] = ", ".join(self.recipients)
        mail["Subject"] = " ".join(message.subject.split())
        mail["Date"] = format_datetime(notice.at)
        domain = self.sender.rpartition("@")[2]
        # Who gets it twice has it once: mail programs know a message by its name.
        mail["Message-ID"] = f"<{_identifier(notice.notice_id)}.dcmvault@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        if notice.severity is Severity.CRITICAL:
            mail["Importance"] = "high"
        mail.set_content(message.text)
        if message.html:
            mail.add_alternative(message.html, subtype="html")
        for attachment in message.attachments:
            main, _slash, sub = attachment.media_type.partition("/")
            mail.add_attachment(
                attachment.content, maintype=main, subtype=sub, filename=attachment.name
            )
        return mail

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        server = self.server
        context = _trusting(server.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        connection: smtplib.SMTP
        if server.security == "tls":
            connection = _OverTls(server.host, server.port, timeout=_WAIT_S, context=context)
        else:
            connection = _Limited(server.host, server.port, timeout=_WAIT_S)
        with connection:
            if server.security == "starttls":
                connection.starttls(context=context)
            if server.user:
                connection.login(server.user, server.password)
            yield connection

    @contextmanager
    def _said_plainly(self) -> Iterator[None]:
        """Turn what can go wrong into a sentence for people, without the server's own words.

        A server's words may quote what it was sent.
        """
        who = f"the mail server {self.server.host}:{self.server.port}"
        try:
            yield
        except smtplib.SMTPAuthenticationError as error:
            raise NotificationRefusedError(
                f"{who} refuses the login ({error.smtp_code})",
                hint="check “user” and what “password” refers to; many services want an app"
                " password",
            ) from None
        except smtplib.SMTPNotSupportedError:
            raise NotificationRefusedError(
                f"{who} does not offer STARTTLS, or no login",
                hint="choose security = “tls”, or another port",
            ) from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = {code for code, _words in error.recipients.values()}
            _refuse_or_wait(max(codes), f"{who} takes no mail for these recipients", "check “to”")
        except smtplib.SMTPSenderRefused as error:
            _refuse_or_wait(
                error.smtp_code, f"{who} takes no mail of this sender", "check “sender”"
            )
        except smtplib.SMTPResponseException as error:
            _refuse_or_wait(error.smtp_code, f"{who} does not take the mail", "")
        except ssl.SSLCertVerificationError as error:
            raise NotificationRefusedError(
                f"{who} shows a certificate that is not trusted: {error.verify_message}",
                hint="name the certificates that sign it in “tls_ca_file”, or mend the host name",
            ) from None
        except ssl.SSLError:
            raise NotificationRefusedError(
                f"{who} does not speak TLS as asked for",
                hint="“tls” is for ports such as 465, “starttls” for 587 and 25",
            ) from None
        except socket.gaierror:
            raise NotificationUnreachableError(
                f"the name of {who} is not known", hint="check “host”"
            ) from None
        except TimeoutError:
            raise NotificationUnreachableError(
                f"{who} does not answer", hint="check “port” and “security”: they go together"
            ) from None
        except ConnectionRefusedError:
            raise NotificationUnreachableError(
                f"nothing listens at {who}", hint="check “host” and “port”"
            ) from None
        except (OSError, smtplib.SMTPException):
            raise NotificationUnreachableError(
                f"{who} ended the conversation, or said nothing",
                hint="check “port” and “security”: they go together",
            ) from None


def _trusting(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(
            cafile=str(Path(ca_file).expanduser()) if ca_file else None
        )
    except OSError as error:  # also what is no certificate
        raise NotificationRefusedError(
            "the file of trusted certificates (tls_ca_file) cannot be used", hint=ca_file
        ) from error


def _identifier(notice_id: str) -> str:
    """Return a name that a header can bear (RFC 5322 3.6.4): plans are named in any letters."""
    written = quote(notice_id.replace(":", "."), safe="")
    if len(written) <= _LONGEST_IDENTIFIER:
        return written
    return hashlib.sha256(notice_id.encode("utf-8", "surrogatepass")).hexdigest()


def _hang_up(connection: smtplib.SMTP) -> None:
    with suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)


def _partly_taken(host: str, refused: Mapping[str, int]) -> NotificationPartlyTakenError:
    """Name who was refused, while others got it: nobody else gets it once more."""
    named = ", ".join(f"{who} ({code})" for who, code in sorted(refused.items()))
    return NotificationPartlyTakenError(
        f"{host} took the mail, but not for {named}",
        hint="check “to”",
        left=tuple(who for who, code in refused.items() if code not in _PERMANENT),
    )


def _refuse_or_wait(code: int, what: str, hint: str) -> None:
    kind = NotificationRefusedError if code in _PERMANENT else NotificationUnreachableError
    raise kind(f"{what} ({code})", hint=hint) from None
