"""Tools for tests of TLS: certificates made for the occasion, and clients that do their part by hand."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kaserve.net.connection import Connection
from kaserve.net.tls import TLS
from tests.tools.net import HERE, PEER, Client, Net, tcp_pair
from tests.tools.server import program
from tests.tools.wire import Answer, read_answers


class Certificate(NamedTuple):
    """The files of a certificate and its key, in PEM."""

    cert: str
    key: str


def make_certificate(
    directory: Path, label: str, *hosts: str, issuer: Certificate | None = None, password: str = ""
) -> Certificate:
    """A certificate for `hosts`, for no name at all if there are none, that `issuer` has signed; or else its own key,
    and then it may itself sign others. It has all that RFC 5280 asks for, as Python 3.13 does.

    password: what its key is encrypted with.
    """
    cert, key = directory / f"{label}.pem", directory / f"{label}.key"
    settings = directory / "settings"
    settings.write_text("[req]\ndistinguished_name=names\n[names]\n")
    command = [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-subj", f"/CN={label}", "-days", "2", "-config", str(settings)]
    command += ["-out", str(cert), "-keyout", str(key)]
    signs = "TRUE" if issuer is None else "FALSE"
    usage = "digitalSignature,keyCertSign" if issuer is None else "digitalSignature"
    for extension in (
        f"basicConstraints=critical,CA:{signs}",
        f"keyUsage=critical,{usage}",
        "subjectKeyIdentifier=hash",
        "authorityKeyIdentifier=keyid:always",
    ):
        command += ["-addext", extension]
    command += ["-passout", f"pass:{password}"] if password else ["-nodes"]
    if hosts:
        command += ["-addext", "subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts)]
    if issuer is not None:
        command += ["-CA", issuer.cert, "-CAkey", issuer.key]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return Certificate(str(cert), str(key))


def client_context(
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    *,
    trusted: Certificate | None = None,
    own: Certificate | None = None,
) -> ssl.SSLContext:
    """A client that speaks one version only, and tells the end of a connection from its being cut off.

    trusted: what the server's certificate must be, or be signed with; otherwise any will do. own: the client's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols(["h2", "http/1.1"])
    if trusted is not None:
        context.load_verify_locations(trusted.cert)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if own is not None:
        context.load_cert_chain(*own)
    return context


class TLSClient:
    """A client of a `Net`, over TLS; each step it takes is followed by the server's turns.

    raw: what encrypted bytes go through. received: what came, decrypted. end: "" as long as more may come;
    "close_notify" when the server said so; "truncated" when it did not.
    """

    def __init__(
        self,
        net: Net,
        tls: TLS,
        context: ssl.SSLContext | None = None,
        *,
        name: str | None = None,
        session: ssl.SSLSession | None = None,
        tcp: bool = False,
        send_buffer: int = 0,
    ) -> None:
        """name: for SNI. send_buffer: how much the kernel takes from the server."""
        theirs, ours = tcp_pair() if tcp else socket.socketpair()
        if send_buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        ours.setblocking(False)
        self.net = net
        self.raw = Client(theirs)
        net._clients.append(self.raw)
        self.connection = Connection(net.service, tls.wrap(ours), PEER, HERE)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or client_context()).wrap_bio(
            self._incoming, self._outgoing, server_hostname=name, session=session
        )
        self.received = b""
        self.end = ""

    def hello(self) -> bytes:
        """The first bytes of a handshake, not sent yet."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self._outgoing.read()

    def handshake(self) -> TLSClient:
        """Raises ssl.SSLError when the server does not agree."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
        self.flush()
        return self

    def write(self, data: bytes) -> None:
        """In as few records as possible."""
        self.tls.write(data)
        self.flush()

    def flush(self) -> None:
        """Sends what is encrypted; takes what the server had to say to it."""
        self.send_raw(self._outgoing.read())
        self.net.settle()
        self.feed()

    def send_raw(self, wire: bytes) -> None:
        while wire:
            wire = wire[self.raw.send(wire) :]
            self.net.settle()

    def encrypt(self, data: bytes) -> bytes:
        """Records with `data`, not sent yet."""
        self.tls.write(data)
        return self._outgoing.read()

    def feed(self, most: int = 1 << 62) -> None:
        """Takes what has come, at most `most` bytes of it."""
        data = self.raw.read(most)
        if data:
            self._incoming.write(data)
        if self.raw.ended:
            self._incoming.write_eof()

    def read(self) -> bytes:
        """Decrypts all that has come, and adds it to `received`."""
        data = b""
        while not self.end:
            self.net.settle()
            self.feed()
            try:
                piece = self.tls.read(65536)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:  # having said so itself, it would not be told otherwise
                piece = b""
            except ssl.SSLEOFError:
                self.end = "truncated"
                break
            if not piece:
                self.end = "close_notify"
            data += piece
        self.received += data
        return data

    def ask(self, *requests: bytes) -> list[Answer]:
        """Sends `requests` in as few records as possible; what has come by then, which are all their answers."""
        self.write(b"".join(requests))
        self.read()
        received, self.received = self.received, b""
        return read_answers(received, [request.split(b" ", 1)[0].decode() for request in requests])

    def finish(self) -> None:
        """Says close_notify."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()


class Veiled(Client):
    """A client after its handshake: it encrypts and decrypts, and otherwise it is as one without TLS, which waits for
    nobody. truncated: it came to an end that nobody told."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, settle: Callable[[], object]) -> None:
        """settle: gives the server its turns, which has to do its part of the handshake in here."""
        super().__init__(sock)
        self.truncated = False
        self._wire = Client(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._encrypted = b""  # and not sent yet,
        self._meant = 0  # and how many of the bytes that `send` was given are in there
        done = False
        while not done:
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            self._flush()
            settle()
            self._feed()

    def send(self, data: bytes) -> int:
        """How much of `data` the kernel took, by records. What is given next must begin with the rest."""
        sent = 0
        while self._flush():
            sent += self._meant
            piece = data[sent : sent + 16384]
            self._meant = len(piece)
            if not piece:
                break
            try:
                self._tls.write(piece)
            except ssl.SSLError:  # the server has said that this is the end
                return len(data)
        return sent

    def read(self, most: int = 1 << 62) -> bytes:
        """What has come, decrypted, of at most `most` bytes."""
        self._flush()
        self._feed(most)
        data = b"".join(iter(self._decrypt, b""))
        self.received += data
        return data

    def finish(self) -> None:
        """Says close_notify, and nothing to TCP."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    def reset(self) -> None:
        """Vanishes, with last words that nobody can decrypt."""
        self._wire.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        super().reset()

    def _flush(self) -> bool:
        """Whether nothing is left to send."""
        self._encrypted += self._outgoing.read()
        self._encrypted = self._encrypted[self._wire.send(self._encrypted) :]
        return not self._encrypted

    def _feed(self, most: int = 1 << 62) -> None:
        if data := self._wire.read(most):
            self._incoming.write(data)
        if self._wire.ended:
            self._incoming.write_eof()

    def _decrypt(self) -> bytes:
        """The content of a record; nothing when none is there."""
        data = b""
        with suppress(ssl.SSLWantReadError):
            try:
                data = self._tls.read(65536)
                self.ended = self.ended or not data
            except ssl.SSLZeroReturnError:  # having said so itself, it is told in another way
                self.ended = True
            except ssl.SSLEOFError:
                self.ended = self.truncated = True
        return data
