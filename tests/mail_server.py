"""A mail server on a real socket: as much of SMTP (RFC 5321, 3207, 4954) as a client that hands in mail needs, and what goes wrong with one."""

from __future__ import annotations

import base64
import contextlib
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any, Literal

HANGS_UP = "hangs up"


@dataclass
class Mailbox:
    """`answers` are those that differ from a friendly server's, by command: a line, or HANGS_UP. `delay` is before each answer."""

    security: Literal["starttls", "ssl", "none"] = "none"
    login: tuple[str, str] | None = None
    answers: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    tls: ssl.SSLContext | None = None
    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    receivers: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


class _Session(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.box, self.secure, self.known = self.server.box, False, False
        with contextlib.suppress(OSError, EOFError):
            if self.box.security == "ssl":
                self._secure()
            self._say("CONNECT", "220 mail.example.com ESMTP")
            while line := self.rfile.readline().decode().strip():
                command, _, rest = line.partition(" ")
                self.box.commands.append(command.upper())
                getattr(self, f"do_{command.lower()}", self.do_unknown)(rest)

    def _say(self, command: str, usual: str) -> bool:
        time.sleep(self.box.delay)
        said = self.box.answers.get(command, usual)
        if said == HANGS_UP:
            raise EOFError
        self.wfile.write(said.encode() + b"\r\n")
        return said == usual

    def _secure(self) -> None:
        assert self.box.tls
        self.connection = self.box.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile, self.secure = self.connection.makefile("rb"), self.connection.makefile("wb", 0), True

    def do_ehlo(self, _rest: str) -> None:
        can = ["mail.example.com", "8BITMIME", "SMTPUTF8"]
        if self.box.security == "starttls" and not self.secure:
            can.append("STARTTLS")
        if self.box.login and (self.secure or self.box.security == "none"):
            can.append("AUTH PLAIN")
        self._say("EHLO", "\r\n".join([*(f"250-{one}" for one in can[:-1]), f"250 {can[-1]}"]))

    def do_starttls(self, _rest: str) -> None:
        if self._say("STARTTLS", "220 go on"):
            self._secure()

    def do_auth(self, rest: str) -> None:
        _, user, password = base64.b64decode(rest.rpartition(" ")[2]).decode().split("\0")
        self.known = (user, password) == self.box.login
        self._say("AUTH", "235 welcome" if self.known else "535 5.7.8 Username and password not accepted")

    def do_mail(self, _rest: str) -> None:
        self._say("MAIL", "250 ok" if self.known or not self.box.login else "530 5.7.0 Authentication required")

    def do_rcpt(self, rest: str) -> None:
        if self._say("RCPT", "250 ok"):
            self.box.receivers.append(rest.partition("<")[2].partition(">")[0])

    def do_data(self, _rest: str) -> None:
        if not self._say("DATA", "354 go on"):
            return
        lines: list[bytes] = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                raise EOFError
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        if self._say("END", "250 queued"):
            self.box.mails.append(BytesParser(policy=default).parsebytes(b"".join(lines)))
            self.box.encrypted.append(self.secure)

    def do_rset(self, _rest: str) -> None:
        self._say("RSET", "250 ok")

    def do_quit(self, _rest: str) -> None:
        self._say("QUIT", "221 bye")
        raise EOFError

    def do_unknown(self, _rest: str) -> None:
        self._say("UNKNOWN", "502 5.5.1 no such command")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, box: Mailbox) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.box = box

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is none of the server's errors."""


@contextlib.contextmanager
def mail_server(box: Mailbox) -> Iterator[Mailbox]:
    """Serve the mailbox on a free port until the end of the block."""
    with _Server(box) as server:
        box.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield box
        finally:
            server.shutdown()


def certificate(folder: Path, name: str = "localhost") -> tuple[ssl.SSLContext, Path]:
    """A server's TLS with a certificate of its own making for `name`, and the file of those who shall trust it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "certificate.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """The port of a server that takes a connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
