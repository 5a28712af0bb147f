"""Wakeup: a descriptor that other threads make readable, so that a sleeping reactor wakes.

Knows one socket pair. Does not know what the reactor is woken for.
"""

from __future__ import annotations

import socket

__all__ = ["Wakeup"]


class Wakeup:
    """A channel of the reactor that becomes ready when `wake` is called, from any thread or from a signal handler.

    Many threads that wake the reactor at once cost one byte. `_is_awake` is set before the byte is sent, and cleared
    after it was received: a thread that finds it set knows that the reactor has yet to look at what it was woken for.
    """

    __slots__ = ("_is_awake", "_receiver", "_sender")

    def __init__(self) -> None:
        self._is_awake = False
        # A pair of sockets, not a pipe: a pipe cannot be polled on every system (Windows has select() for sockets
        # only).
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def fileno(self) -> int:
        """The descriptor that becomes readable."""
        return self._receiver.fileno()

    def signal_fileno(self) -> int:
        """The descriptor that wakes the reactor when a byte is written to it, for `signal.set_wakeup_fd`."""
        return self._sender.fileno()

    def wake(self) -> None:
        """Makes the descriptor readable. Never blocks."""
        if self._is_awake:
            return
        self._is_awake = True
        try:
            self._sender.send(b"\0")
        except OSError:
            pass  # the buffer is full, so the descriptor is readable already; or the reactor is closed

    def ready(self, events: int) -> None:
        try:
            while len(self._receiver.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        self._is_awake = False

    def close(self) -> None:
        self._receiver.close()
        self._sender.close()
