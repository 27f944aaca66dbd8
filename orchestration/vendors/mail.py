"""E-mail by SMTP, with the standard library."""

from __future__ import annotations

import smtplib
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.errors import MessageError
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import formatdate, make_msgid
from typing import Literal

from orchestration.core.redaction import redact
from orchestration.vendors.http import VendorError, describe_error, excerpt

TIMEOUT, WHOLE_MAIL = 5.0, 12.0
"""Seconds for the connection, and for everything. Short: the sensor that waits for it has a minute for all that it does."""
LONGEST_SUBJECT = 200


class _Session(smtplib.SMTP):
    """A conversation that ends in time, however slow each answer is."""

    until: float | None = None

    def getreply(self) -> tuple[int, bytes]:
        self.until = self.until or time.monotonic() + WHOLE_MAIL
        if self.sock:
            self.sock.settimeout(max(0.01, self.until - time.monotonic()))
        return super().getreply()


class _TlsSession(_Session, smtplib.SMTP_SSL):
    """The same over TLS from the start."""


Security = Literal["starttls", "ssl", "none"]


@dataclass(frozen=True)
class MailServer:
    """Where mail is handed in. `security` is `starttls` (usually port 587), `ssl` (465) or `none` (25, a relay of one's own)."""

    host: str
    port: int
    security: Security = "starttls"
    user: str | None = None
    password: str | None = None

    def send(
        self, sender: str, receivers: Sequence[str], subject: str, text: str, *, thread: str | None = None
    ) -> None:
        """Hand in one mail of plain text. Mails with the same `thread` are shown as one conversation.

        Returns when the server has taken it for at least one receiver. Raises VendorError with what to do about it.
        """
        try:
            message = _message(sender, receivers, subject, text, thread)
        except (ValueError, MessageError) as error:
            raise VendorError(
                f"{self._what}: the mail cannot be written: {describe_error(error)}. {ADDRESSES}", started=False
            ) from error
        try:
            with self._connected() as server:
                if self.user is not None:
                    server.login(self.user, self.password or "")
                server.send_message(message, from_addr=sender, to_addrs=list(receivers))
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise self._explained(error) from error

    def greet(self) -> None:
        """Go as far as a mail does before its sender is named: connection, TLS and login. Raises VendorError as `send` does."""
        try:
            with self._connected() as server:
                server.ehlo_or_helo_if_needed()
                if self.user is not None:
                    server.login(self.user, self.password or "")
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise self._explained(error) from error

    def _connected(self) -> smtplib.SMTP:
        if self.security == "ssl":
            return _TlsSession(self.host, self.port, timeout=TIMEOUT, context=ssl.create_default_context())
        server = _Session(self.host, self.port, timeout=TIMEOUT)
        if self.security == "starttls":
            try:
                server.starttls(context=ssl.create_default_context())
            except BaseException:
                server.close()
                raise
        return server

    @property
    def _what(self) -> str:
        return f"SMTP server {self.host}:{self.port}"

    def _explained(self, error: OSError | smtplib.SMTPException | ValueError) -> VendorError:
        words, remedy = _remedy(error)
        return VendorError(f"{self._what} took no mail: {redact(words)}. {remedy}")


ADDRESSES = "See ALERT_MAIL_FROM and ALERT_MAIL_TO"
REACH = "See SMTP_HOST and SMTP_PORT, and whether this machine may connect there"
SECURITY = "See SMTP_SECURITY: starttls for port 587, ssl for 465, none for 25"
LOGIN = "See SMTP_USER and SMTP_PASSWORD"


def _remedy(error: Exception) -> tuple[str, str]:
    """What happened, in the server's words where it has any, and what to look at."""
    match error:
        case smtplib.SMTPRecipientsRefused():
            answers = {_said(code, words) for code, words in error.recipients.values()}
            words, remedy = f"it refused every receiver ({'; '.join(sorted(answers))})", ADDRESSES
        case smtplib.SMTPSenderRefused():
            words, remedy = (
                f"it refused the sender ({_said(error.smtp_code, error.smtp_error)})",
                f"{ADDRESSES}. {LOGIN}",
            )
        case smtplib.SMTPAuthenticationError():
            words, remedy = f"it refused the login ({_said(error.smtp_code, error.smtp_error)})", LOGIN
        case smtplib.SMTPResponseException():
            words, remedy = f"it answered {_said(error.smtp_code, error.smtp_error)}", "Ask who runs the server"
        case smtplib.SMTPNotSupportedError():
            words, remedy = str(error).rstrip("."), SECURITY if "STARTTLS" in str(error) else f"{LOGIN}. {SECURITY}"
        case ssl.SSLCertVerificationError():
            words, remedy = (
                f"its certificate is not valid here ({error.verify_message})",
                "See SMTP_HOST: it has to be the name in it",
            )
        case ssl.SSLError():
            words, remedy = f"no TLS ({error.reason or error})", SECURITY
        case smtplib.SMTPServerDisconnected() if not isinstance(error.__context__, TimeoutError):
            words, remedy = f"it hung up ({error})", f"{SECURITY}. {REACH}"
        case TimeoutError() | smtplib.SMTPServerDisconnected():
            words, remedy = "no answer in time", f"{REACH}. {SECURITY}"
        case _:
            words, remedy = str(error) or type(error).__name__, REACH
    return words, remedy


def _said(code: int, words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return f"{code} {excerpt(text)}"


def _message(sender: str, receivers: Sequence[str], subject: str, text: str, thread: str | None) -> EmailMessage:
    message = EmailMessage(policy=SMTP_POLICY)
    domain = sender.rpartition("@")[2].strip("> ") or None
    message["From"], message["To"] = sender, ", ".join(receivers)
    message["Subject"] = " ".join(subject.split())[:LONGEST_SUBJECT]
    message["Date"], message["Message-ID"] = formatdate(localtime=False), make_msgid(domain=domain)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday notice answers it
    if thread:
        message["References"] = f"<{thread}@{domain or 'localhost'}>"
    message.set_content(text)
    return message
