"""UpstreamConnection: one connection to an upstream, and its phases.

Knows its socket, what it waits for and until when, and what arrives: it hands that to its user, a request that is being
passed on. Does not know where the request comes from, nor what may be sent again after a failure.

Phases
======

    CONNECTING -> [HANDSHAKE] -> ACTIVE <-> IDLE, ACTIVE -> TUNNEL, and CLOSED from each of them

CONNECTING, HANDSHAKE   The connect timeout counts. A user waits for the connection.
ACTIVE                  A request is being passed on. Both directions are open at once, unlike on the side of the
                        clients: an upstream may respond before it has read the request, and its response is what tells
                        that it will not read the rest. A deadline counts while the upstream is waited for.
IDLE                    In the pool. A byte or an end that comes now closes the connection; so does its limit.
TUNNEL                  A 101 has come: the bytes are another protocol's, and their user is a `Relay`. The deadline is
                        that of the client's connection.
CLOSED                  The socket is closed, and the user knows.

**Reading is asked for.** While nobody wants to read, nothing is read, so that a fast upstream fills the buffers of the
kernel and not ours. The descriptor stays registered for reading nevertheless, since most responses are read at once:
only if bytes come while nobody wants them does `ready` stop watching, until somebody asks again. So a small exchange
costs no call of the poller at all.

**A connection is checked before it is used** (`is_alive`): the upstream may have closed it in this very turn. What is
read then is an end or stray bytes, and either means that the connection is not usable.
"""

from __future__ import annotations

import enum
import os
import socket
import ssl
import struct
from math import inf
from typing import Any, Protocol

from ..http.keep_alive import read_max, read_timeout
from ..http.limits import Limits
from ..http.response_parser import ResponseParser
from ..http.responses import BadResponse, ResponseHead
from ..net.failures import log_current_exception
from ..net.poller import NOTHING, READ, WRITE
from ..net.reactor import Reactor
from ..net.sockets import PlainSocket, adopt, enable_keepalive
from ..net.timerwheel import Timer
from ..net.tls import ClientTLSSocket, MissingCloseNotifyError
from .connector import Address, Connector
from .failure import Cause, UpstreamFailure, describe_error, describe_handshake_error
from .location import UpstreamURL
from .settings import UpstreamSettings, UpstreamStats

__all__ = ["Phase", "UpstreamConnection", "UpstreamUser"]

_READ_SIZE = 64 * 1024  # bytes
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST, and discards what was not sent


class Phase(enum.IntEnum):
    """Where a connection is; see above."""

    CONNECTING = 0
    HANDSHAKE = 1
    ACTIVE = 2
    IDLE = 3
    TUNNEL = 4
    CLOSED = 5


CONNECTING, HANDSHAKE, ACTIVE, IDLE, TUNNEL, CLOSED = Phase


class ConnectionOwner(Protocol):
    """What a connection knows of its `Upstream`.

    Attributes:
        url: where it is.
        name: the same, for logs.
        settings: the time limits.
        tls: for https; None for plain HTTP.
        connector: makes sockets.
        stats: its counters.
    """

    url: UpstreamURL
    name: str
    settings: UpstreamSettings
    tls: ssl.SSLContext | None
    connector: Connector
    stats: UpstreamStats

    def connected(self) -> None:
        """The connection was opened."""

    def keep(self, connection: UpstreamConnection, /) -> None:
        """It has become idle: keeps or closes it."""

    def closed(self, connection: UpstreamConnection, /) -> None:
        """It is closed."""

    def closed_idle(self, connection: UpstreamConnection, idle: float, /) -> None:
        """The upstream has closed it when it had been idle for so many seconds, before a request was sent on it."""

    def race_lost(self, connection: UpstreamConnection, idle: float, /) -> None:
        """The upstream has closed it, idle for so many seconds before, while a request was sent on it."""


class AnyUser(Protocol):
    """Whose bytes are on the connection. None of the methods is called from within a call of the user's own, but for
    `failed`, which `send` may cause."""

    def sent(self) -> None:
        """The kernel has accepted everything that was sent, after `send` returned False."""

    def failed(self, failure: UpstreamFailure) -> None:
        """The connection is closed, for a reason that concerns the request."""


