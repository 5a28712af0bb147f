"""TLS: a server's certificates, and sockets that encrypt and otherwise behave like plain ones that do not block.

Knows the standard library's `ssl`. Does not know connections: to them a TLSSocket has the methods of a plain socket,
which raise BlockingIOError when they would have to wait, and another OSError when the peer is gone or breaks the
protocol. The
poller knows nothing of TLS either, so no decrypted bytes may stay behind in a TLSSocket: the poller would not report
them.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial

from .certificate import host_names
from .sockets import PlainSocket, adopt

__all__ = ["TLS", "ClientTLSSocket", "MissingCloseNotifyError", "NotTLSError", "TLSSocket"]

_RECORD_SIZE = 16 * 1024  # bytes of content in a record at most (RFC 8446 §5.1)
_MAX_PER_TURN = 512 * 1024  # bytes encrypted in one call, so that a fast reader does not keep the others waiting
_READ_SIZE = 4 * _RECORD_SIZE  # bytes read from a file at once


class NotTLSError(OSError):
    """The client sent a letter first: no TLS record begins with one, but every HTTP request does."""


class MissingCloseNotifyError(ConnectionResetError):
    """The server has ended its side without close_notify, so somebody else may have ended it."""


class TLS:
    """The TLS settings of a server: its certificates, and which client certificates it requires, if any.

    Each client gets the certificate for the name that it asks for (SNI, RFC 6066 §3).
    """

    def __init__(
        self,
        certificates: Sequence[tuple[str, str | None]],
        *,
        password_file: str | None = None,
        ca: str | None = None,
    ) -> None:
        """Reads all files.

        Args:
            certificates: pairs of a PEM file with a certificate and its chain, and the file of its key; None if the key
                is in the same file. Clients that ask for no name, or for an unknown one, get the first certificate.
            password_file: a file with the password of the keys.
            ca: a PEM file; clients must have a certificate that one of its authorities has signed.

        Raises:
            OSError: a file cannot be read or used. The text names it.
        """
        self._load: Callable[[], ssl.SSLContext] = partial(_load_contexts, certificates, password_file, ca)
        self._context = self._load()

    @classmethod
    def of_context(cls, context: ssl.SSLContext) -> TLS:
        """Returns the TLS settings of a context that is ready, with its certificates, ciphers and client certificates.

        Nothing of it is read again by `reload`. ALPN and renegotiation are set as this server needs them.

        Raises:
            ValueError: the context is for clients.
        """
        if context.protocol is ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError("ssl_context must be for a server, as ssl.PROTOCOL_TLS_SERVER is")
        _adapt(context)
        tls = cls.__new__(cls)
        tls._load = lambda: context
        tls._context = context
        return tls

    def wrap(self, sock: socket.socket) -> TLSSocket:
        """Returns a TLSSocket that owns the descriptor of `sock`, which is connected and does not block.

        Raises:
            OSError: the client is gone already.
        """
        return TLSSocket(sock, self._context)

    def reload(self) -> None:
        """Reads all files again. Open connections keep the certificate that they have.

        Raises:
            OSError: a file cannot be read or used. Nothing has changed then.
        """
        self._context = self._load()


def _load_contexts(
    certificates: Sequence[tuple[str, str | None]], password_file: str | None, ca: str | None
) -> ssl.SSLContext:
    """Returns the context of the first certificate, with a callback that selects the others by name."""
    password = _read_password(password_file)
    contexts: list[ssl.SSLContext] = []
    by_name: dict[str, ssl.SSLContext] = {}
    for certificate, key in certificates:
        context, names = _new_context(certificate, key, password, ca)
        if contexts and not names:
            raise OSError(
                f"the certificate {certificate} has no host name (subjectAltName), so no client could ask for it"
            )
        contexts.append(context)
        by_name = dict.fromkeys(names, context) | by_name  # of two certificates for one name the first is used
    if len(contexts) > 1:
        contexts[0].sni_callback = _new_sni_callback(by_name)
    return contexts[0]


def _read_password(path: str | None) -> str:
    """Returns the password of the keys. Without a file it is empty: given none at all, OpenSSL would ask on the
    terminal, and the server would wait for an answer."""
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
    """Returns a context with one certificate, and the host names of that certificate.

    All settings but the certificate are the same in each context: in a handshake that changes its context, OpenSSL
    takes some settings from the first context and some from the second.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _adapt(context)
    what = f"the certificate {certificate}"
    try:
        pem = _read_pem(certificate)
        if not _CERTIFICATE.search(pem):
            raise ValueError("there is no certificate in PEM in this file")
        if key is not None:
            what = f"the key {key} of the certificate {certificate}"
        _check_key(pem if key is None else _read_pem(key), bool(password), is_alone=key is not None)
        context.load_cert_chain(certificate, key, password)
        names = host_names(pem)
        if ca is not None:
            what = f"the certificates in {ca}"
            context.load_verify_locations(ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise OSError(getattr(error, "errno", None), f"cannot use {what}: {_reason(error, bool(password))}") from None
    return context, names


def _reason(error: Exception, has_password: bool) -> str:
    """Returns the reason in words. OpenSSL's own text consists of constants and places in its source.

    About a key that it cannot decrypt it says no more than about one that is damaged.
    """
    if isinstance(error, ssl.SSLError):
        if not error.reason or error.reason == "BAD_DECRYPT":
            return "the password of its private key is wrong, or it is damaged" if has_password else "it is damaged"
        return error.reason.lower().replace("_", " ")
    return (isinstance(error, OSError) and error.strerror) or str(error)


_CERTIFICATE = re.compile("-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
_KEY = re.compile("-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")
_ENCRYPTED = re.compile("-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: *4, *ENCRYPTED", re.MULTILINE)


def _read_pem(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def _check_key(pem: str, has_password: bool, *, is_alone: bool) -> None:
    """Checks what OpenSSL has no words for.

    Args:
        pem: the text of the file that must have the private key.
        has_password: whether there is a password for it.
        is_alone: whether the file was named for its key; otherwise it was named for its certificate.

    Raises:
        ValueError: there is no key in it, or an encrypted one and no password.
    """
    if not _KEY.search(pem):
        hint = "" if is_alone else "; give the file that has it with --tls-key (tls_key)"
        raise ValueError(f"there is no private key in it{hint}")
    if _ENCRYPTED.search(pem) and not has_password:
        raise ValueError(
            "its private key is encrypted; name a file with the password with --tls-password-file (tls_password_file)"
        )


def _adapt(context: ssl.SSLContext) -> None:
    """Sets what this server needs of every context."""
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A client that ends its side with a FIN alone, without close_notify, still wants its responses. The end of the
    # connection never delimits a request, so a truncated request cannot be taken for a complete one.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.set_alpn_protocols(["http/1.1"])  # RFC 7301 §6


def _new_sni_callback(
    contexts: dict[str, ssl.SSLContext],
) -> Callable[[ssl.SSLSocket | ssl.SSLObject, str, ssl.SSLContext], None]:
    """Returns an SNI callback: it selects the context for the name that the client asks for (None for no name), and
    keeps the first context if there is none for that name."""

    def select(sock: ssl.SSLSocket | ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        name = (name or "").lower()
        context = contexts.get(name) or contexts.get("*." + name.partition(".")[2])  # RFC 9525 §6.3
        if context is not None:
            sock.context = context

    return select


class TLSSocket:
    """The server's end of a TLS connection. `handshake` comes first; then it is used like a plain socket.

    Attributes:
        must_write: after BlockingIOError from `handshake`: whether it waits for room to send, rather than for bytes of
            the client.
        has_begun: whether the first byte of the client was seen, and may begin a handshake.
    """

    __slots__ = ("_may_notify", "_notice", "_sock", "has_begun", "must_write")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.has_begun = False
        self._may_notify = False  # close_notify can be sent, and was not sent yet
        self._notice = b""  # what the kernel has not accepted yet of a close_notify that `finish` has made
        self.must_write = False

    def handshake(self) -> None:
        """Continues the handshake. Returns when it is complete.

        Raises:
            BlockingIOError: it is not complete; see `must_write`.
            NotTLSError: the client speaks plain HTTP.
            OSError: the handshake has failed.
        """
        if not self.has_begun:
            if socket.socket.recv(self._sock, 1, socket.MSG_PEEK).isalpha():
                raise NotTLSError("the client speaks plain HTTP")
            self.has_begun = True
        try:
            self._sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            self.must_write = isinstance(error, ssl.SSLWantWriteError)
            raise BlockingIOError from None
        self.must_write = False
        self._may_notify = True

    def plain(self) -> PlainSocket:
        """Returns the plain socket with the same descriptor, to use instead of this one after NotTLSError."""
        sock = socket.socket(fileno=self._sock.detach())
        sock.setblocking(False)
        return adopt(sock)

    def recv(self, size: int) -> bytes:
        """Returns at most `size` bytes or a whole record, whichever is more; b"" when the peer has finished sending.

        A record of 16 KiB is returned as a whole even if `size` is less, since the rest of it would stay here
        decrypted, where the poller does not see it.
        """
        try:
            return self._sock.recv(max(size, _RECORD_SIZE))
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLEOFError:
            return self._cut_off()
        except ssl.SSLError as error:
            # SSLWantWriteError is a failure as well: the client asked for new keys (RFC 8446 §4.6.3), and does not
            # receive what we send. Waiting until the socket is readable would spin while there is more to read.
            raise self._failure(error) from None

    def _cut_off(self) -> bytes:
        """The peer has ended its side without close_notify. Clients do that, and still want their responses."""
        return b""

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """Encrypts and sends `data`, and returns how many bytes of it were taken.

        OpenSSL has begun a record with what was not taken: the next call must start with the same bytes, perhaps with
        more after them.

        Args:
            data: at most 512 KiB of it are taken in one call.
            flags: ignored; they are for plain sockets. A record is sent at once anyway.
        """
        size = min(len(data), _MAX_PER_TURN)
        view = memoryview(data)
        sent = 0
        try:
            while sent < size:  # record by record: of a larger call OpenSSL reports nothing before all of it was sent
                sent += self._sock.send(view[sent : sent + _RECORD_SIZE])
        except ssl.SSLWantWriteError:
            if not sent:
                raise BlockingIOError from None
        except ssl.SSLError as error:  # SSLWantReadError as well: half a message about new keys came
            raise self._failure(error) from None
        return sent

    def sendfile(self, fd: int, offset: int, count: int) -> int:
        """Sends bytes of a file, as os.sendfile() does, and returns how many; 0 at the end of the file.

        The bytes pass through this process, a few records at a time: the kernel does not have the keys.
        """
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
        """Sends close_notify (RFC 8446 §6.1), so that the client can tell the end from a truncation, and then shuts the
        socket down.

        Raises:
            BlockingIOError: there is no room for close_notify yet.
        """
        if self._notice:
            self.finish()
        if self._may_notify:
            try:
                self._sock.unwrap()
            except ssl.SSLWantWriteError:
                raise BlockingIOError from None
            except ssl.SSLWantReadError:
                # close_notify was sent. unwrap() would wait for the client's; but `recv` can tell that from a request,
                # so only the socket is shut down here, and reading goes on.
                self._may_notify = False
                socket.socket.shutdown(self._sock, how)
                return
            except (OSError, ValueError):  # other records came instead, or the client is gone
                pass
            self._may_notify = False
        self._sock.shutdown(how)  # from here on, bytes are read as they come, without decryption

    def finish(self) -> None:
        """Closes the sending side, as `shutdown` does, and goes on receiving content (RFC 8446 §6.1). May be called
        again after BlockingIOError.

        Raises:
            BlockingIOError: there is no room for close_notify yet.
            OSError: the client is gone.
        """
        if self._may_notify:
            self._may_notify = False
            self._notice = self._encrypt_close_notify()
        while self._notice:
            self._notice = self._notice[socket.socket.send(self._sock, self._notice) :]
        socket.socket.shutdown(self._sock, socket.SHUT_WR)

    def _encrypt_close_notify(self) -> bytes:
        """Makes OpenSSL believe that close_notify was sent, and returns its bytes.

        The only way to do that in Python is `unwrap`, which calls SSL_shutdown() twice. The second call reads, and if
        the client has sent content meanwhile, OpenSSL discards it and fails. So for this moment the descriptor is that
        of another socket, from which nothing can be read; what is written there is what the client has to get. The
        poller does not notice, since it knows the connection by its open file, and that stays open.
        """
        fd = self._sock.fileno()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            kept = os.dup(fd)
            try:
                os.dup2(ours.fileno(), fd, inheritable=False)
                try:
                    self._sock.unwrap()
                except ssl.SSLWantReadError:
                    pass
                finally:
                    os.dup2(kept, fd, inheritable=False)
            finally:
                os.close(kept)
            return theirs.recv(_RECORD_SIZE)

    def fileno(self) -> int:
        return self._sock.fileno()

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        if option == socket.SO_LINGER:  # a reset follows: close_notify would declare a truncated response complete
            self._may_notify = False
        self._sock.setsockopt(level, option, value)

    def close(self) -> None:
        """Closes the connection, after close_notify if that can be sent."""
        if self._may_notify:
            self._may_notify = False
            try:
                self._sock.unwrap()
            except (OSError, ValueError):
                pass
        self._sock.close()

    def _failure(self, error: ssl.SSLError) -> ConnectionError:
        """Returns `error` as the exception of a plain socket. Nothing more can be sent afterwards."""
        self._may_notify = False
        return ConnectionAbortedError(str(error))


class ClientTLSSocket(TLSSocket):
    """The client's end of a TLS connection, which the proxy uses."""

    __slots__ = ()

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        """Wraps `sock`, which is connected and does not block.

        Args:
            sock: the socket.
            context: how certificates are verified.
            host: the name that the certificate must be for, which is also sent (SNI, RFC 6066 §3).
        """
        self._sock = context.wrap_socket(
            sock, server_side=False, server_hostname=host or None, do_handshake_on_connect=False
        )
        self.has_begun = True  # a client speaks first
        self._may_notify = False
        self.must_write = False

    def _cut_off(self) -> bytes:
        """A response that is delimited by the end of the connection may have been cut off by somebody in between (RFC
        8446 §6.1, RFC 9112 §9.8)."""
        raise MissingCloseNotifyError(0, "it closed the connection without close_notify")
