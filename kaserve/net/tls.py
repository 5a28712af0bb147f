"""TLS: a server's certificates, and sockets that encrypt, with the manners of plain ones that do not block.

Knows the standard library's `ssl`, and nothing of connections: to them the methods of a TLSSocket are those of a
socket, which raise BlockingIOError when they would have to wait, and another OSError when the peer is gone or speaks
something else. The poller is as ignorant: nothing that was decrypted is left behind in here, for it would not tell of
it.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Sequence

from .certificate import host_names
from .sockets import PlainSocket, adopt

__all__ = ["TLS", "NotTLSError", "TLSSocket"]

_RECORD = 16 * 1024  # bytes of content in a record at most (RFC 8446 §5.1)
_MAX_PER_TURN = 512 * 1024  # bytes encrypted in one go, so that a fast reader does not stop the others
_READ_SIZE = 4 * _RECORD  # of a file


class NotTLSError(OSError):
    """The client began with a letter, which no TLS record does, but every HTTP request."""


class TLS:
    """What all connections of a server share: its certificates, of which each client gets the one for the name that it
    asks for (SNI, RFC 6066 §3); and whose certificates clients must have, if any."""

    def __init__(
        self,
        certificates: Sequence[tuple[str, str | None]],
        *,
        password_file: str | None = None,
        ca: str | None = None,
    ) -> None:
        """certificates: files in PEM, each with its chain, and the file of its key unless that is the same. The first
        is for clients that ask for none, or for another name. password_file: holds the password of the keys.
        ca: a file in PEM; only clients whose certificates its authorities have signed get in.

        Raises OSError, whose text names what cannot be read or used.
        """
        self._certificates = certificates
        self._password_file = password_file
        self._ca = ca
        self._context = self._load()

    def wrap(self, sock: socket.socket) -> TLSSocket:
        """Takes over `sock`, which is connected and does not block. Raises OSError when it is gone already."""
        return TLSSocket(sock, self._context)

    def reload(self) -> None:
        """Reads all files again, for the connections to come. Raises OSError, and changes nothing, when one of them
        cannot be used."""
        self._context = self._load()

    def _load(self) -> ssl.SSLContext:
        """The context of the first certificate, which knows the others."""
        password = _read_password(self._password_file)
        contexts: list[ssl.SSLContext] = []
        by_name: dict[str, ssl.SSLContext] = {}
        for certificate, key in self._certificates:
            context, names = _new_context(certificate, key, password, self._ca)
            if contexts and not names:
                raise OSError(
                    f"the certificate {certificate} is for no name (subjectAltName), so nobody could ask for it"
                )
            contexts.append(context)
            by_name = dict.fromkeys(names, context) | by_name  # the first of a name is the one
        if len(contexts) > 1:
            contexts[0].sni_callback = _chooser(by_name)
        return contexts[0]


def _read_password(path: str | None) -> str:
    """The password of the keys. Where there is none it is an empty one: OpenSSL would ask for it, which would block."""
    if path is None:
        return ""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().removesuffix("\n")
    except OSError as error:
        raise OSError(error.errno, f"cannot read the password in {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise OSError(f"cannot read the password in {path}: it is not text in UTF-8") from None


def _new_context(certificate: str, key: str | None, password: str, ca: str | None) -> tuple[ssl.SSLContext, list[str]]:
    """With one certificate; and the names that it is for. What is not the certificate's is the same in all of them,
    since a handshake that changes its context takes some from the first, and some from the second."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A client that only says FIN still wants its answers. No request ends with the connection, so none is cut off.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.set_alpn_protocols(["http/1.1"])  # RFC 7301 §6
    what = f"the certificate {certificate}"
    try:
        with open(certificate, encoding="ascii", errors="replace") as file:
            pem = file.read()
        if key is not None:
            what = f"the key {key} of the certificate {certificate}"
        context.load_cert_chain(certificate, key, password)
        names = host_names(pem)
        if ca is not None:
            what = f"the certificates in {ca}"
            context.load_verify_locations(ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise OSError(getattr(error, "errno", None), f"cannot use {what}: {_reason(error)}") from None
    return context, names


def _reason(error: Exception) -> str:
    """In words; OpenSSL's own are constants and places in its source."""
    if isinstance(error, ssl.SSLError):
        if error.reason is None or error.reason == "BAD_DECRYPT":  # that is all it says of a key it cannot decrypt
            return "it is not in PEM, or its password is wrong"
        return error.reason.lower().replace("_", " ")
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _chooser(
    contexts: dict[str, ssl.SSLContext],
) -> Callable[[ssl.SSLSocket | ssl.SSLObject, str, ssl.SSLContext], None]:
    """Puts a handshake on with the certificate of the name that the client asks for, which is None for no name."""

    def choose(sock: ssl.SSLSocket | ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        name = (name or "").lower()
        context = contexts.get(name) or contexts.get("*." + name.partition(".")[2])  # RFC 9525 §6.3
        if context is not None:
            sock.context = context

    return choose


class TLSSocket:
    """The server's end of a TLS connection. `handshake` comes first.

    must_write: what the handshake waits for is not the client's word but room for ours.
    """

    __slots__ = ("_began", "_sock", "_talks", "must_write")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._began = False  # the client's first byte was the beginning of a handshake
        self._talks = False  # close_notify can be said, and has not been
        self.must_write = False

    def handshake(self) -> None:
        """Goes on with the handshake. Raises BlockingIOError until it is done, NotTLSError when the client wants none,
        another OSError when there can be none."""
        if not self._began:
            if socket.socket.recv(self._sock, 1, socket.MSG_PEEK).isalpha():
                raise NotTLSError("the client speaks plain HTTP")
            self._began = True
        try:
            self._sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            self.must_write = isinstance(error, ssl.SSLWantWriteError)
            raise BlockingIOError from None
        self.must_write = False
        self._talks = True

    def plain(self) -> PlainSocket:
        """The socket beneath, after NotTLSError: it takes the place of this one, with the same descriptor."""
        sock = socket.socket(fileno=self._sock.detach())
        sock.setblocking(False)
        return adopt(sock)

    def recv(self, size: int) -> bytes:
        """All that a record holds: 16 KiB at most, even if `size` is less."""
        try:
            return self._sock.recv(max(size, _RECORD))
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            # That it would have to write is one, too: the client asked for new keys (RFC 8446 §4.6.3), and takes
            # nothing of what we send. To wait until we can read would be to spin, if there is more to read.
            raise self._failure(error) from None

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """How much of `data` was taken, and then not be sent again; what was not has to be sent next, perhaps with more
        behind it. flags: for plain sockets; a record is sent at once anyhow."""
        size = min(len(data), _MAX_PER_TURN)
        view = memoryview(data)
        sent = 0
        try:
            while sent < size:  # by records: OpenSSL would tell of nothing before it got rid of all
                sent += self._sock.send(view[sent : sent + _RECORD])
        except ssl.SSLWantWriteError:
            if not sent:
                raise BlockingIOError from None
        except ssl.SSLError as error:  # or it would have to read: half a message about keys came instead of a request
            raise self._failure(error) from None
        return sent

    def sendfile(self, fd: int, offset: int, count: int) -> int:
        """As os.sendfile(), with the contents passing through this process, a few records at a time."""
        sent = 0
        while sent < min(count, _MAX_PER_TURN):
            data = os.pread(fd, min(count - sent, _READ_SIZE), offset + sent)
            try:
                taken = self.send(data) if data else 0
            except BlockingIOError:
                if not sent:
                    raise
                break
            sent += taken
            if taken < _READ_SIZE:
                break
        return sent

    def shutdown(self, how: int) -> None:
        """Says close_notify (RFC 8446 §6.1), so that the client knows the end for the end, and then as a plain socket.
        Raises BlockingIOError as long as there is no room for it."""
        if self._talks:
            try:
                self._sock.unwrap()
            except ssl.SSLWantWriteError:
                raise BlockingIOError from None
            except ssl.SSLWantReadError:  # it waits for the client's close_notify, which `recv` knows from requests
                self._talks = False
                socket.socket.shutdown(self._sock, how)
                return
            except (OSError, ValueError):  # something else has come in its place, or the client is gone
                pass
            self._talks = False
        self._sock.shutdown(how)  # what is read afterwards is not decrypted any more

    def fileno(self) -> int:
        return self._sock.fileno()

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        if option == socket.SO_LINGER:  # to reset the connection: close_notify would call what was cut off complete
            self._talks = False
        self._sock.setsockopt(level, option, value)

    def close(self) -> None:
        """As a plain socket says FIN, this one says close_notify, if it can."""
        if self._talks:
            self._talks = False
            try:
                self._sock.unwrap()
            except (OSError, ValueError):
                pass
        self._sock.close()

    def _failure(self, error: ssl.SSLError) -> ConnectionError:
        """`error`, in the words of a socket. Nothing more can be said on this one."""
        self._talks = False
        return ConnectionAbortedError(str(error))