class UpstreamUser(AnyUser, Protocol):
    """Whose request is on the connection."""

    def connected(self) -> None:
        """The connection is open: the request can be sent."""

    def head_arrived(self, head: ResponseHead) -> None:
        """A head, of an interim response or the final one."""

    def body_arrived(self) -> None:
        """After `want_body`: there is something to read, or the end."""


class TunnelUser(AnyUser, Protocol):
    """Whose connection it is in TUNNEL. There `sent` is also called when it turns out that no more can be sent."""

    def bytes_arrived(self) -> None:
        """After `want_bytes`: there is something to read, or the end."""


_NOBODY, _HEAD, _BODY = range(3)  # what the user waits for


class UpstreamConnection(Timer):
    """One connection to an upstream.

    Attributes:
        upstream: which one.
        parser: the responses.
        phase: see the top of this module.
        user: whose request is on it; None in IDLE, TUNNEL and CLOSED.
        carried: requests that were sent on it.
        bytes_sent: bytes of the present request that the kernel has accepted.
        announced: seconds for which the upstream says that it keeps an idle connection; None if it does not say.
        idle_from: reactor time since which it is idle.
    """

    __slots__ = (
        "_addresses",
        "_awaits_response",
        "_fin_waits",
        "_has_response",
        "_idle_before",
        "_interest",
        "_may_send",
        "_reactor",
        "_sock",
        "_tunnel",
        "_unsent",
        "_wants",
        "announced",
        "bytes_sent",
        "carried",
        "idle_from",
        "more",
        "parser",
        "phase",
        "upstream",
        "user",
    )

    def __init__(self, upstream: ConnectionOwner, reactor: Reactor, user: UpstreamUser, limits: Limits) -> None:
        """Makes a connection that is not open; `open` begins."""
        super().__init__()
        self.upstream = upstream
        self.parser = ResponseParser(limits)
        self.phase = CONNECTING
        self.user: UpstreamUser | None = user
        self.carried = 0
        self.bytes_sent = 0
        self.announced: int | None = None
        self.more: int | None = None  # requests that the upstream says it takes after this one; None for any number
        self.idle_from = 0.0
        self._idle_before = 0.0  # seconds for which it was idle before the present request
        self._reactor = reactor
        self._sock: socket.socket | PlainSocket | ClientTLSSocket | None = None
        self._addresses: list[Address] = []
        self._interest = NOTHING
        self._unsent: bytes | memoryview = b""
        self._may_send = True  # no send has failed
        self._wants = _NOBODY
        self._awaits_response = False  # the request was sent, so the time until the response is the upstream's
        self._has_response = False  # bytes of the response to the present request have come
        self._tunnel: TunnelUser | None = None  # whose connection it is in TUNNEL
        self._fin_waits = False  # TUNNEL: there was no room for close_notify

    # Opening: CONNECTING, HANDSHAKE.

    def open(self) -> None:
        """CONNECTING: finds out where the upstream is, and connects."""
        self._reactor.wheel.schedule(self, self._reactor.read_clock() + self.upstream.settings.connect_timeout)
        self.upstream.connector.resolve(self.upstream.url, self._reactor, self._resolved)

    def _resolved(self, found: list[Address] | OSError) -> None:
        """CONNECTING: the addresses are known, or why they are not."""
        if self.phase != CONNECTING or self._sock is not None:
            return
        if isinstance(found, OSError):
            self._fail(describe_error(found, "its name cannot be resolved"))
            return
        self._addresses = list(reversed(found))
        self._connect()

    def _connect(self) -> None:
        """CONNECTING: tries the next address."""
        while self._addresses:
            address = self._addresses.pop()
            try:
                sock = self.upstream.connector.connect(address)
            except OSError as error:
                if not self._addresses:
                    self._fail(describe_error(error, "cannot connect"))
                continue
            self._sock = sock
            self._watch(WRITE)
            return

    def _finish_connect(self) -> None:
        """CONNECTING: the socket is connected, or the attempt has failed; then the next address is tried."""
        sock: Any = self._sock
        number = self.upstream.connector.error_of(sock)
        if number:
            self._watch(NOTHING)
            sock.close()
            self._sock = None
            if self._addresses:
                self._connect()
            else:
                self._fail(describe_error(OSError(number, os.strerror(number)), "cannot connect"))
            return
        context = self.upstream.tls
        if context is None:
            self._sock = adopt(sock)
            self._opened()
        else:
            self._watch(NOTHING)  # the descriptor gets another owner
            self._sock = ClientTLSSocket(sock, context, self.upstream.url.host)
            self.phase = HANDSHAKE
            self._watch(WRITE)
            self._shake_hands()

    def _shake_hands(self) -> None:
        """HANDSHAKE: goes on with it."""
        sock = self._sock
        assert isinstance(sock, ClientTLSSocket)
        try:
            sock.handshake()
        except BlockingIOError:
            self._watch(WRITE if sock.must_write else READ)
        except OSError as error:
            self._fail(describe_handshake_error(error))
        else:
            self._opened()

    def _opened(self) -> None:
        """-> ACTIVE."""
        self.phase = ACTIVE
        self.deadline = inf
        self._watch(READ)
        self.upstream.connected()
        assert self.user is not None
        self.user.connected()

    # Using: ACTIVE.

    @property
    def can_send(self) -> bool:
        """Whether `send` may be called: the connection is open, and the kernel has accepted what was sent before."""
        return self.phase == ACTIVE and self._may_send and not self._unsent

    @property
    def is_request_sent(self) -> bool:
        """ACTIVE: whether the kernel has accepted all of the request."""
        return self._awaits_response and not self._unsent

    def begin(self, method: str, *, upgrade: bool) -> None:
        """ACTIVE: a request follows, whose response is expected."""
        self.parser.expect(method, upgrade=upgrade)
        self.carried += 1
        self.bytes_sent = 0
        self._wants = _HEAD
        self._awaits_response = self._has_response = False

    def send(self, data: bytes) -> bool:
        """ACTIVE, TUNNEL: sends `data`. Returns False if the kernel has not accepted all of it: then nothing more may
        be sent until the user's `sent` is called.

        If the connection turns out to be broken, `sent` is never called in ACTIVE. Instead what can be read is read:
        perhaps a response that came before the upstream closed, else the end, which is a failure.
        """
        if not self._may_send:
            return False
        self._unsent = data
        if self._flush():
            return True
        if self._may_send:
            self._watch(self._interest | WRITE)
        return False

    def _flush(self) -> bool:
        """Sends what is unsent. Returns whether all of it was accepted."""
        assert self._sock is not None
        data = self._unsent
        try:
            count = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError:
            self._may_send = False
            self._unsent = b""
            self._watch(READ if self.phase == ACTIVE else self._interest & ~WRITE)
            return False
        self.bytes_sent += count
        self.upstream.stats.sent += count
        if count == len(data):
            self._unsent = b""
            self._wait(self._awaits_response or self._wants == _BODY)
            return True
        self._unsent = memoryview(data)[count:]
        self._wait(True)
        return False

    def request_sent(self) -> None:
        """ACTIVE: all of the request was handed to `send`. From now on the upstream's time to respond counts."""
        self._awaits_response = True
        self._wait(True)

    def _wait(self, waits: bool) -> None:
        """Sets the deadline if the upstream is waited for, or else none."""
        if waits and self.phase == ACTIVE:
            self._reactor.wheel.schedule(self, self._reactor.read_clock() + self.upstream.settings.timeout)
        else:
            self.deadline = inf

    def read_body(self) -> bytes:
        """ACTIVE: returns what has come of the body; b"" if nothing has, or all of it was returned (`parser.complete`).

        Raises:
            UpstreamFailure: the body is malformed or cut off. The connection is closed.
        """
        try:
            data = self.parser.read_body()
            if not data and not self.parser.complete and self._receive():
                data = self.parser.read_body()
        except BadResponse as error:
            failure = UpstreamFailure(Cause.MALFORMED, f"its response is malformed: {error}")
            self.close()
            raise failure from None
        except OSError as error:
            self.close()
            reason = f"it cut its response off: {error.strerror or error}"
            raise UpstreamFailure(Cause.CLOSED, reason, has_response=True) from None
        return data

    def want_body(self) -> None:
        """ACTIVE: has `body_arrived` called when there is something to read."""
        self._wants = _BODY
        self._watch(self._interest | READ)
        self._wait(True)

    # After a 101: TUNNEL.

    def begin_tunnel(self, user: TunnelUser) -> None:
        """ACTIVE -> TUNNEL. Nothing is read before the first `read_bytes`."""
        assert self._sock is not None
        self.phase = TUNNEL
        self.user, self._tunnel = None, user
        self.deadline = inf
        self._watch(NOTHING)
        enable_keepalive(self._sock)

    @property
    def is_broken(self) -> bool:
        """TUNNEL: whether the upstream cannot be sent anything more. There may still be something to read."""
        return not self._may_send

    def read_bytes(self) -> bytes | None:
        """TUNNEL: returns bytes of the other protocol; b"" at their end, None if nothing has come. What comes later is
        not noticed before `want_bytes`.

        Raises:
            OSError: the connection was reset.
        """
        assert self._sock is not None
        self._watch(self._interest & ~READ)
        rest = self.parser.take_rest()
        if rest:
            return rest
        try:
            data = self._sock.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None
        except MissingCloseNotifyError:
            # What is spoken in a tunnel has an end of its own, if the end matters; and some servers just close.
            return b""
        self.upstream.stats.received += len(data)
        return data

    def want_bytes(self) -> None:
        """TUNNEL: has `bytes_arrived` called when there is something to read."""
        self._watch(self._interest | READ)

    def finish_sending(self) -> None:
        """TUNNEL: the client has finished sending, and the upstream has taken what it has sent. With TLS, close_notify
        comes first, for which there may be no room yet."""
        assert self._sock is not None
        self._fin_waits = False
        try:
            if isinstance(self._sock, ClientTLSSocket):
                self._sock.finish()
            else:
                self._sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            self._fin_waits = True
        except OSError:
            self._may_send = False
        self._watch(self._interest | WRITE if self._fin_waits else self._interest & ~WRITE)

    def reset(self) -> None:
        """TUNNEL: closes the connection with a reset: the upstream must not take what it has for the whole."""
        if self.phase != CLOSED and self._sock is not None:
            try:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            except OSError:  # it is gone already
                pass
        self.close()

    def release(self) -> None:
        """ACTIVE: the response was read to its end. Keeps the connection for the next request (IDLE), if it can be
        kept, else closes it."""
        parser = self.parser
        kept = (
            self._awaits_response  # else the rest of the request is still to be sent, and nobody would
            and self._may_send
            and not self._unsent
            and parser.persists
            and not parser.has_received()
            and self.more != 0
        )
        if not kept:
            self.close()
            return
        self.user = None
        self.phase = IDLE
        self._wants = _NOBODY
        self._watch(READ)
        self.idle_from = self._reactor.read_clock()
        self.upstream.keep(self)

    def reuse(self, user: UpstreamUser) -> bool:
        """IDLE -> ACTIVE, if the upstream has not closed the connection meanwhile; otherwise it is closed.

        The poller may not have reported that yet. So the socket is read, and nothing must be there.
        """
        if not self._is_alive():
            self._end_idle()
            return False
        self._idle_before = self._reactor.read_clock() - self.idle_from
        self.phase = ACTIVE
        self.deadline = inf
        self.user = user
        return True

    def wait_idle(self, until: float) -> None:
        """IDLE: closes the connection at `until`, in reactor time, unless it is used before."""
        self._reactor.wheel.schedule(self, until)

    def _is_alive(self) -> bool:
        """IDLE: whether nothing has come: neither an end nor bytes that no request has asked for."""
        assert self._sock is not None
        try:
            self._sock.recv(1)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        """Any phase: closes the connection. The user is not told, since it asked for it."""
        if self.phase == CLOSED:
            return
        self.phase = CLOSED
        self.user = self._tunnel = None
        self._reactor.wheel.cancel(self)
        if self._sock is not None:
            self._watch(NOTHING)
            self._sock.close()
        self.upstream.closed(self)

    # Called by the reactor and the timer wheel.

    def ready(self, events: int) -> None:
        """The socket is ready for `events`."""
        try:
            if self.phase == ACTIVE:
                if events & WRITE and self._unsent:
                    self._send_on()
                if events & READ and self.phase == ACTIVE:
                    self._read()
            elif self.phase == IDLE:
                if not self._is_alive():
                    self._end_idle()
            elif self.phase == TUNNEL:
                self._relay(events)
            elif self.phase == CONNECTING:
                self._finish_connect()
            elif self.phase == HANDSHAKE:
                self._shake_hands()
        except Exception:
            log_current_exception(f"a connection to {self.upstream.name} failed in phase {self.phase.name}")
            self._fail(UpstreamFailure(Cause.CLOSED, "a fault of this proxy"))

    def expired(self, now: float) -> None:
        """The deadline has passed."""
        if self.phase == IDLE:
            self.close()
        elif self.phase in (CONNECTING, HANDSHAKE):
            what = "connect" if self.phase == CONNECTING else "complete the TLS handshake"
            seconds = self.upstream.settings.connect_timeout
            detail = f"it did not {what} within {seconds:g} s"
            self._fail(UpstreamFailure(Cause.CONNECT_TIMEOUT, detail, is_unprocessed=True))
        elif self.phase == ACTIVE:
            what = "take the request" if self._unsent else "respond" if self._wants == _HEAD else "send on"
            detail = f"it did not {what} for {self.upstream.settings.timeout:g} s"
            self._fail(UpstreamFailure(Cause.TIMEOUT, detail))

    # What happens then.

    def _send_on(self) -> None:
        """ACTIVE: the kernel takes more."""
        if self._flush():
            self._watch(self._interest & ~WRITE)
            user = self.user or self._tunnel
            assert user is not None
            user.sent()

    def _relay(self, events: int) -> None:
        """TUNNEL: what can be sent is sent, and the user reads."""
        if events & WRITE:
            if self._fin_waits:
                self.finish_sending()
            elif self._unsent:
                self._send_on()
                if self.is_broken and self._tunnel is not None:
                    self._tunnel.sent()
        if events & READ and self._interest & READ:
            assert self._tunnel is not None
            self._tunnel.bytes_arrived()

    def _read(self) -> None:
        """ACTIVE: something has come."""
        assert self.user is not None
        if self._wants == _HEAD:
            self._read_heads()
        elif self._wants == _BODY:
            self._wants = _NOBODY
            self.deadline = inf
            self.user.body_arrived()
        else:
            self._watch(self._interest & ~READ)

    def _read_heads(self) -> None:
        """ACTIVE: reads what has come of the response's head, and of interim responses before it."""
        try:
            if not self._receive():
                return
            while self.phase == ACTIVE and self._wants == _HEAD:
                head = self.parser.read_head()
                if head is None:
                    return
                self._take_head(head)
        except BadResponse as error:
            self._fail(UpstreamFailure(Cause.MALFORMED, f"its response is malformed: {error}"))
        except OSError as error:
            self._fail(self._closed_early(error.strerror or str(error)))

    def _take_head(self, head: ResponseHead) -> None:
        assert self.user is not None
        if head.status >= 200 or head.status == 101:
            self._wants = _NOBODY
            self.deadline = inf
            self._read_keep_alive(head)
        else:
            self._wait(self._awaits_response)
        self.user.head_arrived(head)

    def _read_keep_alive(self, head: ResponseHead) -> None:
        """Remembers what the upstream announces about its connections."""
        self.announced = self.more = None
        for name, value in head.fields:
            if name == "keep-alive":
                self.announced, self.more = read_timeout(value), read_max(value)

    def _receive(self) -> bool:
        """ACTIVE: hands what has come to the parser, the upstream's end included. Returns False if nothing has.

        Raises:
            OSError: the connection was reset, or it ended before the first byte of a response.
        """
        assert self._sock is not None
        try:
            data = self._sock.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return False
        if data:
            self._has_response = True
            self.upstream.stats.received += len(data)
        elif not self._has_response:
            raise ConnectionResetError(0, "it closed the connection without a response")
        self.parser.receive(data)
        return True

    def _closed_early(self, reason: str) -> UpstreamFailure:
        """ACTIVE: the connection has ended before the response. Returns what that means."""
        if self._has_response:
            return UpstreamFailure(Cause.CLOSED, f"it cut its response off: {reason}", has_response=True)
        if self.carried > 1:
            self.upstream.race_lost(self, self._idle_before)
        return UpstreamFailure(Cause.CLOSED, reason, is_unprocessed=self.bytes_sent == 0)

    def _end_idle(self) -> None:
        """IDLE: the upstream has closed the connection, or has sent what nobody asked for."""
        self.upstream.closed_idle(self, self._reactor.read_clock() - self.idle_from)
        self.close()

    def _fail(self, failure: UpstreamFailure) -> None:
        """Closes the connection, and tells its user why."""
        user = self.user or self._tunnel
        self.close()
        if user is not None:
            user.failed(failure)

    def _watch(self, events: int) -> None:
        if events != self._interest:
            assert self._sock is not None
            self._reactor.watch(self._sock.fileno(), self, self._interest, events)
            self._interest = events
