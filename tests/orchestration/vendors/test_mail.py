from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestration.vendors.http import VendorError
from orchestration.vendors.mail import MailServer
from tests.mail_server import HANGS_UP, Mailbox, certificate, mail_server, silent
from tests.orchestration.wire import refused_port

FROM, TO = "dagster@example.com", ("ada@example.com", "bob@example.com")


def send(server: MailServer, subject: str = "It failed", text: str = "Look.\n.\nAt it: ü\n") -> None:
    server.send(FROM, TO, subject, text, thread="dbt-x")


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    context, public = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    return context


def test_a_mail_arrives_as_it_was_written() -> None:
    with mail_server(Mailbox()) as box:
        send(MailServer("127.0.0.1", box.port, "none"), subject="It failed\r\nBcc: eve@example.com")
    [mail] = box.mails
    assert box.receivers == list(TO)
    assert (mail["From"], mail["To"], mail["Bcc"]) == (FROM, "ada@example.com, bob@example.com", None)
    assert mail["Subject"] == "It failed Bcc: eve@example.com"
    assert mail.get_content().replace("\r\n", "\n") == "Look.\n.\nAt it: ü\n"
    assert (mail["References"], mail["Auto-Submitted"]) == ("<dbt-x@example.com>", "auto-generated")
    assert mail["Date"]
    assert mail["Message-ID"]


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_login_and_mail_go_encrypted(security, trusted) -> None:
    with mail_server(Mailbox(security, ("ada", "pw"), tls=trusted)) as box:
        send(MailServer("localhost", box.port, security, "ada", "pw"))
    assert (len(box.mails), box.encrypted) == (1, [True])


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_a_greeting_goes_as_far_as_the_login_and_hands_nothing_in(security, trusted) -> None:
    with mail_server(Mailbox(security, ("ada", "pw"), tls=trusted)) as box:
        MailServer("localhost", box.port, security, "ada", "pw").greet()
        with pytest.raises(VendorError, match=r"refused the login .* See SMTP_USER and SMTP_PASSWORD"):
            MailServer("localhost", box.port, security, "ada", "no").greet()
    assert box.commands.count("AUTH") == 2
    assert "MAIL" not in box.commands


def test_a_certificate_that_nobody_vouches_for_gets_no_password(tmp_path: Path) -> None:
    context, _public = certificate(tmp_path)
    with (
        mail_server(Mailbox("starttls", ("ada", "pw"), tls=context)) as box,
        pytest.raises(VendorError, match=r"certificate is not valid here .* SMTP_HOST"),
    ):
        send(MailServer("localhost", box.port, "starttls", "ada", "pw"))
    assert "AUTH" not in box.commands


def test_a_certificate_of_another_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, public = certificate(tmp_path, "mail.example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    with mail_server(Mailbox("ssl", tls=context)) as box, pytest.raises(VendorError, match="SMTP_HOST"):
        send(MailServer("localhost", box.port, "ssl"))


def test_a_server_without_starttls_gets_no_mail_in_the_clear() -> None:
    with (
        mail_server(Mailbox(login=("ada", "pw"))) as box,
        pytest.raises(VendorError, match=r"STARTTLS .* SMTP_SECURITY"),
    ):
        send(MailServer("127.0.0.1", box.port, "starttls", "ada", "pw"))
    assert (box.mails, "AUTH" in box.commands) == ([], False)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"AUTH": "535 5.7.8 no"}, r"refused the login \(535 5.7.8 no\). See SMTP_USER and SMTP_PASSWORD"),
        ({"MAIL": "550 who?"}, r"refused the sender \(550 who\?\). See ALERT_MAIL_FROM"),
        ({"RCPT": "550 no such mailbox"}, r"refused every receiver \(550 no such mailbox\). See ALERT_MAIL_FROM and ALERT_MAIL_TO"),
        ({"DATA": "554 no"}, "it answered 554 no. Ask who runs the server"),
        ({"END": "552 too large"}, "it answered 552 too large"),
        ({"CONNECT": "421 too busy"}, "it answered 421 too busy"),
        ({"EHLO": HANGS_UP}, "it hung up"),
        ({"END": HANGS_UP}, "it hung up"),
    ],
)  # fmt: skip
def test_what_the_server_refuses_is_said_with_what_to_do(answers: dict[str, str], words: str) -> None:
    box = Mailbox(login=("ada", "pw"), answers=answers)
    with mail_server(box), pytest.raises(VendorError, match=words) as caught:
        send(MailServer("127.0.0.1", box.port, "none", "ada", "pw"))
    assert str(caught.value).startswith(f"SMTP server 127.0.0.1:{box.port} took no mail: ")
    assert "pw" not in str(caught.value).replace("password", "")


def test_a_mail_that_some_receivers_get_is_delivered() -> None:
    class OneRefused(dict[str, str]):
        def get(self, key: str, default: str | None = None) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            return self.pop(key) if key in self else default

    with mail_server(Mailbox(answers=OneRefused(RCPT="550 left the company"))) as box:
        send(MailServer("127.0.0.1", box.port, "none"))
    assert (box.receivers, len(box.mails)) == (["bob@example.com"], 1)


def test_nobody_listens_or_answers_or_only_slowly() -> None:
    with pytest.raises(VendorError, match=r"Connection refused\. See SMTP_HOST"):
        send(MailServer("127.0.0.1", refused_port(), "none"))
    with pytest.raises(VendorError, match="See SMTP_HOST and SMTP_PORT"):
        send(MailServer("no-such-host.invalid", 25, "none"))
    began = time.monotonic()
    with silent() as port, pytest.raises(VendorError, match=r"no answer in time\. See SMTP_HOST"):
        send(MailServer("127.0.0.1", port, "ssl"))
    with (
        mail_server(Mailbox(delay=2.5)) as box,
        pytest.raises(VendorError, match="no answer in time"),
    ):
        send(MailServer("127.0.0.1", box.port, "none"))
    assert time.monotonic() - began < 22


def test_an_address_that_is_none_is_said() -> None:
    with mail_server(Mailbox()) as box, pytest.raises(VendorError, match="ALERT_MAIL_FROM"):
        MailServer("127.0.0.1", box.port, "none").send("dagster\n@example.com", TO, "s", "t")
