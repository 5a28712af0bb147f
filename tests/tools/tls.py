"""Tools for tests of TLS: new certificates, and clients whose records are made and read step by step."""

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
    """Makes a certificate with all extensions that RFC 5280 and Python 3.13 require.

    Args:
        directory: for its files.
        label: the names of its files, and its common name.
        hosts: its host names; it may have none.
        issuer: the certificate that signs it. Without one it is self-signed, and may sign others.
        password: encrypts its key.
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
    """Returns the context of a client that speaks one version, and tells the end of a connection from a truncation.

    Args:
        version: the only one.
        trusted: must be, or must have signed, the server's certificate. None accepts any.
        own: the client's certificate.
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
    """A client of a `Net`, over TLS. After each of its steps the server makes its turns.

    Attributes:
        raw: the client that sends and receives the encrypted bytes.
        received: what arrived, decrypted.
        end: "" while more may arrive; "close_notify" or "truncated" at the end.
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
        """`name` is for SNI. `send_buffer`: bytes of the server that the kernel buffers; 0 for the default."""
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
        """Returns the first bytes of a handshake, which are not sent yet."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self._outgoing.read()

    def handshake(self) -> TLSClient:
        """Completes the handshake. Raises ssl.SSLError if the server rejects it."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
        self.flush()
        return self

    def write(self, data: bytes) -> None:
        """Sends `data` in as few records as possible."""
        self.tls.write(data)
        self.flush()

    def flush(self) -> None:
        """Sends what is encrypted, and receives what the server sends then."""
        self.send_raw(self._outgoing.read())
        self.net.settle()
        self.feed()

    def send_raw(self, wire: bytes) -> None:
        while wire:
            wire = wire[self.raw.send(wire) :]
            self.net.settle()

    def encrypt(self, data: bytes) -> bytes:
        """Returns records with `data`, which are not sent yet."""
        self.tls.write(data)
        return self._outgoing.read()

    def feed(self, most: int = 1 << 62) -> None:
        """Receives at most `most` encrypted bytes that have arrived."""
        data = self.raw.read(most)
        if data:
            self._incoming.write(data)
        if self.raw.ended:
            self._incoming.write_eof()

    def read(self) -> bytes:
        """Decrypts everything that has arrived, and adds it to `received`."""
        data = b""
        while not self.end:
            self.net.settle()
            self.feed()
            try:
                piece = self.tls.read(65536)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:  # close_notify, after this side has sent its own
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
        """Sends `requests` in as few records as possible, and returns all their responses."""
        self.write(b"".join(requests))
        self.read()
        received, self.received = self.received, b""
        return read_answers(received, [request.split(b" ", 1)[0].decode() for request in requests])

    def finish(self) -> None:
        """Sends close_notify."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()


class Veiled(Client):
    """A client after its handshake: it encrypts and decrypts, and otherwise behaves like one without TLS, which never
    blocks.

    Attributes:
        truncated: the connection ended without close_notify.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, settle: Callable[[], object]) -> None:
        """Makes the handshake. `settle` makes turns of the server, which must do its part of it meanwhile."""
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
        """Sends `data`, and returns how many bytes of it the kernel took, in whole records. The next call must begin
        with the rest."""
        sent = 0
        while self._flush():
            sent += self._meant
            piece = data[sent : sent + 16384]
            self._meant = len(piece)
            if not piece:
                break
            try:
                self._tls.write(piece)
            except ssl.SSLError:  # the server has sent close_notify
                return len(data)
        return sent

    def read(self, most: int = 1 << 62) -> bytes:
        """Returns what has arrived, decrypted, of at most `most` encrypted bytes."""
        self._flush()
        self._feed(most)
        data = b"".join(iter(self._decrypt, b""))
        self.received += data
        return data

    def finish(self) -> None:
        """Sends close_notify, and leaves TCP open."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    def reset(self) -> None:
        """Disappears, after a record that cannot be decrypted."""
        self._wire.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        super().reset()

    def _flush(self) -> bool:
        """Sends what is encrypted, and returns whether nothing is left."""
        self._encrypted += self._outgoing.read()
        self._encrypted = self._encrypted[self._wire.send(self._encrypted) :]
        return not self._encrypted

    def _feed(self, most: int = 1 << 62) -> None:
        if data := self._wire.read(most):
            self._incoming.write(data)
        if self._wire.ended:
            self._incoming.write_eof()

    def _decrypt(self) -> bytes:
        """Returns the content of a record; b"" if there is none."""
        data = b""
        with suppress(ssl.SSLWantReadError):
            try:
                data = self._tls.read(65536)
                self.ended = self.ended or not data
            except ssl.SSLZeroReturnError:  # close_notify, after this side has sent its own
                self.ended = True
            except ssl.SSLEOFError:
                self.ended = self.truncated = True
        return data
