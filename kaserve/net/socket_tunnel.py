"""SocketTunnel: a tunnel whose owner is code in another thread, which has a blocking socket.

Knows the pair of sockets, and how bytes get from one to the other at the speed of the slower side. Does not know whose
code it is, nor what that sends before the tunnel is open, which is for `on_begin` to look at. Programs that take over
the socket of a request, as WebSocket libraries for WSGI do, expect a real `socket.socket`. They cannot get that of the
client: TLS, the deadlines, the statistics and a graceful shutdown would not apply to it, and the server could not tell
when it is closed. So they get one end of a pair, and the reactor moves the bytes.

    the other thread -- socket  ===  near end -- SocketTunnel -- TunnelConnection -- the client
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

from ..http.tunnel import Tunnel, TunnelConnection
from .poller import NOTHING, READ, WRITE
from .reactor import Reactor

__all__ = ["SocketTunnel"]

_READ_SIZE = 32 * 1024
# How often in a turn the rest of what the other thread has sent is read, after it has ended.
_MAX_READS_PER_TURN = 16


class _LentSocket(socket.socket):
    """The other thread's end. It is closed when nothing refers to it any more, and without a warning: code that got its
    socket from a server leaves it to the server to close it, which must not, while another thread may be reading it."""

    __slots__ = ()

    def __del__(self) -> None:
        self.close()


def _do_nothing() -> None:
    pass


class SocketTunnel(Tunnel):
    """Bytes between a client and a socket. Made in any thread; its methods are called in the reactor's.

    Attributes:
        begun: what the other thread has sent before the tunnel was open. When it opens, `rest` is sent in place of it.
        has_ended: whether the other thread has closed the socket before the tunnel was open.
        rest: see `begun`.
        is_over: whether the other thread finds its socket at its end, whatever it does.
    """

    def __init__(self, reactor: Reactor, on_begin: Callable[[], object]) -> None:
        """Makes the sockets; `start` follows.

        Args:
            reactor: the loop that moves the bytes.
            on_begin: called when there is more in `begun`, or `has_ended` is set, until `hold` is called.

        Raises:
            OSError: the system has no descriptor left.
        """
        self._near, far = socket.socketpair()
        self._near.setblocking(False)
        self._lent: socket.socket | None = _LentSocket(fileno=far.detach())
        self._lent.settimeout(None)  # whatever socket.setdefaulttimeout() says
        self._reactor = reactor
        self._on_begin = on_begin
        self._connection: TunnelConnection | None = None
        self._interest = NOTHING
        self._unsent = b""  # from the client, and not accepted by the kernel yet
        self._client_has_ended = False
        self._has_returned = self._has_failed = False
        self.begun = self.rest = b""
        self.has_ended = False
        self.is_over = False

    def lend(self) -> socket.socket:
        """Returns the socket for the other thread, once: from then on it is closed when that does not refer to it any
        more. It blocks, and has no timeout. When the client has finished sending, it is at its end; shutting it down
        for sending, or closing it, finishes in the other direction."""
        lent, self._lent = self._lent, None
        assert lent is not None
        return lent

    def start(self) -> None:
        """Waits for the first bytes of the other thread."""
        if not self.is_over:
            self._watch(READ)

    def look(self) -> None:
        """Before the tunnel opens: reads what the other thread has sent by now."""
        if not self.is_over and self._connection is None and not self.has_ended:
            self._read()

    def hold(self) -> None:
        """What is in `begun` suffices: nothing more is read before the tunnel opens."""
        if not self.is_over:
            self._watch(NOTHING)

    def finish(self) -> None:
        """The other thread is done. What it has sent goes to the client; then the connection ends."""
        self._has_returned = True
        if self.has_ended and self._connection is not None:
            self._connection.close()
        elif self._interest & READ:
            self._read()

    def fail(self) -> None:
        """The other thread has failed: the client must not take what it has for the whole."""
        self._has_failed = True
        if self._connection is not None:
            self._connection.reset()

    def abandon(self) -> None:
        """There will be no tunnel, or no longer: the other thread's socket is at its end. May be called again."""
        if self.is_over:
            return
        self.is_over = True
        self._connection = self._lent = None
        self._on_begin = _do_nothing
        self._watch(NOTHING)
        with suppress(OSError):
            self._near.shutdown(socket.SHUT_RDWR)
            while self._near.recv(_READ_SIZE):  # unread bytes would make it a reset
                pass
        self._near.close()

    # As a tunnel.

    def opened(self, connection: TunnelConnection) -> None:
        if self.is_over or self._has_failed:
            connection.reset()
            return
        self._connection = connection
        rest, self.rest = self.rest, b""
        if connection.write(rest):
            self.drained()
        if self.has_ended:
            self._end()

    def received(self, data: bytes) -> None:
        self._unsent += data
        self._send()

    def ended(self) -> None:
        self._client_has_ended = True
        self._send()

    def drained(self) -> None:
        if not self.has_ended:
            self._watch(self._interest | READ)
            if self._has_returned:
                self._read()

    def closed(self) -> None:
        self.abandon()

    # As a channel of the reactor.

    def ready(self, events: int) -> None:
        """The near end is ready for `events`."""
        if events & self._interest & WRITE:
            self._send()
        if events & self._interest & READ:
            self._read()

    def _watch(self, events: int) -> None:
        self._reactor.watch(self._near.fileno(), self, self._interest, events)
        self._interest = events

    def _read(self) -> None:
        """Takes what the other thread has sent: once in a turn or, if it is done, up to the end of it."""
        for _ in range(_MAX_READS_PER_TURN if self._has_returned else 1):
            try:
                data = self._near.recv(_READ_SIZE)
            except (BlockingIOError, InterruptedError):
                if self._has_returned and self._connection is not None:
                    self._connection.close()
                return
            except OSError:  # it was closed with something unread
                data = b""
            if not self._pass_on(data):
                return

    def _pass_on(self, data: bytes) -> bool:
        """Passes on what the other thread has sent, or its end (b""). Returns True if more can be read."""
        connection = self._connection
        self.has_ended = self.has_ended or not data
        if connection is None:
            self.begun += data
            if not data:
                self._watch(NOTHING)
            self._on_begin()
            return False
        if data and connection.write(data):
            return True
        self._watch(self._interest & ~READ)
        if not data:
            self._end()
        return False

    def _end(self) -> None:
        """The other thread has closed its socket, for sending at least."""
        assert self._connection is not None
        if self._has_returned:
            self._connection.close()
        else:
            self._connection.finish()

    def _send(self) -> None:
        """Sends on to the other thread. If it does not keep up, the client has to wait."""
        if self.is_over:
            return
        try:
            if self._unsent:
                self._unsent = self._unsent[self._near.send(self._unsent) :]
            if not self._unsent and self._client_has_ended:
                self._near.shutdown(socket.SHUT_WR)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # the other thread has closed its socket: it does not want any of this
            self._unsent = b""
            if self._connection is not None:
                self._connection.close()
        self._keep_pace()

    def _keep_pace(self) -> None:
        waits = self._interest & WRITE != 0
        if self._connection is None or waits == bool(self._unsent):
            return
        if waits:
            self._watch(self._interest & ~WRITE)
            self._connection.resume()
        else:
            self._watch(self._interest | WRITE)
            self._connection.pause()
